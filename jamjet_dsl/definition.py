"""The definition: what a program means, as closed data.

The compiler lowers a program to a `Definition`; the kernel, the diagrams and the verifier read nothing
else. It is stored with every run as canonical JSON (RFC 8785) under its SHA-256 digest, so two programs
that run alike have one digest: layout, comments, tests, checks and the doc comments that no model sees
are not in here. The source and the span map stand beside it in `Compiled`.

Conventions of the JSON form:

* An expression (`Expr`) is a list whose first item is an operator; see `ExprJson` below.
* A type (`Type`) is an object with a `kind`.
* Money is `"1.50 USD"`, a duration its whole milliseconds, a decimal a string: exact everywhere.
* Maps keep the order of the program where order means something (states, edges, rules are lists or the
  order is stated in a list beside them); canonical JSON sorts keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

FORMAT = 1
"""Version of this form. A reader refuses a newer one and must read every older one."""

MAX_SAFE_INT = 2**53 - 1

ExprJson: TypeAlias = list[Any]
"""An expression as a list.

    ["null"]  ["bool", true]  ["int", 5]  ["uint", 5]  ["float", 1.5]  ["string", "x"]  ["bytes", "<base64>"]
    ["decimal", "1.50"]  ["money", "1.50 USD"]  ["duration", 90000]  ["enum", "Outcome", "approved"]
    ["var", NAME]                 a variable, input, bound name, or one of the roots args, run, user, principal,
                                  spent, budget, undo, now, result, fact names
    ["local", NAME]               a name bound by a macro around it, or a parameter of a fn
    ["select", E, FIELD]  ["index", E, E]  ["list", E, ...]  ["map", [K, V], ...]  ["record", NAME, {FIELD: E}]
    ["!", E]  ["neg", E]  ["&&", A, B]  ["||", A, B]  ["?:", C, A, B]
    ["==", A, B]  ["!=", A, B]  ["<", A, B]  ["<=", A, B]  [">", A, B]  [">=", A, B]  ["in", A, B]
    ["+", A, B]  ["-", A, B]  ["*", A, B]  ["/", A, B]  ["%", A, B]
    ["has", E]                    E is a select, index, or var: is it there (and not null, for an optional)
    ["all"|"exists"|"exists_one"|"filter", LIST, NAME, E]    ["map_", LIST, NAME, E]   ["map_if", LIST, NAME, COND, E]
    ["call", FUNCTION, E, ...]    a built-in: `size`, `matches`, ..., methods with the receiver first
    ["fn", NAME, E, ...]          a declared fn
    ["widen", "decimal"|"float", E]   an int where a decimal (or float) is declared
    ["calls", TOOL] ["history", "attempted"|"succeeded"|"failed"|"denied", TOOL, {ARG: E}]   counts in this run
    ["attested", E]  ["untrusted", E]                          provenance of a path
    ["text", PART, ...]           a template: a string, or ["show", E]

