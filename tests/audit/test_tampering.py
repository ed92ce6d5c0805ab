"""Whatever is changed of a record is found, and the event is named: in the database and in a bundle.

Only the last event of an append has its hash in the database. What is changed there is told as the events of its
append, to the event where it stood alone; a bundle has every hash, and names the event itself.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from jamjet_dsl.engine.audit import bundle as bundles
from jamjet_dsl.engine.audit.bundle import export
from jamjet_dsl.engine.audit.chain import Finding, follow
from jamjet_dsl.engine.audit.heads import Head, HeadLog, Signed, read_heads
from jamjet_dsl.engine.audit.verify import Verdict, verify, verify_all
from jamjet_dsl.store.reading import Row
from jamjet_dsl.store.sqlite import SqliteStore
from tests.audit.evidence import Evidence, append_of, put, resum, rewritten, rows_of


def verdicts(found: Evidence, signed: bool = True) -> dict[str, Verdict]:
    """What is found of every run."""
    store = SqliteStore(found.db, read_only=True)
    try:
        return {v.run_id: v for v in verify_all(store, heads_of(found) if signed else None)}
    finally:
        store.close()


def verdict_of(found: Evidence, run_id: str) -> Verdict:
    """What is found of one run, by its chain alone."""
    store = SqliteStore(found.db, read_only=True)
    try:
        return verify(store, run_id, None)
    finally:
        store.close()


def heads_of(found: Evidence) -> Signed:
    """The signed heads."""
    return read_heads(str(found.heads), [found.key.public])


def named(verdict: Verdict, seq: int) -> Finding:
    """The first finding, which must name the event."""
    assert verdict.findings, f"the change of event {seq} was not found"
    finding = verdict.findings[0]
    assert finding.seq <= seq <= finding.last, finding
    assert str(finding.seq) in finding.message
    return finding


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with one bit of one of them changed: another bit for each place."""
    return data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]


def head_of(rows: Sequence[Row]) -> bytes:
    """The hash of the last event."""
    own = rows[-1].hash
    assert isinstance(own, bytes)
    return own


# ---- every field, every byte


def test_what_nobody_changed_is_as_it_was_written(pristine: Evidence) -> None:
    for run in verdicts(pristine).values():
        assert run.sound
        assert run.events == run.signed_to > 20
    rows = rows_of(pristine.db, "one")
    assert {"intent", "succeeded", "denied", "fact", "asked", "answered", "snapshot", "finished"} <= {
        row.kind for row in rows
    }
    assert any(row.hash is None for row in rows), "some append has several events"


def test_every_byte_of_every_body(pristine: Evidence) -> None:
    rows = rows_of(pristine.db, "one")
    changes = 0
    for index, row in enumerate(rows):
        first, last = append_of(rows, row.seq)
        for at in range(len(row.body)):
            changed = [*rows[:index], row._replace(body=flipped(row.body, at)), *rows[index + 1 :]]
            finding = follow("one", changed, head_of(rows)).finding
            assert finding is not None, (row.seq, at)
            assert first <= finding.seq <= row.seq <= finding.last <= last, finding
            changes += 1
    assert changes > 2_000


def test_every_byte_of_every_stored_hash(pristine: Evidence) -> None:
    rows = rows_of(pristine.db, "one")
    for index, row in enumerate(rows):
        for at in range(len(row.hash or b"")):
            changed = [*rows[:index], row._replace(hash=flipped(row.hash, at)), *rows[index + 1 :]]
            finding = follow("one", changed, head_of(rows)).finding
            assert finding is not None
            assert (finding.seq, finding.field) == (row.seq, "hash"), finding


OTHERS: dict[str, list[Callable[[Any], Any]]] = {
    "seq": [lambda seq: seq + 1000, lambda seq: -seq, lambda seq: float(seq) + 0.5, lambda seq: 0],
    "at_ms": [lambda at: at + 1, lambda at: at - 1, lambda at: 0, str, lambda at: 2**62],
    "kind": [lambda kind: kind + "x", lambda kind: "moved" if kind != "moved" else "retry", str.upper, str.encode],
    "body": [lambda body: body + b" ", lambda body: body[:-1], lambda body: b"{}", lambda body: body.decode()],
    "hash": [lambda own: bytes(32), lambda own: (own or b"") + b"0", lambda own: (own or bytes(32)).hex()],
}


