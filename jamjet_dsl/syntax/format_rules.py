"""The layout of each construct: where spaces stand, where a line may or must break, and what is aligned."""

from __future__ import annotations

from collections.abc import Callable

from jamjet_dsl.syntax.format_plan import NONE_AFTER, Columns, Group, Plan, Style
from jamjet_dsl.syntax.format_tree import Cst, Tree


def make_plan(tree: Tree) -> Plan:
    """The plan of a program. Inner constructs come first, so they own what is theirs."""
    plan = Plan(tree)
    for node in tree.nodes:
        rule = _RULES.get(node.name)
        if rule is not None:
            rule(plan, node)
    order = {id(group): i for i, group in enumerate(plan.groups)}
    plan.groups.sort(key=lambda g: (g.first, -g.last, -order[id(g)]))
    return plan


# ---- blocks


def _block(plan: Plan, opening: int, items: list[int], *, own_lines: bool, always: bool = False) -> None:
    """A `{ }` whose items begin at these tokens."""
    closing = plan.tree.match[opening]
    if opening + 1 == closing:
        plan.space[closing] = 0
    for item in items[1:]:
        plan.space[item] = 2
    made = plan.bracket(Style.BLOCK, opening, items)
    if made:
        made.always = always and bool(items)
    if own_lines:
        plan.must.update(items)


def _ending_block(own_lines: bool, always: bool = False) -> Callable[[Plan, Cst], None]:
    """A construct that ends with a block of nodes."""

    def rule(plan: Plan, node: Cst) -> None:
        opening = plan.tree.match[node.last]
        items = [kid.first for kid in node.nodes() if kid.first > opening]
        _block(plan, opening, items, own_lines=own_lines, always=always)

    return rule


_shared_lines = _ending_block(own_lines=False)
_own_lines = _ending_block(own_lines=True)
_never_inline = _ending_block(own_lines=True, always=True)


def _start(plan: Plan, node: Cst) -> None:
    items = [kid.first for kid in node.nodes()]
    end = len(plan.tree.tokens) - 1
    made = Group(Style.BLOCK, 0, end, [*items[1:], end], 0)
    made.always = True
    for gap in made.gaps:
        plan.owner[gap] = made
    plan.must.update(items)
    plan.groups.append(made)


def _record(plan: Plan, node: Cst) -> None:
    _shared_lines(plan, node)
    plan.columns[node.first] = Columns("record", node.last, (node.first + 1, plan.tree.match[node.last]))


def _enum(plan: Plan, node: Cst) -> None:
    opening = plan.tree.match[node.last]
    _block(plan, opening, [word for word in node.words() if word > opening], own_lines=False)
    plan.columns[node.first] = Columns("record", node.last, (node.first + 1, opening))


def _final(plan: Plan, node: Cst) -> None:
    _shared_lines(plan, node)
    plan.columns[node.first] = Columns("final", node.last, (node.first + 1, plan.tree.match[node.last]))


def _state(plan: Plan, node: Cst) -> None:
    _own_lines(plan, node)


def _branch(plan: Plan, node: Cst) -> None:
    _own_lines(plan, node)


def _tool(plan: Plan, node: Cst) -> None:
    _parameters(plan, node)
    opening = plan.tree.match[node.last]
    clauses = [kid for kid in node.nodes() if kid.first > opening]
    items = _with_retries(plan, clauses)
    for first, last in items:
        plan.columns[first] = Columns("clause", last, (first + 1,))
    _block(plan, opening, [first for first, _ in items], own_lines=False)


_RETRY_PARTS = frozenset({"backoff", "max_delay", "jitter"})


def _with_retries(plan: Plan, nodes: list[Cst]) -> list[tuple[int, int]]:
    """The first and last tokens of clauses or options, a retry and the parts that follow it as one."""
    items: list[tuple[int, int]] = []
    parts: list[int] = []
    for node in [*nodes, None]:
        if node is not None and node.name in _RETRY_PARTS and items and plan.text(items[-1][0]) == "retry":
            items[-1] = (items[-1][0], node.last)
            parts.append(node.first)
            continue
        if parts:
            plan.group(Style.FLOW, *items[-1], parts)
            parts = []
        if node is not None:
            items.append((node.first, node.last))
    return items