Integers beyond the safe range are strings: ["int", "9007199254740993"].
"""


_ALWAYS = frozenset({"kind", "format", "language"})
"""Fields that are written even when they hold their default: what a reader must see to read the rest."""


class Model(BaseModel):
    """Base of everything here: frozen, and nothing unknown is accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @model_serializer(mode="wrap")
    def _keep_discriminators(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        for name in _ALWAYS & type(self).model_fields.keys():
            data[name] = getattr(self, name)
        return data


# ---- types


class Scalar(Model):
    """bool int uint float string bytes decimal duration timestamp any null. `low`/`high` bound an int, a
    float or a decimal (inclusive; decimals as strings)."""

    kind: Literal["bool", "int", "uint", "float", "string", "bytes", "decimal", "duration", "timestamp", "any", "null"]
    low: int | float | str | None = None
    high: int | float | str | None = None


class MoneyType(Model):
    """`currency` is None until the agent's one currency is known."""

    kind: Literal["money"] = "money"
    currency: str | None = None
    low: str | None = None
    high: str | None = None


class ListType(Model):
    """`low`..`high` bound the length."""

    kind: Literal["list"] = "list"
    item: Type
    low: int | None = None
    high: int | None = None


class MapType(Model):
    kind: Literal["map"] = "map"
    key: Type
    value: Type


class RecordType(Model):
    """A record declared in `Definition.records`."""

    kind: Literal["record"] = "record"
    name: str


class EnumType(Model):
    """An enum declared in `Definition.enums`."""

    kind: Literal["enum"] = "enum"
    name: str


class BuiltinType(Model):
    """`Move`, `ToolCall`, `conversation`, `file`, `answer` shapes that the language itself defines."""

    kind: Literal["Move", "ToolCall", "conversation", "file"]


class OptionalType(Model):
    kind: Literal["optional"] = "optional"
    item: Type


class SecretType(Model):
    kind: Literal["secret"] = "secret"
    item: Type


class ObjectType(Model):
    """An anonymous record: an event's payload, an ask's answer."""

    kind: Literal["object"] = "object"
    fields: dict[str, Type]


Type: TypeAlias = Annotated[
    Scalar
    | MoneyType
    | ListType
    | MapType
    | RecordType
    | EnumType
    | BuiltinType
    | OptionalType
    | SecretType
    | ObjectType,
    Field(discriminator="kind"),
]


class FieldDef(Model):
    """A field, parameter, input or output. `doc` is kept where a model sees it (records, tool parameters)."""

    name: str
    type: Type
    doc: str | None = None


class Record(Model):
    fields: tuple[FieldDef, ...]
    doc: str | None = None


class Enum(Model):
    members: tuple[str, ...]
    doc: str | None = None


class Fn(Model):
    """A pure function; `body` reads its parameters as `local`s."""

    params: tuple[FieldDef, ...]
    result: Type
    body: ExprJson


# ---- tools and models


class Retry(Model):
    """`times` further attempts after an error of `errors` (`["any"]` for all). Delays in milliseconds."""

    errors: tuple[str, ...]
    times: int
    backoff_ms: int = 0
    factor: str = "1"
    max_ms: int | None = None
    jitter: Literal["none", "full"] = "none"


class Rate(Model):
    """At most `calls` in `per_ms` across all runs of a database; more are delayed."""

    calls: int
    per_ms: int


class ToolCallDef(Model):
    """A call with its arguments as expressions, by parameter name."""

    tool: str
    args: dict[str, ExprJson]


class Via(Model):
    """Where a tool or model is found: `kind` python, http, mcp, command, or a provider's name."""

    kind: str
    qualifier: str | None = None
    target: str | tuple[str, ...]


class Tool(Model):
    """`key`, `confirm`, `undo` are evaluated in the scope `args`, parameters, `run`; `undo` also sees `result`.
    `result` is None for a tool that returns nothing. `cost` is the worst case of one attempt."""

    params: tuple[FieldDef, ...]
    result: Type | None
    untrusted: bool = False
    effect: Literal["reads", "writes", "irreversible"]
    via: Via | None = None
    key: ExprJson | None = None
    confirm: ToolCallDef | None = None
    undo: ToolCallDef | None = None
    cost: str | None = None
    timeout_ms: int | None = None
    retry: tuple[Retry, ...] = ()
    limits: tuple[Rate, ...] = ()
    raises: tuple[str, ...] = ()
    doc: str | None = None


class ModelDef(Model):
    """Prices are per `per_tokens` tokens."""

    via: Via | None = None
    price_in: str | None = None
    price_out: str | None = None
    per_tokens: int | None = None


# ---- actions


class Call(Model):
    """Calls a tool with these arguments. With `args_map` set, all arguments come from that one expression."""

    kind: Literal["call"] = "call"
    tool: str
    args: dict[str, ExprJson] = {}
    args_map: ExprJson | None = None
    bind: str | None = None
    timeout_ms: int | None = None
    retry: tuple[Retry, ...] = ()


class CallProposed(Model):
    """Performs the call in the `Move` variable `move`. `tools` is the closed set it was chosen from; `chat`
    the conversation that takes the result, error or denial."""

    kind: Literal["call_proposed"] = "call_proposed"
    move: str
    tools: tuple[str, ...]
    chat: str | None = None
    bind: str | None = None
    timeout_ms: int | None = None
    retry: tuple[Retry, ...] = ()


class CallApproved(Model):
    """Performs exactly the call granted by one of `asks` (names of ask states), for `tool` if it was named."""

    kind: Literal["call_approved"] = "call_approved"
    tool: str | None
    asks: tuple[str, ...]
    chat: str | None = None
    bind: str | None = None
    timeout_ms: int | None = None
    retry: tuple[Retry, ...] = ()


class GivenDef(Model):
    """`label` is shown to the model; `optional` values that are not set are left out."""

    label: str
    value: ExprJson
    optional: bool = False


class Think(Model):
    """Asks a model. `prompt` is a `text` expression. `result` is None only with `tools` (then it is a Move)."""

    kind: Literal["think"] = "think"
    prompt: ExprJson
    given: tuple[GivenDef, ...] = ()
    chat: str | None = None
    tools: tuple[str, ...] = ()
    model: str | None = None
    max_prompt: int | None = None
    max_tokens: int | None = None
    temperature: str | None = None
    bind: str | None = None
    result: Type
    timeout_ms: int | None = None
    retry: tuple[Retry, ...] = ()


class OptionDef(Model):
    name: str
    approves: bool = False


class Ask(Model):
    """Asks a person. At most one of `call` and `proposed` is set: the call that an approving option grants."""

    kind: Literal["ask"] = "ask"
    role: str
    text: ExprJson
    call: ToolCallDef | None = None
    proposed: str | None = None
    tools: tuple[str, ...] = ()
    show: tuple[GivenDef, ...] = ()
    options: tuple[OptionDef, ...] = ()
    form: tuple[FieldDef, ...] = ()
    remind_ms: int | None = None
    timeout_ms: int | None = None
    bind: str | None = None


class RunAgent(Model):
    """Runs a child agent of `Definition.agents`."""

    kind: Literal["run"] = "run"
    agent: str
    args: dict[str, ExprJson]
    budget: Budget | None = None
    bind: str | None = None
    timeout_ms: int | None = None
    retry: tuple[Retry, ...] = ()


class Each(Model):
    """Runs `body` once for every item of `source`, `at_once` at a time; results in the order of items."""

    kind: Literal["each"] = "each"
    item: str
    source: ExprJson
    at_once: int = 1
    flat: bool = False
    body: Region
    bind: str | None = None
    timeout_ms: int | None = None


class Wait(Model):
    """Exactly one of `duration_ms`, `until`, `event` is set."""

    kind: Literal["wait"] = "wait"
    duration_ms: int | None = None
    until: ExprJson | None = None
    event: str | None = None
    bind: str | None = None
    timeout_ms: int | None = None


class Emit(Model):
    kind: Literal["emit"] = "emit"
    message: str
    args: dict[str, ExprJson]


class UndoAll(Model):
    kind: Literal["undo_all"] = "undo_all"


class Parallel(Model):
    """Starts all branches; `need` of them must be done for `on join`."""

    kind: Literal["parallel"] = "parallel"
    branches: tuple[BranchDef, ...]
    need: int
    within_ms: int | None = None


Action: TypeAlias = Annotated[
    Call | CallProposed | CallApproved | Think | Ask | RunAgent | Each | Wait | Emit | UndoAll | Parallel,
    Field(discriminator="kind"),
]


# ---- states


class SetDef(Model):
    """`path[0]` is the variable; further parts are fields of records in it."""

    path: tuple[str, ...]
    value: ExprJson


class Edge(Model):
    """One way out of a state.

    `id` is trigger + ordinal (`when#1`, `on approve#0`); with the state's name it is the edge's identity, which
    its counter lives under. `trigger` is one of: always, when, otherwise, error, timeout, denied, in_doubt, join,
    event, option. Exactly one of `target`, `skip`, `yields` is set. `limit_to` None with a `limit` means the
    budget's `exceeded` edge.
    """

    id: str
    trigger: Literal["always", "when", "otherwise", "error", "timeout", "denied", "in_doubt", "join", "event", "option"]
    guard: ExprJson | None = None
    errors: tuple[str, ...] = ()
    event: str | None = None
    bind: str | None = None
    option: str | None = None
    target: str | None = None
    skip: bool = False
    yields: ExprJson | None = None
    limit: int | None = None
    limit_to: str | None = None
    sets: tuple[SetDef, ...] = ()


class State(Model):
    """One state. `sets` run after the action succeeded and before the guards, in order. `yields` is the value
    of an item or branch that ends here."""

    name: str
    kind: Literal["state"] = "state"
    action: Action | None = None
    sets: tuple[SetDef, ...] = ()
    edges: tuple[Edge, ...] = ()
    yields: ExprJson | None = None


class Final(Model):
    """An end. `outputs` are evaluated when it is entered."""

    name: str
    kind: Literal["final"] = "final"
    failed: bool = False
    outputs: dict[str, ExprJson] = {}


class Region(Model):
    """A set of states with a start: an agent, a branch, the body of `each`."""

    start: str
    states: tuple[Annotated[State | Final, Field(discriminator="kind")], ...]


class BranchDef(Model):
    name: str
    bind: str | None = None
    default: ExprJson | None = None
    body: Region


# ---- budget and policy


class Limits(Model):
    """Steps and tokens are counts, cost is money text, times are milliseconds. None is no limit."""

    steps: int | None = None
    tokens: int | None = None
    cost: str | None = None
    time_ms: int | None = None
    active_ms: int | None = None


class Budget(Model):
    limits: Limits
    reserve: Limits = Limits()
    warn_percent: int | None = None
    exceeded: str | None = None


class ToolSetDef(Model):
    """`names` and all tools of `classes` (`any`, `reads`, `writes`, `irreversible`)."""

    names: tuple[str, ...] = ()
    classes: tuple[Literal["any", "reads", "writes", "irreversible"], ...] = ()


class LimitDef(Model):
    """A bound on calls (`count`) or on a sum (`amount` <= `bound`). `per` are grouping expressions; `window_ms`
    a sliding window; `principal` widens the count from this run to all runs of the principal; `turn` narrows it to the
    calls since a model last answered."""

    tools: ToolSetDef
    count: int | None = None
    amount: ExprJson | None = None
    bound: ExprJson | None = None
    per: tuple[ExprJson, ...] = ()
    principal: bool = False
    turn: bool = False
    window_ms: int | None = None


class Rule(Model):
    """One rule of a policy. Which fields are set follows from `kind`:

    allow       tools, when, because (waives the approval)
    forbid      tools, when
    require_read   call, bind, tools (before which), when
    require_any    reads, bind, tools, when
    require_ask    ask, tools, when
    require_people count, role, excluding, tools, when
    never       tools, after, when
    limit       limit
    fact        name, call, within_ms, tools (None: for all)
    redact      path

    `id` is `file:line` as a person finds it; it is not part of the digest.
    """

    kind: Literal[
        "allow",
        "forbid",
        "require_read",
        "require_any",
        "require_ask",
        "require_people",
        "never",
        "limit",
        "fact",
        "redact",
    ]
    tools: ToolSetDef | None = None
    when: ExprJson | None = None
    because: str | None = None
    call: ToolCallDef | None = None
    bind: str | None = None
    reads: ToolSetDef | None = None
    ask: str | None = None
    count: int | None = None
    role: str | None = None
    excluding: str | None = None
    after: ToolSetDef | None = None
    limit: LimitDef | None = None
    name: str | None = None
    within_ms: int | None = None
    path: tuple[str, ...] | None = None


class HandlerDef(Model):
    """A handler of the whole agent. `errors` only for trigger `error`; `["any"]` for all."""

    trigger: Literal["error", "denied", "cancel", "in_doubt", "timeout"]
    errors: tuple[str, ...] = ()
    target: str


class MigrationDef(Model):
    from_version: int
    states: dict[str, str]


class VarDef(Model):
    name: str
    type: Type
    init: ExprJson | None = None


class Message(Model):
    """An event or an emitted message and its payload."""

    fields: tuple[FieldDef, ...]


class Agent(Model):
    """One agent. `vars` lists every variable: declared ones and those bound by `as` (without `init`)."""

    name: str
    version: int | None = None
    inputs: tuple[FieldDef, ...] = ()
    outputs: tuple[FieldDef, ...] = ()
    vars: tuple[VarDef, ...] = ()
    events: dict[str, Message] = {}
    emits: dict[str, Message] = {}
    currency: str = "USD"
    budget: Budget | None = None
    rules: tuple[Rule, ...] | None = None
    handlers: tuple[HandlerDef, ...] = ()
    finally_: Region | None = None
    migrations: tuple[MigrationDef, ...] = ()
    body: Region


class Definition(Model):
    """A whole program, ready to run: `main` is the agent that runs, `agents` holds it and its children."""

    format: Literal[1] = 1
    language: int = 1
    main: str
    agents: dict[str, Agent]
    tools: dict[str, Tool] = {}
    models: dict[str, ModelDef] = {}
    records: dict[str, Record] = {}
    enums: dict[str, Enum] = {}
    fns: dict[str, Fn] = {}

    @property
    def agent(self) -> Agent:
        """The agent that runs."""
        return self.agents[self.main]

    def canonical(self) -> bytes:
        """Canonical JSON (RFC 8785) without fields that hold their default: the bytes the digest is of.

        Leaving defaults out keeps digests when a later version of this form adds an optional field.
        """
        import rfc8785

        return rfc8785.dumps(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical()).hexdigest()

    drawing: ClassVar[Callable[[Definition], str] | None] = None
    """What notebooks show a definition with; the package's front door sets it: drawing stands above this layer."""

    def _repr_svg_(self) -> str | None:
        return None if Definition.drawing is None else Definition.drawing(self)


class SpanJson(Model):
    """Where a part of a definition stands: a file as imported from the main one, lines and columns from 1."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


class Compiled(Model):
    """A definition with what people need beside it.

    `sources` maps the name of each file (relative to the main one) to its text. `spans` maps a part of the
    definition to its place; keys are `AGENT`, `AGENT/STATE`, `AGENT/STATE/EDGE_ID`, `AGENT/rules/N`,
    `AGENT/agent on TRIGGER#N` (a handler of the whole agent), `AGENT/exceeded`,
    `tool/NAME`, `model/NAME`, `record/NAME`; a state inside a branch is `STATE/BRANCH/INNER`, inside an item
    `STATE/each/INNER`.
    `docs` holds doc comments under the same keys. `tests` are the `test` blocks of the main agent, lowered, and
    `test_fns` the functions that only they use (which must not change the digest).
    """

    definition: Definition
    sources: dict[str, str] = {}
    spans: dict[str, SpanJson] = {}
    docs: dict[str, str] = {}
    tests: tuple[TestDef, ...] = ()

    def _repr_svg_(self) -> str | None:
        return self.definition._repr_svg_()

    test_fns: dict[str, Fn] = {}


# ---- tests


class MockResponse(Model):
    """Exactly one of `returns`, `raises`, `option` is set; `form` goes with `option`."""

    returns: ExprJson | None = None
    raises: str | None = None
    option: str | None = None
    form: ExprJson | None = None


class MockDef(Model):
    """Responses to a tool, or to a state that thinks or asks, in order; the last one repeats."""

    target: str
    responses: tuple[MockResponse, ...]
    span: SpanJson | None = None


class TestDef(Model):
    """A `test` block; `path` is the exact sequence of states expected, if one is."""

    __test__ = False
    title: str
    agent: str
    inputs: dict[str, ExprJson] = {}
    mocks: tuple[MockDef, ...] = ()
    path: tuple[str, ...] | None = None
    expects: tuple[ExprJson, ...] = ()
    texts: tuple[str, ...] = ()
    span: SpanJson | None = None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `Definition`, as published in `docs/definition.schema.json`."""
    schema = Definition.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
