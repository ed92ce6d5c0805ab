"""Programs that show the kernel in all its phases, and what is said of each."""

from __future__ import annotations

from jamjet_dsl.forecast.assumed import Given

_TOOLS = """language 1
tool look() -> int { via python "x:look"  effect reads  timeout 5s  cost $0.01
  retry Unavailable, Timeout 2 times backoff 1s x 2 max 10s jitter full }
tool read() -> int { via python "x:read"  effect reads  raises Missing }
tool told(n: string) -> string? { via python "x:told"  effect reads }
tool pay(n: string) -> string { via python "x:pay"  effect irreversible  key n  confirm told(n)  raises Rejected
  undo back(n)  retry Timeout 1 times }
tool note(n: string) -> string { via python "x:note"  effect writes }
tool keyed(n: string) -> string { via python "x:keyed"  effect writes  key n  retry Unavailable, Timeout 2 times }
tool back(n: string) -> string { via python "x:back"  effect writes  key n }
model small { via script "a.json"  price $3 in $15 out per 1M tokens }
"""


def _agent(body: str, budget: str = "") -> str:
    return f"""{_TOOLS}
agent main version 1 {{
  input n: int
  {budget}
  policy {{
    allow look, read, told, note, keyed, back
    allow pay without approval because "a test"
  }}
{body}
  final done {{}}
  failed over {{}}
}}
"""


RETRY = _agent(
    """  start state a { call look()  on error any -> b  -> c }
  state b { call read()  -> c }
  state c { call look() retry any 1 times  on error Timeout -> over  -> done }"""
)
DOUBT = _agent(
    """  start state a { call note("a")  on in_doubt -> b  -> b }
  state b { call keyed("b")  on error any -> over  -> c }
  state c { call pay("c")  on error Rejected -> over  on in_doubt -> d  -> done }
  state d { call note("d")  -> done }"""
)
PARALLEL = _agent(
    """  start parallel both {
    branch a { start state x { call look()  -> y }  state y { call read() } }
    branch b { call keyed("b") }
    branch c { call read()  on error any skip }
    join 2 of 3 within 20s
    on error any -> over
    on join -> done
  }"""
)
EACH = _agent(
    """  start state all {
    each q in [1, 2, 3, 4], 2 at once { call read()  on error any skip }
    on error any -> over
    -> more
  }
  state more { each q in range(2) { call look() }  on error Unavailable -> over  on error any -> done  -> done }""",
    budget="budget { steps 8  cost $0.03  exceeded -> over }",
)
CHILD = (
    _agent(
        """  start state a { run helper() as x budget { steps 3 }  on error ChildFailed -> b  -> done }
  state b { run helper() as y  on error any -> over  -> done }""",
        budget="budget { steps 9  exceeded -> over }",
    )
    + """
agent helper version 1 {
  budget { steps 4  exceeded -> no }
  policy { allow look, read }
  start state p { call read()  on error any -> q limit 2 else no  -> yes }
  state q { call look()  on error any -> no  -> p }
  finally { call read() }
  final yes {}
  failed no {}
}
"""
)
PEOPLE = _agent(
    """  start state a { ask role "r" "Well?" options go, stop, again timeout 1h as x
    on go -> b
    on stop -> over
    on again -> w limit 1 else over
    on timeout -> b }
  state w { wait 10m  -> a }
  state b { call look()  on error any -> over  -> done }""",
    budget="budget { steps 12  time 2h  exceeded -> over }",
)
MODEL = _agent(
    """  start state think { think "What?" tools look, read  model small  max prompt 1k  max tokens 500  as m
      retry InvalidOutput 1 times
    on error any -> over
    when has(m.call) -> act
    otherwise -> done }
  state act { call proposed m  on error any -> think limit 2 else over  -> think }""",
    budget="budget { steps 20  tokens 9k  cost $0.08  exceeded -> over }",
)
UNDO = _agent(
    """  start state a { call pay("a")  on in_doubt -> clean  -> b }
  state b { call keyed("b")  on error any -> clean  on in_doubt -> clean  -> c }
  state c { call read()  on error any -> clean  -> done }
  state clean { undo all  -> over }"""
)

LIBRARY: dict[str, tuple[str, Given]] = {
    "retry": (RETRY, Given({"look": 0.6, "read": 0.9}, latency={"look": ((0.7, 1_000), (0.3, 6_000))}, crash=0.05)),
    "doubt": (
        DOUBT,
        Given(
            {"note": 0.8, "keyed": 0.6, "pay": 0.7, "told": 0.9},
            errors={"note": {"Timeout": 1, "Unavailable": 1}, "keyed": {"Timeout": 1, "Unavailable": 2}},
            take={"c": {"happened": 0.3}},
            crash=0.1,
        ),
    ),
    "parallel": (
        PARALLEL,
        Given(
            {"look": 0.7, "read": 0.8, "keyed": 0.9},
            latency={"look": ((0.5, 2_000), (0.5, 4_000)), "read": ((1.0, 3_000),), "keyed": ((1.0, 9_000),)},
            crash=0.02,
        ),
    ),
    "each": (EACH, Given({"look": 0.8, "read": 0.85}, latency={"read": ((0.5, 100), (0.5, 300))})),
    "child": (CHILD, Given({"look": 0.7, "read": 0.6}, crash=0.03)),
    "people": (
        PEOPLE,
        Given({"look": 0.8}, take={"a": {"timeout": 0.3, "again": 0.4}}, latency={"a": ((1.0, 1_200_000),)}),
    ),
    "model": (MODEL, Given({"think": 0.8, "look": 0.8, "read": 0.7}, take={"think": {"look": 0.7}})),
    "undo": (UNDO, Given({"pay": 0.8, "keyed": 0.7, "read": 0.6, "back": 0.9, "told": 0.8}, crash=0.05)),
}