def _field(plan: Plan, node: Cst) -> None:
    plan.columns[node.first] = Columns("field", node.last, (node.first + 2,))


def _assign(plan: Plan, node: Cst) -> None:
    plan.columns[node.first] = Columns("assign", node.last, (node.first + 1,))


def _member(plan: Plan, node: Cst) -> None:
    plan.columns[node.first] = Columns("member", node.last, (node.first + 1,))


def _listed_member(plan: Plan, node: Cst) -> None:
    _member(plan, node)
    params = node.nodes()[0]
    plan.group(Style.FLOW, node.first, node.last, [kid.first for kid in params.nodes()[1:]], 7)


def _message(plan: Plan, node: Cst) -> None:
    _member(plan, node)
    _parameters(plan, node)


def _parameters(plan: Plan, node: Cst) -> None:
    """The parentheses after the name of a tool, a function, an event or a message."""
    opening = node.first + 2
    plan.space[opening] = 0
    params = next((kid for kid in node.nodes() if kid.name == "params"), None)
    if params is not None and params.first == opening + 1:
        plan.bracket(Style.EACH, opening, [kid.first for kid in params.nodes()])


def _import(plan: Plan, node: Cst) -> None:
    opening = node.first + 1
    closing = plan.tree.match[opening]
    plan.bracket(Style.FILL, opening, [opening + 1, *plan.after_commas(opening + 1, closing)])


def _defined(plan: Plan, node: Cst) -> None:
    """`const` and `fn`: what follows `=` may go to a line of its own."""
    if node.name == "fn":
        _parameters(plan, node)
    plan.group(Style.FLOW, node.first, node.last, [plan.keyword_before(node.nodes()[-1]) + 1])


# ---- policy, checks, tests


def _commas(plan: Plan, node: Cst) -> None:
    plan.group(Style.FLOW, node.first, node.last, plan.after_commas(node.first, node.last))


def _rule(plan: Plan, node: Cst) -> None:
    """A rule of a policy may break before `before`, `after`, `when` and `without`."""
    gaps = [plan.keyword_before(kid) for kid in node.nodes()[1:]]
    if node.name == "require_ask" or node.name == "require_people":
        sets = next(kid for kid in node.nodes() if kid.name == "tool_set")
        gaps.append(sets.first - 1)
    if node.name == "allow" and plan.text(node.last - 1) == "because":
        gaps.append(node.last - 3)
    plan.group(Style.FLOW, node.first, node.last, gaps)


def _mock(plan: Plan, node: Cst) -> None:
    plan.group(Style.FLOW, node.first, node.last, [plan.keyword_before(kid) for kid in node.nodes()[1:]])


# ---- actions


def _action(plan: Plan, node: Cst) -> None:
    """Options go on lines of their own, two spaces apart, once the action breaks."""
    head = {"call": 1, "call_with": 1, "think": 1, "run": 1, "wait_for": 1, "wait_until": 1}.get(node.name, 0)
    gaps = []
    if node.name == "think" and node.words():
        gaps.append(node.words()[0] - 1)  # `in chat`
    options = [first for first, _ in _with_retries(plan, node.nodes()[head:])]
    made = plan.group(Style.FLOW, node.first, node.last, gaps + options)
    if made:
        made.wide = True
        if node.name == "think" and options:
            made.lead = options[0]


def _ask(plan: Plan, node: Cst) -> None:
    gaps = []
    lead = -1
    for kid in node.nodes():
        if kid.name == "tcall" or kid.name == "proposed":
            gaps.append(kid.first - 1)  # its `to`
        else:
            gaps.append(kid.first)
            lead = kid.first if lead < 0 and kid.name != "text" else lead
    made = plan.group(Style.FLOW, node.first, node.last, gaps)
    if made:
        made.wide = True
        made.lead = lead


