"""`jam audit export`: one run, for somebody who has nothing of ours.

A bundle is a text file, one JSON object a line, in ASCII. In this order:

    {"jam":"bundle1","run":ID,"events":N,"head":HASH}
    {"definition":DIGEST,"text":…}            what ran, as canonical JSON: the digest is SHA-256 of the text
    {"source":DIGEST,"of":DEFINITION,"text":…}   its sources and spans: SHA-256 of DEFINITION, a line feed and the text
    {"key_id":ID,"public_key":PEM}
    {"signed":…}                              the newest line of the signed heads that names the run, as it stands there
    {"seq":…,"at_ms":…,"kind":…,"body":…,"prev":…,"hash":…}   each event; the body is the exact text that was hashed
    {"sha256":…}                              of all bytes before this line

Secret and redacted values are in it as the commitments that the journal holds. docs/audit.md says how to check it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.engine.audit.chain import Chain, Finding, follow
from jamjet_dsl.engine.audit.heads import Signed, check_lines
from jamjet_dsl.engine.audit.keys import Public, public
from jamjet_dsl.engine.audit.verify import Verdict, compare_with_heads, verify
from jamjet_dsl.store.chain import GENESIS, event_hash
from jamjet_dsl.store.reading import Row

if TYPE_CHECKING:
    from jamjet_dsl.store.sqlite import SqliteStore

FORM = "bundle1"
_HEADER = ("jam", "run", "events", "head")
_EVENT = ("seq", "at_ms", "kind", "body", "prev", "hash")
_PARTS = {
    "definition": ("definition", "text"),
    "source": ("source", "of", "text"),
    "key_id": ("key_id", "public_key"),
    "signed": ("signed",),
}
_ORDER = tuple(_PARTS)


def export(
    store: SqliteStore, run_id: str, path: str | Path, signed: Signed | None = None, keys: Sequence[Public] = ()
) -> Verdict:
    """Write the bundle of a run, under another name first: what is at `path` is a whole one. Returns what the run was
    found to be; one that is not as it was written is not exported.

    Raises JamError: JAMR201, JAMR109 for a file that cannot be written.
    """
    verdict = verify(store, run_id, signed)
    if not verdict.sound:
        return verdict
    part = f"{path}.part"
    try:
        with open(part, "wb") as file:
            digest = hashlib.sha256()
            for item in _items(store, verdict, signed, keys):
                line = _line(item)
                digest.update(line)
                file.write(line)
            file.write(_line({"sha256": digest.hexdigest()}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise JamError("JAMR109", f"{path} cannot be written: {reason}", "name another file") from None
    return verdict


def _line(item: dict[str, Any]) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode() + b"\n"


def _items(
    store: SqliteStore, verdict: Verdict, signed: Signed | None, keys: Sequence[Public]
) -> Iterator[dict[str, Any]]:
    run_id, rows = verdict.run_id, store.raw(verdict.run_id)
    yield {"jam": FORM, "run": run_id, "events": verdict.events, "head": verdict.head}
    events = [row for row in rows.events if row.seq <= verdict.events]
    pins = [json.loads(row.body) if row.seq == 1 else json.loads(row.body)["to"] for row in events if _names(row)]
    for digest in dict.fromkeys(str(pin["definition"]) for pin in pins):
        yield {"definition": digest, "text": store.definition(digest).decode()}
    for source, of in dict.fromkeys((str(pin["source"]), str(pin["definition"])) for pin in pins):
        yield {"source": source, "of": of, "text": store.side(source).decode()}
    for key in keys:
        yield {"key_id": key.id, "public_key": key.pem}
    if signed is not None and verdict.signed_to:
        yield {"signed": _signed_line(signed, signed.runs[run_id][verdict.signed_to].line)}
    prev = GENESIS
    for row in events:
        own = event_hash(run_id, row.seq, row.at_ms, row.kind, row.body, prev)
        body = row.body.decode()
        yield {"seq": row.seq, "at_ms": row.at_ms, "kind": row.kind, "body": body, "prev": prev, "hash": own}
        prev = own
    if prev != verdict.head:
        raise JamError("JAMR107", f"the journal of {run_id} was changed while it was exported")


def _names(row: Row) -> bool:
    """Whether the event names a program."""
    return bool(row.seq == 1 or row.kind == "migrated")


def _signed_line(signed: Signed, number: int) -> str:
    with open(signed.path, "rb") as file:
        line = next(line for count, line in enumerate(file, 1) if count == number)
    return line.decode("ascii").removesuffix("\n")


# ---- checking


def check_bundle(path: str, keys: Sequence[Public]) -> Verdict:
    """Check a bundle to the byte. The keys are those that the caller trusts: one that the bundle brings along proves
    nothing. Raises JamError JAMR109 for a file that cannot be read."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise JamError("JAMR109", f"{path} cannot be read: {reason}", "name a bundle that was exported") from None
    return check_bytes(data, keys)


