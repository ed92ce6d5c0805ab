"""Who is the same person, where a rule wants two, or another one than whoever started the run.

Names come from outside. Two that people read alike are one person here: that denies more, and never less.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1024)
def one_name(name: str) -> str:
    """The name by which a person is compared: however it is capitalised, composed or spaced, and without what cannot be
    seen. Empty where nothing is left, which names nobody."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join("".join(c for c in folded if unicodedata.category(c) != "Cf").split())


def name_of(person: Mapping[str, Any], field: str = "by") -> str:
    """Of a person as approvals (`by`) and principals (`id`) have them: the name to be compared."""
    name = person.get(field)
    return "" if name is None else one_name(str(name))
