"""`./dev bench durable`: what a durable step costs here, on bare SQLite and in other engines, in one run.

Every measurement is a process of its own that prints one line of JSON; rounds are interleaved, so that a slow minute of
the machine meets everybody, and every ratio is taken between measurements of the same round. Nothing is asserted.

| module | what |
|---|---|
| `job` | the job that everybody does, its clock and its result line; only the standard library, for any environment |
| `floor`, `ours`, `peers/*` | one process each: SQLite alone, this engine, the others |
| `environments` | virtual environments of the peers, outside the repository |
| `steps`, `syncs`, `size`, `growth`, `kernel`, `waiting`, `long` | the parts: who is measured, and the tables |
"""