def check_bytes(data: bytes, keys: Sequence[Public]) -> Verdict:
    """As `check_bundle`, for what stands in one."""
    check = _Check(data.splitlines(keepends=True), keys)
    check.all()
    return check.verdict


class _Check:
    """One bundle, looked at once. `wrong` keeps the first thing that is wrong of each sort: events, then the rest."""

    def __init__(self, lines: list[bytes], keys: Sequence[Public]) -> None:
        self.lines = lines
        self.keys = keys
        self.items = [_item(line) for line in lines]
        header = self.items[0] if self.items else None
        self.header = header if header is not None and tuple(header) == _HEADER and header["jam"] == FORM else None
        self.verdict = Verdict(str(self.header["run"]) if self.header is not None else "")

    def all(self) -> None:
        """Check everything."""
        if self.header is None:
            self._wrong("JAMR109", 0, "header", "line 1 is not how a bundle begins")
            return
        first = next((n for n, item in enumerate(self.items) if item is not None and "seq" in item), len(self.items))
        chain = self._events(first)
        self.verdict.events, self.verdict.head = len(chain.hashes), chain.head
        if chain.finding is not None:
            self.verdict.findings.append(chain.finding)
        self._parts(self.items[1:first], chain)
        if self.keys and self.verdict.signed_to is None:
            self._wrong("JAMR108", 0, "signed", "no signed head is in it")
        self._trailer()

    def _events(self, first: int) -> Chain:
        run_id, rows = self.verdict.run_id, self.items[first:-1]
        chain = follow(run_id, _rows(rows))
        if chain.finding is None:
            prev = GENESIS
            for seq, item in enumerate(rows, 1):
                if item is None or item["prev"] != prev:
                    chain.wrong(seq, "prev_hash", "it names another hash than that of the event before it")
                    break
                prev = item["hash"]
        assert self.header is not None
        events = len(chain.hashes)
        if chain.finding is None and self.header["events"] != events:
            known = self.header["events"]
            last = known if type(known) is int and known > events else events
            chain.wrong(min(events, known if type(known) is int else events) + 1, "seq", f"there are {events}", last)
        elif chain.finding is None and self.header["head"] != chain.head:
            chain.wrong(events, "head", "the first line has another hash for it")
        return chain

    def _parts(self, parts: Iterable[dict[str, Any] | None], chain: Chain) -> None:
        """What stands before the events: nothing but what is written there, in that order, each once."""
        texts: dict[str, str] = {}
        of: dict[str, str] = {}
        before = -1
        known: set[tuple[str, str]] = set()
        for number, item in enumerate(parts, 2):
            name = next(iter(item), "") if item is not None else ""
            rank = _ORDER.index(name) if name in _PARTS else -1
            fits = item is not None and tuple(item) == _PARTS.get(name) and all(type(v) is str for v in item.values())
            one = (name, "" if name == "signed" or item is None else item.get(name, ""))
            if item is None or not fits or rank < before or one in known:
                self._wrong("JAMR109", number, "form", f"line {number} is none of a bundle, or stands in a wrong place")
                continue
            before = rank
            known.add(one)
            if name == "signed":
                self._heads(number, item["signed"], chain)
            elif name == "definition":
                texts[item["definition"]] = item["text"]
            elif name == "source":
                texts[item["source"]], of[item["source"]] = f"{item['of']}\n{item['text']}", item["of"]
            elif not _is_key(item):
                self._wrong("JAMR109", number, "public_key", f"line {number} holds no key of that id")
        for digest, text in texts.items():
            if hashlib.sha256(text.encode()).hexdigest() != digest:
                self._wrong("JAMR107", 1, "definition", f"what stands under the digest {digest[:12]} was changed")
        for seq, pin in chain.pins:
            self.verdict.definition = str(pin.get("definition", ""))
            if pin.get("definition") not in texts or of.get(str(pin.get("source"))) != pin.get("definition"):
                self._wrong("JAMR107", seq, "definition", f"the program that event {seq} names is not in the bundle")
        for digest in texts.keys() - {str(pin.get(name)) for _, pin in chain.pins for name in ("definition", "source")}:
            self._wrong("JAMR107", 1, "definition", f"no event names the program {digest[:12]}")

    def _heads(self, number: int, line: str, chain: Chain) -> None:
        if not self.keys:
            return
        signed = check_lines(f"the bundle (line {number})", [line.encode("utf-8", "replace") + b"\n"], self.keys)
        # What stood before this line in the file is not here: only its own signature is looked at.
        for finding in signed.findings:
            if finding.field != "prev" and finding.field != "torn":
                self._wrong("JAMR109", 0, finding.field, finding.message)
        compare_with_heads(self.verdict, chain, signed.runs.get(self.verdict.run_id, {}))
        self.verdict.unwitnessed = []

    def _trailer(self) -> None:
        last = self.items[-1]
        digest = hashlib.sha256(b"".join(self.lines[:-1])).hexdigest()
        if last is None or tuple(last) != ("sha256",):
            self._wrong("JAMR109", 0, "sha256", "the last line is not how a bundle ends")
        elif last["sha256"] != digest:
            self._wrong("JAMR109", 0, "sha256", "its bytes are not those that were written")

    def _wrong(self, code: str, seq: int, field: str, why: str) -> None:
        message = f"the bundle of {self.verdict.run_id}: {why}" if self.verdict.run_id else f"the bundle: {why}"
        self.verdict.findings.append(Finding(code, self.verdict.run_id, seq, seq, field, message))


def _item(line: bytes) -> dict[str, Any] | None:
    """A line of a bundle, if it is to the byte of the form that is written; else None."""
    try:
        item = json.loads(line.decode("ascii"))
        return item if isinstance(item, dict) and _line(item) == line else None
    except (ValueError, RecursionError):
        return None


def _is_key(item: dict[str, Any]) -> bool:
    """Whether a public key is the one that its id says. Whose it is, no bundle can prove."""
    try:
        key = public(item["public_key"].encode(), "the bundle")
    except JamError:
        return False
    return (key.id, key.pem) == (item["key_id"], item["public_key"])


def _rows(items: Iterable[dict[str, Any] | None]) -> Iterator[Row]:
    for item in items:
        if item is None or tuple(item) != _EVENT:
            yield Row(None, None, None, None, None)
            return
        try:
            body: Any = item["body"].encode()
            own: Any = bytes.fromhex(item["hash"]) if type(item["hash"]) is str else b""
        except (AttributeError, ValueError):
            body, own = item["body"] if type(item["body"]) is not str else None, b""
        if item["hash"] != own.hex():
            own = b""
        yield Row(item["seq"], item["at_ms"], item["kind"], body, own)
