"""What may stand somewhere, in the words of the language."""

from __future__ import annotations

from collections.abc import Sequence

from jamjet_dsl.syntax.driver import Driver
from jamjet_dsl.syntax.lexer import END, Token, keywords

_EXAMPLES = {
    "INT": "a number",
    "BADNUM": "a number",
    "UINT": "a number",
    "FLOAT": "a number",
    "DURATION": "a duration such as `30s`",
    "MONEY": "an amount such as `$2.00`",
    "QUANTITY": "a count such as `20k`",
    "STRING": "a text in quotes",
    "BYTES": "bytes",
    "ERROR_EXPR": "an expression",
    "FIELD": "a field `name: type`",
    "TARGET": "`name = value`",
    "QNAME": "a field name",
    END: "the end of the file",
}
_OPERATOR_KINDS = "EQ NE GE LE LT GT IN PLUS MINUS STAR SLASH PERCENT OROR ANDAND OPT DOT LSQB"
_OPERATORS = frozenset(_OPERATOR_KINDS.split())
_NAMED_AFTER = {
    "STATE": "a name for the state",
    "AGENT": "a name for the agent",
    "TOOL": "a name for the tool",
    "MODEL": "the name of a model",
    "RECORD": "a name for the record",
    "ENUM": "a name for the enum",
    "CONST": "a name for the constant",
    "FN": "a name for the function",
    "VAR": "a name for the variable",
    "EVENT": "the name of an event",
    "EMITS": "a name for the message",
    "PARALLEL": "a name for the state",
    "BRANCH": "a name for the branch",
    "FINAL": "a name for the final",
    "FAILED": "a name for the final",
    "AS": "a name for the result",
    "SET": "a variable",
    "CALL": "a tool",
    "RUN": "an agent",
    "EMIT": "a message",
    "PROPOSED": "the variable that holds the proposal",
    "APPROVED": "a tool, or the name of an answer",
    "CONFIRM": "a tool",
    "UNDO": "a tool",
    "RAISES": "the name of an error",
    "RETRY": "the name of an error, or `any`",
    "ERROR": "the name of an error, or `any`",
    "ALLOW": "a tool",
    "FORBID": "a tool",
    "BEFORE": "a tool",
    "AFTER": "a tool",
    "NEVER": "a tool",
    "EFFECT": "`reads`, `writes` or `irreversible`",
    "JITTER": "`full` or `none`",
    "OPTIONS": "the name of an option",
    "ELSE": "the name of a state",
    "DOT": "the name of a field",
    "FOR": "the name of an agent",
    "MOCK": "a tool or a state",
    "VIA": "a kind, such as `python` or `http`",
    "IMPORT": "`{ names }`",
    "REDACT": "the path of a value",
    "SHOW": "the path of a value",
    "GIVEN": "what the model is shown",
}
# What a block holds, by the keyword that opens it: said when a word stands there that begins nothing.
_BLOCKS = {
    "RECORD": "a field `name: type`",
    "ANSWER": "a field `name: type`",
    "ENUM": "a member",
    "TOOL": "a clause of the tool (`effect`, `timeout`, `cost`, …)",
    "MODEL": "`via` or `price`",
    "AGENT": "a member of the agent (`state`, `final`, `input`, `policy`, …)",
    "BUDGET": "a limit (`steps`, `tokens`, `cost`, `time`, …)",
    "RESERVE": "a limit (`steps`, `tokens`, `cost`, `time`, …)",
    "POLICY": "a rule (`allow`, `require`, `forbid`, `limit`, …)",
    "STATE": "a clause of the state (an action, `when`, `on`, `->`, …)",
    "EACH": "an action, an edge or a state",
    "BRANCH": "an action, an edge or a state",
    "PARALLEL": "a branch, the join or an edge",
    "FINAL": "`output = value`",
    "FAILED": "`output = value`",
    "FINALLY": "an action",
    "TEST": "`input`, `mock` or `expect`",
    "MIGRATE": "`old -> new`",
    "GOTO": "`set name = value`",
}


