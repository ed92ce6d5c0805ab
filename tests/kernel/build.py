"""Short words for building definitions by hand."""

from __future__ import annotations

from typing import Any

from jamjet_dsl import definition as d

STRING = d.Scalar(kind="string")
INT = d.Scalar(kind="int")
BOOL = d.Scalar(kind="bool")
ANY = d.Scalar(kind="any")
MONEY = d.MoneyType(currency="USD")
MOVE = d.BuiltinType(kind="Move")
CHAT = d.BuiltinType(kind="conversation")


def record(name: str) -> d.RecordType:
    return d.RecordType(name=name)


def optional(item: Any) -> d.OptionalType:
    return d.OptionalType(item=item)


def list_of(item: Any) -> d.ListType:
    return d.ListType(item=item)


def fields(**types: Any) -> tuple[d.FieldDef, ...]:
    return tuple(d.FieldDef(name=name, type=type_) for name, type_ in types.items())


def var(*path: str) -> list[Any]:
    """`var("app", "amount")` is `app.amount`."""
    expr: list[Any] = ["var", path[0]]
    for field in path[1:]:
        expr = ["select", expr, field]
    return expr


def s(text: str) -> list[Any]:
    return ["string", text]


def i(number: int) -> list[Any]:
    return ["int", number]


def usd(text: str) -> list[Any]:
    return ["money", f"{text} USD"]


def text(*parts: Any) -> list[Any]:
    return ["text", *parts]


def always(target: str, **more: Any) -> d.Edge:
    return d.Edge(id="always#0", trigger="always", target=target, **more)


def when(guard: list[Any], target: str, n: int = 0, **more: Any) -> d.Edge:
    return d.Edge(id=f"when#{n}", trigger="when", guard=guard, target=target, **more)


def otherwise(target: str, **more: Any) -> d.Edge:
    return d.Edge(id="otherwise#0", trigger="otherwise", target=target, **more)


def on_error(target: str, *errors: str, n: int = 0, **more: Any) -> d.Edge:
    return d.Edge(id=f"on error#{n}", trigger="error", errors=errors or ("any",), target=target, **more)


def on(trigger: Any, target: str, **more: Any) -> d.Edge:
    return d.Edge(id=f"on {trigger}#0", trigger=trigger, target=target, **more)


def on_option(option: str, target: str, **more: Any) -> d.Edge:
    return d.Edge(id=f"on {option}#0", trigger="option", option=option, target=target, **more)


def on_event(event: str, target: str, bind: str | None = None, **more: Any) -> d.Edge:
    return d.Edge(id=f"on event {event}#0", trigger="event", event=event, bind=bind, target=target, **more)


def state(name: str, action: Any = None, *edges: d.Edge, sets: tuple[d.SetDef, ...] = ()) -> d.State:
    return d.State(name=name, action=action, edges=edges, sets=sets)


def set_(name: str, value: list[Any], *rest: str) -> d.SetDef:
    return d.SetDef(path=(name, *rest), value=value)


def final(name: str, failed: bool = False, **outputs: Any) -> d.Final:
    return d.Final(name=name, failed=failed, outputs=outputs)


def tools(*names: str, classes: tuple[Any, ...] = ()) -> d.ToolSetDef:
    return d.ToolSetDef(names=names, classes=classes)


def allow(*names: str, **more: Any) -> d.Rule:
    return d.Rule(kind="allow", tools=tools(*names), **more)


ALLOW_ANY = d.Rule(kind="allow", tools=d.ToolSetDef(classes=("any",)), because="for tests")


def handler(trigger: Any, target: str, *errors: str) -> d.HandlerDef:
    return d.HandlerDef(trigger=trigger, errors=errors or (("any",) if trigger == "error" else ()), target=target)


def options(*names: str) -> tuple[d.OptionDef, ...]:
    """`!yes` is an option that approves."""
    return tuple(d.OptionDef(name=name.lstrip("!"), approves=name.startswith("!")) for name in names)


def program(
    *states: d.State | d.Final,
    tools: dict[str, d.Tool] | None = None,
    models: Any = None,
    records: Any = None,
    enums: Any = None,
    **agent: Any,
) -> d.Definition:
    """A definition of one agent `a` that starts in its first state."""
    body = d.Region(start=states[0].name, states=states)
    agent.setdefault("rules", (ALLOW_ANY,))
    name = agent.pop("name", "a")
    return d.Definition(
        main=name,
        agents={name: d.Agent(name=name, body=body, **agent)},
        tools=tools or {},
        models=models or {},
        records=records or {},
        enums=enums or {},
    )


def reads(result: Any = STRING, params: Any = None, **more: Any) -> d.Tool:
    return d.Tool(params=fields(**(params or {})), result=result, effect="reads", **more)


def writes(result: Any = STRING, params: Any = None, effect: Any = "writes", **more: Any) -> d.Tool:
    return d.Tool(params=fields(**(params or {})), result=result, effect=effect, **more)