def _each(plan: Plan, node: Cst) -> None:
    opening = plan.token_after(node.nodes()[0])
    while plan.text(opening) != "{":
        opening += 1
    closing = plan.tree.match[opening]
    body = next((kid for kid in node.nodes() if kid.name == "body"), None)
    items = [kid.first for kid in body.nodes()] if body is not None else []
    _block(plan, opening, items, own_lines=True)
    plan.group(Style.FLOW, closing, node.last, [kid.first for kid in node.nodes() if kid.first > closing])


def _answer(plan: Plan, node: Cst) -> None:
    _shared_lines(plan, node)


def _optional(plan: Plan, node: Cst) -> None:
    """A `?` that marks what stands before it."""
    for word in node.words():
        if plan.text(word) == "?":
            plan.space[word] = 0


def _event(plan: Plan, node: Cst) -> None:
    name = node.words()[0]
    if plan.text(name + 1) == "(":
        plan.space[name + 1] = 0
    if node.name == "wait_event":
        _action(plan, node)


# ---- edges


def _edge(plan: Plan, node: Cst) -> None:
    """An edge breaks before its arrow, and before its limit; the braces of its `set` clauses break by themselves."""
    target = node.nodes()[-1]
    if node.name == "when":
        # The rest of a guard that breaks stands out against the arrow that follows.
        guard = node.nodes()[0]
        for group in reversed(plan.groups):
            if group.first < guard.first:
                break
            if group.first == guard.first and group.last == guard.last and not group.closed:
                group.delta = 4
    last = target.last
    if target.name == "goto":
        if plan.text(last) == "}":
            last = plan.tree.match[last]
        if last >= target.first + 2 and plan.text(target.first + 2) == "limit":
            plan.group(Style.FLOW, target.first, last, [target.first + 2])
        if node.name != "always":
            plan.columns[node.first] = Columns("edge", node.last, (target.first,))
    if node.name != "always":
        made = plan.group(Style.EACH, node.first, last, [target.first])
        if made:
            made.rigid = True


def _goto(plan: Plan, node: Cst) -> None:
    if plan.text(node.last) == "}":
        opening = plan.tree.match[node.last]
        sets = next((kid for kid in node.nodes() if kid.name == "sets"), None)
        _block(plan, opening, [kid.first for kid in sets.nodes()] if sets else [], own_lines=False)


def _arrow(plan: Plan, node: Cst) -> None:
    plan.columns[node.first] = Columns("edge", node.last, (node.last - 1,))


# ---- types and expressions


def _type(plan: Plan, node: Cst) -> None:
    _optional(plan, node)


def _type_arguments(plan: Plan, node: Cst) -> None:
    for i in (node.first, node.first + 1, node.last):
        plan.space[i] = 0


def _prefix(plan: Plan, node: Cst) -> None:
    plan.space[node.first + 1] = 0


def _root(plan: Plan, node: Cst) -> None:
    """`.name` stands like a name."""
    plan.space[node.first] = 0 if plan.text(node.first - 1) in NONE_AFTER else 1


_LEVELS = {"||": 1, "&&": 2, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5}


def _binary(plan: Plan, node: Cst) -> None:
    """Operators of one level that follow each other make one group: it breaks before each of them."""
    operator = node.words()[0]
    plan.space[operator] = 1
    level = _LEVELS.get(plan.text(operator), 3)
    left = node.kids[0]
    if isinstance(left, Cst) and left.name == "binary" and left.first == node.first:
        before = left.words()[0]
        group = plan.owner[before]
        if group is not None and _LEVELS.get(plan.text(before), 3) == level and group.first == node.first:
            group.gaps.append(operator)
            group.last = node.last
            plan.owner[operator] = group
            return
    plan.group(Style.EACH, node.first, node.last, [operator])


def _cond(plan: Plan, node: Cst) -> None:
    kids = node.nodes()
    question, colon = plan.token_after(kids[0]), plan.token_after(kids[1])
    plan.space[question] = plan.space[colon] = 1
    plan.group(Style.EACH, node.first, node.last, [question, colon])