def found(token: Token) -> str:
    """How a token is named in a message."""
    if token.kind == END:
        return "the end of the file"
    text = token.text if len(token.text) <= 30 else token.text[:29] + "…"
    return f"`{text}`".replace("\n", " ")


def block(driver: Driver) -> str:
    """The terminal of the keyword whose braces are the innermost open ones; `GOTO` for those after an edge, the
    empty string at top level or inside an expression."""
    symbols = [driver.tables.symbols[state] for state in driver.states]
    closed = 0
    for at in range(len(symbols) - 1, 0, -1):
        if symbols[at] == "RBRACE":
            closed += 1
        if symbols[at] != "LBRACE":
            continue
        if closed:
            closed -= 1
            continue
        for before in range(at - 1, max(at - 14, 0), -1):
            if symbols[before] in _BLOCKS:
                return symbols[before]
            if symbols[before] == "ARROW" and "RPAR" not in symbols[before - 1 : before]:
                return "GOTO"
        return ""
    return ""


def phrase(driver: Driver, accepted: Sequence[str]) -> str:
    """What is expected at the next token: `an expression`, `a name for the state`, `` `{` `` and the like."""
    literals, words = driver.tables.literals, keywords()
    if "ERROR_EXPR" in accepted:
        return "an expression"
    spelt = [f"`{literals[kind]}`" for kind in accepted if kind in literals]
    if len(accepted) <= 2 and len(spelt) == len(accepted):
        return _joined(spelt)
    roles = []
    if "IDENT" in accepted:
        roles.append(_name_role(driver))
    entry = [kind for kind in accepted if kind in ("FIELD", "TARGET")]  # what may still follow a type is no news there
    roles += [_EXAMPLES[kind] for kind in entry or accepted if kind in _EXAMPLES and kind != END]
    starters = [kind for kind in accepted if literals.get(kind, "") in words]
    marks = [f"`{literals[k]}`" for k in accepted if k in literals and k not in starters and k not in _OPERATORS]
    if roles:
        names = roles + marks
    elif 0 < len(starters) <= 4:
        names = [f"`{literals[kind]}`" for kind in starters] + marks
    elif starters:
        inside = block(driver)
        declaration = "a declaration (`agent`, `tool`, `record`, …)"
        names = [_BLOCKS[inside], "`}`"] if inside else [declaration]
    else:
        names = marks or ["an operator"]
    names = list(dict.fromkeys(names))
    if "`}`" in names:
        names.append(names.pop(names.index("`}`")))
    return _joined(names[:4])


def _name_role(driver: Driver) -> str:
    symbols = driver.tables.symbols
    symbol = symbols[driver.states[-1]]
    if symbol == "ARROW":
        return "a type" if _in_signature(driver) else "the name of a state"
    if symbol == "COLON":
        return "a type"
    if symbol in ("COMMA", "LT") and symbols[driver.states[-2]] in ("type", "IDENT", "targs"):
        return "a type"
    return _NAMED_AFTER.get(symbol, "a name")


def _in_signature(driver: Driver) -> bool:
    """Whether the arrow on top of the stack follows the parameters of a tool or function."""
    return len(driver.states) > 2 and driver.tables.symbols[driver.states[-2]] == "RPAR"


def _joined(names: list[str]) -> str:
    if not names:
        return "something else"
    if len(names) == 1:
        return names[0]
    return ", ".join(names[:-1]) + " or " + names[-1]


def after(driver: Driver) -> str:
    """` after X` for the token before the next one, when it is short enough to name."""
    if not driver.at:
        return ""
    previous = driver.tokens[driver.at - 1]
    return f" after {found(previous)}" if len(previous.text) <= 30 and previous.text else ""


def read_as_name(driver: Driver) -> str:
    """A remark when the word before is a keyword that was taken for a name, as soft keywords are; else empty."""
    if not driver.at or driver.tables.symbols[driver.states[-1]] != "IDENT":
        return ""
    word = driver.tokens[driver.at - 1].text
    return f"`{word}` was read as a name here" if word in keywords() else ""