def loan() -> d.Definition:
    """The program of `design/examples/loan_underwriting.jam`."""
    types = {
        "records": {
            "Application": d.Record(fields=fields(account=STRING, ssn=STRING, amount=MONEY, income=MONEY)),
            "Report": d.Record(fields=fields(score=d.Scalar(kind="int", low=300, high=850), flags=list_of(STRING))),
            "Receipt": d.Record(fields=fields(id=STRING)),
        },
        "enums": {"Outcome": d.Enum(members=("approved", "declined", "needs_review"))},
    }
    declared = {
        "credit_bureau": reads(
            record("Report"), {"ssn": STRING}, cost="0.40 USD", timeout_ms=20_000, raises=("NotFound",)
        ),
        "lookup_payment": reads(optional(record("Receipt")), {"run": STRING}, timeout_ms=10_000),
        "disburse": writes(
            record("Receipt"),
            {"account": STRING, "amount": MONEY},
            effect="irreversible",
            key=var("run", "id"),
            confirm=d.ToolCallDef(tool="lookup_payment", args={"run": var("run", "id")}),
            timeout_ms=60_000,
            raises=("Rejected",),
        ),
    }
    bureau = d.Call(
        tool="credit_bureau",
        args={"ssn": var("app", "ssn")},
        bind="report",
        retry=(
            d.Retry(
                errors=("Timeout", "Unavailable"), times=4, backoff_ms=2000, factor="2", max_ms=30_000, jitter="full"
            ),
        ),
    )
    fraud = ["exists", var("report", "flags"), "f", ["==", ["local", "f"], s("fraud")]]
    good = ["&&", [">=", var("report", "score"), i(720)], ["<=", var("app", "amount"), usd("10000.00")]]
    explain = d.Think(
        prompt=text("Explain the risk."),
        given=(d.GivenDef(label="report", value=var("report")), d.GivenDef(label="income", value=var("app", "income"))),
        model="small",
        max_prompt=2000,
        max_tokens=1500,
        timeout_ms=60_000,
        bind="summary",
        result=STRING,
    )
    review = d.Ask(
        role="loan_officer",
        text=text("Lend ", ["show", var("app", "amount")], "?"),
        call=d.ToolCallDef(tool="disburse", args={"account": var("app", "account"), "amount": var("app", "amount")}),
        show=(
            d.GivenDef(label="report", value=var("report"), optional=True),
            d.GivenDef(label="summary", value=var("summary"), optional=True),
        ),
        options=options("!approve", "decline", "recheck"),
        form=fields(note=optional(STRING)),
        timeout_ms=172_800_000,
        bind="review",
    )

    def outcome(name: str) -> list[Any]:
        return ["enum", "Outcome", name]

    answer = d.ObjectType(
        fields={"option": STRING, "by": STRING, "at": d.Scalar(kind="timestamp"), "note": optional(STRING)}
    )
    return program(
        state("fetch_report", bureau, on_error("officer_review", "NotFound"), always("triage")),
        state(
            "triage",
            None,
            when(fraud, "declined"),
            when(good, "officer_review", 1),
            when(["<", var("report", "score"), i(580)], "declined", 2),
            otherwise("explain"),
        ),
        state("explain", explain, on_error("officer_review"), always("officer_review")),
        state(
            "officer_review",
            review,
            on_option("approve", "pay"),
            on_option("decline", "declined"),
            on_option("recheck", "fetch_report", limit=2, limit_to="escalated"),
            on("timeout", "escalated"),
        ),
        state(
            "pay",
            d.CallApproved(tool="disburse", asks=("officer_review",), bind="receipt"),
            on_error("declined", "Rejected"),
            on("in_doubt", "escalated"),
            always("paid"),
        ),
        final("paid", outcome=outcome("approved"), receipt=var("receipt")),
        final("declined", outcome=outcome("declined")),
        final("escalated", failed=True, outcome=outcome("needs_review")),
        name="loan_underwriting",
        version=3,
        tools=declared,
        models={"small": d.ModelDef()},
        inputs=fields(app=record("Application")),
        outputs=fields(outcome=d.EnumType(name="Outcome"), receipt=optional(record("Receipt"))),
        vars=(
            d.VarDef(name="report", type=record("Report")),
            d.VarDef(name="summary", type=STRING),
            d.VarDef(name="review", type=answer),
            d.VarDef(name="receipt", type=record("Receipt")),
        ),
        budget=d.Budget(
            limits=d.Limits(steps=25, tokens=20_000, cost="2.00 USD", time_ms=604_800_000), exceeded="escalated"
        ),
        rules=(
            allow("credit_bureau", "lookup_payment", "disburse"),
            d.Rule(kind="require_ask", ask="officer_review", tools=tools("disburse")),
            d.Rule(kind="forbid", tools=tools("disburse"), when=[">", var("app", "amount"), usd("50000.00")]),
            d.Rule(kind="redact", path=("app", "ssn")),
        ),
        handlers=(handler("error", "escalated"),),
        **types,
    )


APPLICATION = {"app": {"account": "a1", "ssn": "x", "amount": "9000.00 USD", "income": "80000.00 USD"}}
