"""What `import jamjet_dsl` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jamjet_dsl


@pytest.mark.parametrize("name", jamjet_dsl.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(jamjet_dsl, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        jamjet_dsl.nonsense  # noqa: B018
    assert dir(jamjet_dsl) == sorted(jamjet_dsl.__all__)


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import jamjet_dsl;"
        "new = set(sys.modules) - before - {'jamjet_dsl'};"
        "ours = {m for m in new if m.startswith('jamjet_dsl')};"
        "assert not ours | new & {'asyncio', 'sqlite3', 'json', 'inspect', 'pydantic'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_engine_imports_no_provider_and_no_database_tool() -> None:
    code = (
        "import sys; from jamjet_dsl import Engine; from jamjet_dsl.store.memory import MemoryStore;"
        "Engine(MemoryStore());"
        "heavy = {'pydantic_ai', 'openai', 'sqlite_utils', 'networkx', 'rich', 'click'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