def _call(plan: Plan, node: Cst) -> None:
    plan.space[node.first + 1] = 0
    _arguments(plan, node.first + 1, [arg for kid in node.nodes() if kid.name == "args" for arg in kid.nodes()])


def _method(plan: Plan, node: Cst) -> None:
    opening = node.words()[0] + 1
    plan.space[opening] = 0
    _arguments(plan, opening, node.nodes()[1:])


def _arguments(plan: Plan, opening: int, args: list[Cst]) -> None:
    if len(args) == 1 and _only(args[0]) in ("map_", "list_"):
        return  # the brackets of the argument break, and the parentheses hug them
    if args:
        closing = plan.tree.match[opening]
        plan.bracket(Style.EACH, opening, [opening + 1, *plan.after_commas(opening + 1, closing - 1)])


def _only(node: Cst) -> str:
    """The name of a node, that of its expression if it is an argument by position."""
    while node.name == "arg":
        inner = node.nodes()
        if len(inner) != 1 or inner[0].first != node.first:
            break
        node = inner[0]
    return node.name


def _index(plan: Plan, node: Cst) -> None:
    plan.space[plan.tree.match[node.last]] = 0


def _list(plan: Plan, node: Cst) -> None:
    items = node.nodes()
    if not items or (len(items) == 1 and items[0].name in ("map_", "list_")):
        return
    simple = all(item.first == item.last for item in items)
    style = Style.FILL if simple else Style.EACH
    plan.bracket(style, node.first, [node.first + 1, *plan.after_commas(node.first + 1, node.last - 1)])


def _map(plan: Plan, node: Cst) -> None:
    if node.first + 1 == node.last:
        plan.space[node.last] = 0
        return
    plan.bracket(Style.EACH, node.first, [node.first + 1, *plan.after_commas(node.first + 1, node.last - 1)])


_RULES: dict[str, Callable[[Plan, Cst], None]] = {
    "start": _start,
    "import_": _import,
    "record": _record,
    "field": _field,
    "enum": _enum,
    "const": _defined,
    "fn": _defined,
    "type": _type,
    "targs": _type_arguments,
    "tool": _tool,
    "model": _shared_lines,
    "agent": _never_inline,
    "input": _listed_member,
    "output": _listed_member,
    "var": _member,
    "event": _message,
    "emits": _message,
    "handler": _arrow,
    "finally_": _own_lines,
    "migration": _own_lines,
    "migrate_state": _arrow,
    "budget": _shared_lines,
    "reserve": _shared_lines,
    "policy": _own_lines,
    "fact": _rule,
    "allow": _rule,
    "forbid": _rule,
    "require_any": _rule,
    "require_read": _rule,
    "require_ask": _rule,
    "require_people": _rule,
    "never": _rule,
    "names": _commas,
    "tool_set": _commas,
    "limits": _commas,
    "redact": _commas,
    "given": _commas,
    "show": _commas,
    "options": _commas,
    "state": _state,
    "parallel": _never_inline,
    "branch": _branch,
    "final": _final,
    "assign": _assign,
    "call": _action,
    "call_with": _action,
    "call_proposed": _action,
    "call_approved": _action,
    "think": _action,
    "run": _action,
    "wait_for": _action,
    "wait_until": _action,
    "wait_event": _event,
    "on_event": _event,
    "ask": _ask,
    "each": _each,
    "answer": _answer,
    "given_path": _optional,
    "show_item": _optional,
    "always": _edge,
    "when": _edge,
    "otherwise": _edge,
    "on": _edge,
    "goto": _goto,
    "test": _own_lines,
    "mock": _mock,
    "neg": _prefix,
    "not_": _prefix,
    "root_ident": _root,
    "binary": _binary,
    "cond": _cond,
    "tcall": _call,
    "fn_call": _call,
    "method": _method,
    "index": _index,
    "list_": _list,
    "map_": _map,
}