@pytest.mark.parametrize("field", OTHERS)
def test_every_field_of_every_event_in_the_database(pristine: Evidence, tmp_path: Path, field: str) -> None:
    found = pristine.copy(tmp_path)
    rows = rows_of(found.db, "one")
    for row in rows:
        first, last = append_of(rows, row.seq)
        for other in OTHERS[field]:
            value = other(getattr(row, field))
            # SQLite makes a number of a text that is one, where the column is to hold numbers.
            if field == "at_ms" and isinstance(value, str):
                value = f"{value} ms"
            with sqlite3.connect(found.db) as connection:
                run, old = connection.execute(
                    f"SELECT e.run, e.{field} FROM events e JOIN runs r USING (run) WHERE run_id = 'one' AND seq = ?",
                    (row.seq,),
                ).fetchone()
                connection.execute(f"UPDATE events SET {field} = ? WHERE run = ? AND seq = ?", (value, run, row.seq))
            finding = named(verdict_of(found, "one"), row.seq)
            assert first <= finding.seq <= finding.last <= last or field == "seq", (finding, value)
            with sqlite3.connect(found.db) as connection:
                at = (value if field == "seq" else row.seq, run)
                connection.execute(f"UPDATE events SET {field} = ? WHERE seq = ? AND run = ?", (old, *at))
    assert all(verdict.sound for verdict in verdicts(found).values()), "every change was taken back"


# ---- events that are missing, added, moved


def shapes(rows: list[Row], other: list[Row]) -> dict[str, list[Row]]:
    """Changed journals. Numbers are given anew wherever that makes it harder."""

    def numbered(events: Sequence[Row]) -> list[Row]:
        return [row._replace(seq=seq) for seq, row in enumerate(events, 1)]

    found: dict[str, list[Row]] = {}
    for i, row in enumerate(rows):
        found[f"{row.seq} deleted"] = rows[:i] + rows[i + 1 :]
        found[f"{row.seq} put in twice"] = numbered(rows[: i + 1] + rows[i:])
        found[f"{row.seq} of another run put in"] = numbered([*rows[:i], other[i], *rows[i:]])
        found[f"{row.seq} swapped with that of another run"] = [*rows[:i], other[i], *rows[i + 1 :]]
        found[f"cut before {row.seq}"] = rows[:i]
        if i + 1 < len(rows):
            found[f"{row.seq} deleted, the rest numbered"] = numbered(rows[:i] + rows[i + 1 :])
            found[f"{row.seq} and the next changed places"] = numbered([*rows[:i], rows[i + 1], row, *rows[i + 2 :]])
            found[f"from {row.seq} on it is another run"] = rows[:i] + other[i:]
    return found


def test_deleted_inserted_reordered_truncated_swapped(pristine: Evidence) -> None:
    rows, other = rows_of(pristine.db, "one"), rows_of(pristine.db, "two")
    for name, events in shapes(rows, other).items():
        wrong = next((seq for seq, (a, b) in enumerate(zip(events, rows, strict=False), 1) if a != b), 0)
        wrong = wrong or min(len(events), len(rows)) + 1
        chain = follow("one", events, head_of(rows), rows[-1].seq)
        if name.startswith(("cut", f"{len(rows)} deleted")) and (not events or events[-1].hash is not None):
            # What ends where an append ended is sound so far: the run's row says that it is not all (see below).
            assert (chain.finding, len(chain.hashes)) == (None, len(events)), name
            continue
        assert chain.finding is not None, name
        assert chain.finding.seq <= wrong <= chain.finding.last, (name, chain.finding)


def test_truncated_in_the_database(found: Evidence) -> None:
    rows = rows_of(found.db, "one")
    for end in range(len(rows) - 1, 0, -1):
        put(found.db, "one", rows[:end], own_row=False)
        finding = named(verdicts(found, signed=False)["one"], end + 1)
        assert (finding.field, finding.last) == ("seq", len(rows))


def test_truncated_behind_a_signed_head_by_somebody_who_mends_the_rest(found: Evidence) -> None:
    """The chain alone cannot tell: it says so only with the signed heads."""
    rows = rows_of(found.db, "one")
    for end in range(len(rows) - 1, 1, -1):
        put(found.db, "one", rewritten("one", rows[:end]))
        alone = [f for f in verdicts(found, signed=False)["one"].findings if f.field != "status"]
        assert not alone, alone
        finding = next(f for f in verdicts(found)["one"].findings if f.code == "JAMR108")
        assert (finding.seq, finding.field) == (end + 1, "seq")
        assert finding.line, "the line that signed what is gone"


