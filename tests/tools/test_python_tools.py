"""Finding, binding and calling Python functions."""

from __future__ import annotations

import asyncio
import datetime
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl import Engine, JamError, Money, ToolContext, compile_text
from jamjet_dsl.definition import Compiled, Tool
from jamjet_dsl.kernel.values import Duration, Timestamp, parse_timestamp
from jamjet_dsl.ports import ToolError
from jamjet_dsl.store.memory import MemoryStore
from jamjet_dsl.tools.python import as_tool_error, by_name, load, to_python
from jamjet_dsl.tools.threads import Threads


def using(via: str) -> Compiled:
    return compile_text(f"""
tool work(n: int) -> int {{ effect reads  via python "{via}"  raises Odd }}
agent worker {{
  input n: int
  output n: int
  budget {{ steps 9  exceeded -> over }}
  policy {{ allow work }}
  start state one {{ call work(n) as m  on error any -> over  -> done }}
  final done {{ n = m }}
  failed over {{ n = -1 }}
}}""")


async def run(folder: Path, via: str, n: int = 1) -> dict[str, Any] | None:
    async with Engine(MemoryStore(), folder=folder) as jam:
        return (await (await jam.start(using(via), {"n": n})).wait()).output


async def refused(folder: Path, via: str) -> JamError:
    async with Engine(MemoryStore(), folder=folder) as jam:
        with pytest.raises(JamError) as caught:
            await jam.start(using(via), {"n": 1})
        assert jam.runs() == []
    return caught.value


async def test_a_module_beside_the_program_is_found_with_its_own_imports(tmp_path: Path) -> None:
    (tmp_path / "helper_of_tools.py").write_text("FACTOR = 3\n")
    (tmp_path / "tools.py").write_text("from helper_of_tools import FACTOR\ndef work(n):\n    return n * FACTOR\n")
    assert await run(tmp_path, "tools:work", 5) == {"n": 15}


async def test_a_function_may_import_its_neighbours_when_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "late_helper_of_tools.py").write_text("FACTOR = 4\n")
    (tmp_path / "tools.py").write_text(
        "def work(n):\n    from late_helper_of_tools import FACTOR\n    return n * FACTOR\n"
    )
    before = list(sys.path)
    assert await run(tmp_path, "tools:work", 5) == {"n": 20}
    assert sys.path == [*before, str(tmp_path)], "what is installed comes first"


async def test_two_programs_may_each_have_a_module_of_the_same_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tools.py").write_text(f"def work(n):\n    return ord('{name}')\n")
    assert await run(tmp_path / "a", "tools:work") == {"n": 97}
    assert await run(tmp_path / "b", "tools:work") == {"n": 98}


async def test_packages_methods_and_installed_modules_are_found(tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank" / "__init__.py").write_text(
        "class Desk:\n    @staticmethod\n    def work(n):\n        return n + 1\n"
    )
    assert await run(tmp_path, "bank:Desk.work", 1) == {"n": 2}
    assert load("math:isqrt", None)(10) == 3


@pytest.mark.parametrize(
    ("source", "via", "reason"),
    [
        (None, "missing_tools:work", "missing_tools"),
        ("def work(n:\n", "tools:work", "SyntaxError"),
        ("import not_there_at_all\n", "tools:work", "not_there_at_all"),
        ("raise RuntimeError('no database')\n", "tools:work", "no database"),
        ("raise SystemExit(3)\n", "tools:work", "SystemExit"),
        ("other = 1\n", "tools:work", "no function work"),
        ("work = 1\n", "tools:work", "no function work"),
        ("def work(n): ...\n", "tools", "module:function"),
        ("def work(n): ...\n", "../tools:work", "no name of a module"),
    ],
)
async def test_a_module_that_cannot_be_imported_is_named_with_the_reason(
    tmp_path: Path, source: str | None, via: str, reason: str
) -> None:
    if source is not None:
        (tmp_path / "tools.py").write_text(source)
    error = await refused(tmp_path, via)
    assert error.code == "JAMR304"
    assert reason in error.message + error.help


async def test_a_function_that_does_not_take_the_parameters_is_refused_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text("def work(m):\n    return m\n")
    error = await refused(tmp_path, "tools:work")
    assert error.code == "JAMR303"
    assert "work(m)" in error.details[0]


