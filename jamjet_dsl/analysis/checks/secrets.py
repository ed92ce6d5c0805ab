"""Secrets: values of type `secret T` must not reach a prompt, a person, a message or what does not declare them.

Types carry the secret: what is computed from one is one, unless it is a truth value. A record is secret as a
whole where it is shown as a whole and a field of it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from jamjet_dsl.analysis.checks.facts import intact_agents
from jamjet_dsl.analysis.model import AgentInfo, Analysis, FlowState, Type
from jamjet_dsl.analysis.typecheck_policy import is_principal
from jamjet_dsl.diagnostics.model import Diagnostic, Label
from jamjet_dsl.syntax import ast
from jamjet_dsl.syntax.node import Node

_LONGEST_PATH = 5


def check_secrets(analysis: Analysis) -> Iterator[Diagnostic]:
    """JAM411 of all agents."""
    records = _secret_records(analysis)
    for agent in intact_agents(analysis):
        secrets = Secrets(agent, analysis, records)
        for state in agent.all_states():
            yield from secrets.of_state(state)
        if agent.finally_ is not None:
            for action in ast.clauses(agent.finally_.body, ast.CallAction):
                yield from secrets.arguments(action.call.tool, action.call.args)
        for member in ast.clauses(agent.decl.members, ast.VarDecl):
            if member.init is not None:
                yield from secrets.stored(member.name, member.init)
        for policy in ast.clauses(agent.decl.members, ast.Policy):
            for rule in policy.rules:
                if isinstance(rule, ast.FactRule | ast.RequireReadRule):
                    yield from secrets.arguments(rule.call.tool, rule.call.args)
                for limit in rule.limits if isinstance(rule, ast.LimitRule) else ():
                    if isinstance(limit, ast.LimitTotal) and any(is_principal(per) for per in limit.per):
                        yield from secrets.shown(limit.amount, "in what all runs of the principal add up")
    yield from _of_declarations(analysis, Secrets(None, analysis, records))


def _of_declarations(analysis: Analysis, secrets: Secrets) -> Iterator[Diagnostic]:
    """Leaks in what belongs to no agent: the calls that tools declare, and what functions give."""
    for scope in analysis.files:
        for tool in ast.clauses(scope.program.items, ast.ToolDecl):
            for clause in tool.clauses:
                if isinstance(clause, ast.ConfirmClause | ast.UndoClause):
                    yield from secrets.arguments(clause.call.tool, clause.call.args)
        for fn in ast.clauses(scope.program.items, ast.FnDecl):
            where = f"the result of `{fn.name.text}`"
            yield from secrets.into(fn.body, analysis.types.get(fn.result), where, fn)


class Secrets:
    """Where secret values of one agent go."""

    def __init__(self, agent: AgentInfo | None, analysis: Analysis, records: dict[str, str]) -> None:
        self.agent = agent
        self.analysis = analysis
        self._records = records

    # ---- what is secret

    def part(self, type_: Type | None) -> str | None:
        """Which part of a value of this type is secret: "" for all of it, `ssn` or `applicant.ssn` for a field, or
        None."""
        if type_ is None:
            return None
        for name, field_type in type_.fields:
            inner = _first_secret(field_type, self._records)
            if inner is not None:
                return _joined(name, inner)
        return _first_secret(type_, self._records)

    def _fields(self, record: str) -> Iterator[tuple[str, Type]]:
        """The fields of a record; types name records, and a name means the same in all files that see it."""
        for scope in self.analysis.files:
            symbol = scope.names.get(record)
            if symbol is not None and isinstance(symbol.node, ast.RecordDecl):
                for field in symbol.node.fields:
                    type_ = self.analysis.types.get(field.type)
                    if type_ is not None:
                        yield field.name.text, type_
                return

    # ---- where it goes

    def of_state(self, state: FlowState) -> Iterator[Diagnostic]:
        """The leaks of one state."""
        match state.action:
            case ast.CallAction(call=call):
                yield from self.arguments(call.tool, call.args)
            case ast.RunAction(call=call):
                yield from self.arguments(call.tool, call.args)
            case ast.EmitAction(call=call):
                for arg in call.args:
                    yield from self.shown(arg.value, f"in the message `{call.tool.text}`")
            case ast.ThinkAction(text=text, chat=chat, options=options):
                yield from self._text(text, "in a prompt")
                if chat is not None:
                    yield from self._proposed(options)
                for option in ast.clauses(options, ast.GivenOpt):
                    for given in option.items:
                        yield from self.shown(given.expr, "in a prompt")
            case ast.AskAction(call=call, text=text, options=options):
                yield from self._text(text, "in a question to a person")
                if call is not None:
                    yield from self.arguments(call.tool, call.args)
                for show in ast.clauses(options, ast.ShowOpt):
                    for item in show.items:
                        yield from self._path(item.path, "in a question to a person")
        for clause in state.clauses:
            if isinstance(clause, ast.SetClause):
                yield from self.stored(clause.path, clause.value)
            elif isinstance(clause, ast.Edge):
                for part in clause.sets:
                    yield from self.stored(part.path, part.value)
        if isinstance(state.decl, ast.FinalDecl) and state.region.kind == "agent" and self.agent is not None:
            for assign in state.decl.assigns:
                output = self.agent.outputs.get(assign.name.text)
                if output is not None:
                    yield from self.into(assign.value, output.type, f"output `{output.name}`", output.node)

    def _proposed(self, options: tuple[Node, ...]) -> Iterator[Diagnostic]:
        """What a tool gives that a model may choose in a conversation is told to the model."""
        for name in (name for option in ast.clauses(options, ast.ToolsOpt) for name in option.tools):
            symbol = self.analysis.symbols.get(name)
            tool = symbol.node if symbol is not None else None
            result = tool.result if isinstance(tool, ast.ToolDecl) else None
            if result is not None and self.part(self.analysis.types.get(result)) is not None:
                yield Diagnostic(
                    "JAM411",
                    f"the secret that `{name.text}` gives would be told to the model",
                    name.span,
                    labels=(Label(result.span, "declared here"),),
                    why="the result of a call that a model proposed becomes part of the conversation",
                    help="offer the model a tool whose result is no secret",
                )

    def _text(self, text: ast.Text, where: str) -> Iterator[Diagnostic]:
        for part in text.parts:
            if isinstance(part, ast.Placeholder):
                yield from self._path(part.path, where)

    def _path(self, path: ast.Path, where: str) -> Iterator[Diagnostic]:
        secret = self.part(self._type_of_path(path))
        if secret is not None:
            yield _leak(path, secret, where)

    def shown(self, expr: ast.Expr, where: str) -> Iterator[Diagnostic]:
        """A leak where the value of an expression is shown."""
        secret = self.part(self.analysis.types.get(expr))
        if secret is not None:
            yield _leak(expr, secret, where)

    def arguments(self, callee: ast.Name, args: tuple[ast.Arg, ...]) -> Iterator[Diagnostic]:
        """Arguments of a tool or of a child agent whose parameters do not declare them secret."""
        symbol = self.analysis.symbols.get(callee)
        node = symbol.node if symbol is not None else None
        if isinstance(node, ast.ToolDecl):
            params = node.params
        elif isinstance(node, ast.AgentDecl):
            params = tuple(p for decl in ast.clauses(node.members, ast.InputDecl) for p in decl.params)
        else:
            return
        by_name = {param.name.text: param for param in params}
        for at, arg in enumerate(args):
            param = by_name.get(arg.name.text) if arg.name is not None else params[at] if at < len(params) else None
            if param is not None:
                where = f"parameter `{param.name.text}` of `{callee.text}`"
                yield from self.into(arg.value, self.analysis.types.get(param.type), where, param)

    def stored(self, target: ast.Name | ast.Path, value: ast.Expr) -> Iterator[Diagnostic]:
        """A secret that is kept where nobody sees any more that it is one."""
        first = target.names[0] if isinstance(target, ast.Path) else target
        symbol = self.analysis.symbols.get(first)
        if symbol is not None:
            type_ = self._type_of_path(target) if isinstance(target, ast.Path) else symbol.type
            yield from self.into(value, type_, f"variable `{first.text}`", symbol.node)

    def into(self, value: ast.Expr, type_: Type | None, where: str, declared: Node | None) -> Iterator[Diagnostic]:
        """A value that goes where a type is declared: what is secret of it must be secret there."""
        secret = self.part(self.analysis.types.get(value))
        if secret is None or type_ is None or type_.kind == "error" or self.part(type_) is not None:
            return
        name = getattr(declared, "name", None)
        labels = (Label(name.span, "declared without `secret`"),) if isinstance(name, ast.Name) else ()
        yield Diagnostic(
            "JAM411",
            f"{_what(value, secret)} goes to {where}, which is not declared secret",
            value.span,
            labels=labels,
            why="what is not declared secret is logged and shown",
            help="declare it with `secret`, or pass something else",
        )

    def _type_of_path(self, path: ast.Path) -> Type | None:
        """The type of a path of names, field by field."""
        symbol = self.analysis.symbols.get(path.names[0])
        type_ = symbol.type if symbol is not None else None
        for name in path.names[1:]:
            while type_ is not None and type_.kind in ("optional", "secret"):
                if type_.kind == "secret":
                    return type_
                type_ = type_.args[0]
            if type_ is None:
                return None
            fields = self._fields(type_.name or "") if type_.kind == "record" else iter(type_.fields)
            type_ = next((inner for field, inner in fields if field == name.text), None)
        return type_


def _secret_records(analysis: Analysis) -> dict[str, str]:
    """The records that hold something secret, with the path to the first such field. Secrets spread from records
    to those that hold them, without recursion: a chain of records may be long."""
    found: dict[str, str] = {}
    holders: dict[str, list[tuple[str, str]]] = {}
    for scope in analysis.files:
        for decl in ast.clauses(scope.program.items, ast.RecordDecl):
            for field in decl.fields:
                type_ = analysis.types.get(field.type)
                for part in _parts(type_) if type_ is not None else ():
                    if part.kind == "secret":
                        found.setdefault(decl.name.text, field.name.text)
                    elif part.kind == "record" and part.name is not None:
                        holders.setdefault(part.name, []).append((decl.name.text, field.name.text))
    todo = list(found)
    for record in todo:
        for holder, name in holders.get(record, ()):
            if holder not in found:
                found[holder] = _joined(name, found[record])
                todo.append(holder)
    return found


def _parts(type_: Type) -> Iterator[Type]:
    """A type and those in it, as far as they are its arguments."""
    todo = [type_]
    while todo:
        part = todo.pop()
        yield part
        if part.kind != "secret":
            todo.extend(part.args)


def _first_secret(type_: Type, records: dict[str, str]) -> str | None:
    for part in _parts(type_):
        if part.kind == "secret":
            return ""
        if part.kind == "record" and part.name in records:
            return records[part.name]
    return None


def _joined(field: str, inner: str) -> str:
    if not inner:
        return field
    return f"{field}.{inner}" if inner.count(".") < _LONGEST_PATH else f"{field}.…"


def _what(node: Node, secret: str) -> str:
    text = " ".join(node.span.text.split())
    return f"the secret `{text}.{secret}`" if secret else f"the secret `{text}`"


def _leak(node: Node, secret: str, where: str) -> Diagnostic:
    return Diagnostic(
        "JAM411",
        f"{_what(node, secret)} would be shown {where}",
        node.span,
        why="a secret is never shown to a model or a person, sent out or logged",
        help="show the parts that are not secret, each by its name" if secret else "leave it out",
    )
