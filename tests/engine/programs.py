"""Small definitions, written by hand: what the engine runs needs no compiler."""

from __future__ import annotations

from typing import Any

from jamjet_dsl.definition import Agent, Budget, Definition, Edge, Final, Limits, Region, Rule, State, ToolSetDef

INT = {"kind": "int"}
STRING = {"kind": "string"}
ALLOW_ALL = Rule(kind="allow", tools=ToolSetDef(classes=("any",)), because="a test")


def always(target: str, **more: Any) -> Edge:
    return Edge(id="always#0", trigger="always", target=target, **more)


def on_error(target: str, *errors: str) -> Edge:
    return Edge(id="error#0", trigger="error", errors=errors or ("any",), target=target)


def call(tool: str, bind: str | None = None, **more: Any) -> dict[str, Any]:
    return {"kind": "call", "tool": tool, "args": more.pop("args", {}), "bind": bind, **more}


def state(name: str, action: dict[str, Any] | None, *edges: Edge, **more: Any) -> State:
    return State.model_validate({"name": name, "action": action, "edges": edges, **more})


def tool(effect: str = "reads", params: dict[str, Any] | None = None, result: Any = INT, **more: Any) -> dict[str, Any]:
    fields = [{"name": name, "type": type_} for name, type_ in (params or {}).items()]
    return {"effect": effect, "params": fields, "result": result, **more}


def program(
    states: list[State | Final],
    tools: dict[str, Any] | None = None,
    *,
    inputs: dict[str, Any] | None = None,
    vars: dict[str, Any] | None = None,
    outputs: dict[str, Any] | None = None,
    budget: Limits | Budget | None = None,
    rules: tuple[Rule, ...] | None = (ALLOW_ALL,),
    models: dict[str, Any] | None = None,
    **agent: Any,
) -> Definition:
    def fields(given: dict[str, Any] | None) -> list[dict[str, Any]]:
        return [{"name": name, "type": type_} for name, type_ in (given or {}).items()]

    made = Agent.model_validate(
        {
            "name": "demo",
            "inputs": fields(inputs),
            "outputs": fields(outputs),
            "vars": [
                v if isinstance(v, dict) and "name" in v else {"name": n, "type": v} for n, v in (vars or {}).items()
            ],
            "budget": Budget(limits=budget) if isinstance(budget, Limits) else budget,
            "rules": rules,
            "body": Region(start=states[0].name, states=tuple(states)),
            **agent,
        }
    )
    return Definition.model_validate(
        {"main": "demo", "agents": {"demo": made}, "tools": tools or {}, "models": models or {}}
    )


def done(**outputs: Any) -> Final:
    return Final(name="done", outputs=outputs)


def failed(name: str = "broken") -> Final:
    return Final(name=name, failed=True)


def adder(effect: str = "reads", **more: Any) -> Definition:
    """Calls `add(a, b)` once with the inputs and gives its result."""
    return program(
        [
            state("sum", call("add", "total", args={"a": ["var", "a"], "b": ["var", "b"]}), always("done")),
            done(total=["var", "total"]),
        ],
        {"add": tool(effect, {"a": INT, "b": INT}, **more)},
        inputs={"a": INT, "b": INT},
        vars={"total": INT},
        outputs={"total": INT},
    )
