"""Build hook: compiles the grammar, so that an installed `jam` need not do it at its first start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileGrammar(BuildHookInterface):  # type: ignore[type-arg]
    """Adds `jamjet_dsl/grammar/jam.grammar.bin` to the wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        sys.path.insert(0, self.root)
        from jamjet_dsl.syntax.compile_grammar import compile_to_bytes

        target = Path(self.directory) / "jam.grammar.bin"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(compile_to_bytes((Path(self.root) / "grammar" / "jam.lark").read_text(encoding="utf-8")))
        build_data["force_include"][str(target)] = "jamjet_dsl/grammar/jam.grammar.bin"
