"""Checksums of rows that the hash chain does not cover.

SQLite has no checksum of its own for a page: a bit that flips on the disk changes a value without a word. Events are
found out by their hashes, definitions and snapshots by their digests, erasable values by their commitments. The rows
here carry a CRC-32 instead: it is made to find accidents. Whoever changes a row on purpose can make a sum to fit.
"""

from __future__ import annotations

from typing import Any, NoReturn
from zlib import crc32

from jamjet_dsl.diagnostics.errors import JamError


def row_sum(*parts: Any) -> int:
    """The checksum of a row with these values, bytes last. A value of another type gives another sum."""
    *texts, last = parts
    if type(last) is not bytes:
        return crc32("\n".join(map(repr, parts)).encode("utf-8", "surrogatepass"))
    return crc32(last, crc32("\n".join(map(repr, texts)).encode("utf-8", "surrogatepass")))


def damaged(what: str, help: str = "") -> NoReturn:
    """Raise the error for a row that is not what was written."""
    raise JamError("JAMR107", f"{what} was changed or damaged", help)