async def test_other_kinds_of_tools_are_refused_by_name(tmp_path: Path) -> None:
    program = compile_text("""
tool work(n: int) -> int { effect reads  via mcp bank "work" }
agent worker {
  output n: int
  budget { steps 9  exceeded -> over }
  policy { allow work }
  start state one { call work(1) as m  on error any -> over  -> done }
  final done { n = m }
  failed over { n = -1 }
}""")
    async with Engine(MemoryStore()) as jam:
        with pytest.raises(JamError) as caught:
            await jam.start(program, {})
        assert caught.value.code == "JAMR303"
        assert "via mcp comes with a later version" in caught.value.details[0]
    async with Engine(MemoryStore(), tools={"work": lambda n: n}) as jam:
        assert (await (await jam.start(program, {})).wait()).output == {"n": 1}


def test_functions_are_known_by_their_names() -> None:
    def refund() -> None: ...

    assert by_name([refund]) == {"refund": refund}
    assert by_name({"other": refund}) == {"other": refund}
    for bad in ([lambda: 1], [refund, refund], [3]):
        with pytest.raises(JamError) as caught:
            by_name(bad)  # type: ignore[arg-type]
        assert caught.value.code == "JAMR303"


def test_values_reach_python_as_python_has_them() -> None:
    assert to_python(Duration.of_ms(1500)) == datetime.timedelta(seconds=1.5)
    moment = parse_timestamp("2024-05-10T15:52:59.5Z")
    assert isinstance(moment, Timestamp)
    assert to_python(moment) == datetime.datetime(2024, 5, 10, 15, 52, 59, 500_000, tzinfo=datetime.UTC)
    money = Money(Decimal("1.50"), "USD")
    given = {"list": [money, Decimal("0.1")], "none": None}
    assert to_python(given) == given
    assert to_python(given) is not given


class Odd(Exception):
    pass


class VeryOdd(Odd):
    pass


@pytest.mark.parametrize(
    ("error", "name", "definite"),
    [
        (VeryOdd("x"), "Odd", None),
        (ToolError("Odd", "x"), "Odd", None),
        (ToolError("Timeout", "x"), "Timeout", None),
        (ToolError("Even", "x"), "Crashed", None),
        (TimeoutError(), "Timeout", None),
        (ConnectionRefusedError("x"), "Unavailable", True),
        (ConnectionResetError("x"), "Disconnected", None),
        (BrokenPipeError("x"), "Disconnected", None),
        (KeyError("x"), "Crashed", None),
    ],
)
def test_exceptions_become_the_errors_that_programs_know(error: Exception, name: str, definite: bool | None) -> None:
    found = as_tool_error(error, Tool(params=(), result=None, effect="reads", raises=("Odd",)))
    assert (found.name, found.definite) == (name, definite)


async def test_a_callable_object_and_a_function_that_returns_an_awaitable_are_tools() -> None:
    class Adder:
        async def __call__(self, n: int, ctx: ToolContext) -> int:
            return n + ctx.attempt

    async def inner(n: int) -> int:
        return n * 2

    for function, expected in ((Adder(), 2), (lambda n: inner(n), 2)):
        async with Engine(MemoryStore(), tools={"work": function}) as jam:
            assert (await (await jam.start(using("x:y"), {"n": 1})).wait()).output == {"n": expected}


async def test_threads_are_reused_and_never_keep_the_process() -> None:
    threads = Threads()
    names = set()
    for _ in range(20):
        names.add(await threads.run(lambda: threading.current_thread().ident))
    assert len(names) == 1
    assert await threads.run(lambda: threading.current_thread().daemon)
    gate = threading.Event()
    waiting = [threads.run(gate.wait) for _ in range(5)]
    assert await threads.run(lambda: "not behind the others") == "not behind the others"
    gate.set()
    await asyncio.gather(*waiting)
    threads.close()


async def test_a_full_pool_queues_and_loses_nothing() -> None:
    threads = Threads(most=2)
    results = await asyncio.gather(*(threads.run(lambda n=n: n) for n in range(50)))
    assert results == list(range(50))
    threads.close()