def test_forked_or_changed_by_somebody_who_computes_every_hash_anew(found: Evidence) -> None:
    rows = rows_of(found.db, "one")
    for index, row in enumerate(rows):
        body = json.loads(row.body)
        body["forged"] = True
        changed = row._replace(body=json.dumps(body, separators=(",", ":")).encode())
        put(found.db, "one", rewritten("one", [*rows[:index], changed, *rows[index + 1 :]]))
        findings = [f for f in verdicts(found)["one"].findings if f.code == "JAMR108"]
        assert (findings[0].seq, findings[0].last, findings[0].field) == (row.seq, row.seq, "hash")


def test_a_history_that_was_rewritten_and_then_signed_again_is_told_by_the_earlier_head(found: Evidence) -> None:
    rows = rows_of(found.db, "one")
    again = rewritten("one", [*rows[:9], rows[9]._replace(at_ms=rows[9].at_ms + 1), *rows[10:]])
    at_ms = again[9].at_ms
    again = rewritten("one", [row._replace(at_ms=max(row.at_ms, at_ms if row.seq > 9 else 0)) for row in again])
    put(found.db, "one", again)
    HeadLog(found.heads, found.key).append([Head("one", len(again), head_of(again).hex())], at_ms)
    verdict = verdicts(found)["one"]
    assert [f.code for f in verdict.findings[:2]] == ["JAMR108", "JAMR108"]
    assert (verdict.findings[0].seq, verdict.findings[0].field) == (10, "hash")
    assert "forked" in verdict.findings[1].message


# ---- what stands beside the journal


def test_runs_that_changed_names_or_are_gone(found: Evidence) -> None:
    with sqlite3.connect(found.db) as connection:
        for old, new in (("one", "x"), ("two", "one"), ("x", "two")):
            connection.execute("UPDATE runs SET run_id = ? WHERE run_id = ?", (new, old))
        for (run,) in connection.execute("SELECT run FROM runs").fetchall():
            resum(connection, run)
    both = verdicts(found)
    assert (both["one"].findings[0].seq, both["two"].findings[0].seq) == (1, 1)
    with sqlite3.connect(found.db) as connection:
        for table in ("events", "snapshots", "questions", "inbox", "dedupe", "erasable", "runs"):
            connection.execute(f"DELETE FROM {table} WHERE run = 1")
        connection.execute("INSERT INTO gone VALUES ('two', 'run', 0)")
    gone = verdicts(found)["two"]
    assert "nobody signed that" in gone.findings[0].message


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ("UPDATE definitions SET canonical = canonical || x'20'", "definition"),
        ("UPDATE programs SET side = side || x'20'", "source"),
        ("UPDATE snapshots SET state = CAST(state || x'20' AS BLOB)", "snapshot"),
        ("UPDATE snapshots SET seq = seq - 1", "snapshot"),
        ("UPDATE runs SET head = zeroblob(32)", "head"),
        ("UPDATE runs SET last_seq = last_seq + 1", "seq"),
        ("UPDATE runs SET last_seq = last_seq - 1", "seq"),
        ("UPDATE runs SET agent = 'other'", "agent"),
        ("UPDATE runs SET parent = 'other'", "parent"),
        ("UPDATE runs SET status = 'failed'", "status"),
        ("UPDATE runs SET status = 'running'", "status"),
        ("UPDATE questions SET by = 'eve'", "caches"),
        ("UPDATE questions SET run = 3 - run", "caches"),
        ("DELETE FROM questions", "caches"),
        ("UPDATE events SET hash = NULL WHERE kind = 'finished'", "hash"),
        ("INSERT INTO events (run, seq, at_ms, kind, body) VALUES (1, 0, 0, 'x', x'7b7d'), (2, 0, 0, 'x', '')", "seq"),
        ("INSERT INTO events (run, seq, at_ms, kind, body) SELECT run, last_seq + 1, 9e15, 'x', x'7b7d' FROM runs", ""),
    ],
)
def test_what_the_journal_is_compared_with(found: Evidence, statement: str, field: str) -> None:
    with sqlite3.connect(found.db) as connection:
        connection.execute(statement)
        for (run,) in connection.execute("SELECT run FROM runs").fetchall():
            resum(connection, run)
    for name in ("one", "two"):
        fields = {finding.field for finding in verdicts(found, signed=False)[name].findings}
        assert fields, statement
        assert not field or field in fields


def test_a_stored_hash_that_is_taken_away_takes_no_evidence_with_it(found: Evidence) -> None:
    """The next hash covers the same events: a change of one of them is found all the same."""
    rows = rows_of(found.db, "one")
    fewer = [row._replace(hash=None) if row.seq == 3 else row for row in rows]
    assert rows[2].hash is not None
    assert follow("one", fewer, head_of(rows)).finding is None
    changed = [row._replace(body=row.body + b" ") if row.seq == 2 else row for row in fewer]
    finding = follow("one", changed, head_of(rows)).finding
    assert finding is not None
    assert finding.seq <= 2 <= finding.last


