"""Cases of the suite that are left out, one by one, with the reason. The key is (file, section, expression)."""

from __future__ import annotations

EXCLUDED: dict[tuple[str, str, str], str] = {}