# ---- bundles


@pytest.fixture(scope="module")
def bundle(pristine: Evidence, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a good bundle of `one`."""
    path = tmp_path_factory.mktemp("bundle") / "one.jsonl"
    store = SqliteStore(pristine.db, read_only=True)
    try:
        verdict = export(store, "one", path, heads_of(pristine), [pristine.key.public])
    finally:
        store.close()
    assert verdict.sound
    return path.read_bytes()


def checked(data: bytes, found: Evidence) -> Verdict:
    return bundles.check_bytes(data, [found.key.public])


def events_in(data: bytes) -> dict[int, tuple[int, int]]:
    """Where each event's line begins and ends."""
    found, start = {}, 0
    for line in data.splitlines(keepends=True):
        item = json.loads(line)
        if "seq" in item:
            found[item["seq"]] = start, start + len(line)
        start += len(line)
    return found


def test_a_good_bundle(bundle: bytes, pristine: Evidence) -> None:
    verdict = checked(bundle, pristine)
    assert verdict.sound
    assert verdict.events == verdict.signed_to == len(events_in(bundle))


def test_every_byte_of_a_bundle(bundle: bytes, pristine: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    # Lines that were not changed are parsed once only.
    monkeypatch.setattr(bundles, "_item", lru_cache(None)(bundles._item))
    places = events_in(bundle)
    owner = {at: seq for seq, (start, end) in places.items() for at in range(start, end)}
    # Every byte of every event; of the program and the rest every seventh.
    for at in [at for at in range(len(bundle)) if at in owner or at % 7 == 0]:
        verdict = checked(flipped(bundle, at), pristine)
        assert not verdict.sound, at
        if at in owner:
            finding = verdict.findings[0]
            # A line feed that is gone joins two lines: the first of them is named.
            assert finding.seq == owner[at] or (finding.seq == owner[at] + 1 and finding.field == "prev_hash"), (
                at,
                finding,
            )


def test_lines_of_a_bundle_deleted_doubled_moved_cut(bundle: bytes, pristine: Evidence) -> None:
    lines = bundle.splitlines(keepends=True)
    for i, line in enumerate(lines):
        seq = json.loads(line).get("seq")
        key = "key_id" in json.loads(line)
        others = [
            lines[:i] + lines[i + 1 :],
            lines[: i + 1] + lines[i:],
            [*lines[:i], *lines[i + 1 : i + 2], line, *lines[i + 2 :]],
        ]
        for changed in others:
            if changed == lines:
                continue
            verdict = checked(b"".join(changed), pristine)
            assert not verdict.sound, i
            if seq is not None and i + 1 < len(lines) - 1:
                assert verdict.findings[0].seq in (seq, seq + 1), (verdict.findings[0], seq)
        assert not checked(b"".join(lines[:i]), pristine).sound or key


def test_what_stands_before_the_events_cannot_be_changed_and_sealed_again(bundle: bytes, pristine: Evidence) -> None:
    from hashlib import sha256

    end = min(start for start, _ in events_in(bundle).values())
    rest = bundle[end : bundle.rindex(b'{"sha256"')]
    for at in range(0, end, 7):
        changed = flipped(bundle[:end], at) + rest
        sealed = changed + b'{"sha256":"%s"}\n' % sha256(changed).hexdigest().encode()
        assert not checked(sealed, pristine).sound, at


def test_a_bundle_made_anew_by_somebody_without_the_key(bundle: bytes, pristine: Evidence) -> None:
    """The last event is cut off and everything is computed anew: only the signed head tells."""
    from hashlib import sha256

    lines = bundle.splitlines(keepends=True)
    before = json.loads(lines[-3])
    header = {**json.loads(lines[0]), "events": before["seq"], "head": before["hash"]}
    changed = [json.dumps(header, separators=(",", ":")).encode() + b"\n", *lines[1:-2]]

    def ended(parts: list[bytes]) -> bytes:
        return b"".join([*parts, b'{"sha256":"%s"}\n' % sha256(b"".join(parts)).hexdigest().encode()])

    verdict = checked(ended(changed), pristine)
    assert [(f.code, f.seq, f.field) for f in verdict.findings] == [("JAMR108", before["seq"] + 1, "seq")]
    unsigned = checked(ended([line for line in changed if b'{"signed"' not in line[:12]]), pristine)
    assert [(f.code, f.field) for f in unsigned.findings] == [("JAMR108", "signed")]
