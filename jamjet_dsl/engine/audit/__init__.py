"""The audit trail: the journal read as evidence.

Nothing is stored twice. `records` derives who did what, by which rule, from the journal; `check` says whether a journal
is the one that was written, `heads` and `witness` sign where runs stand in a file kept apart from the database, and
`bundle` writes all of it down for somebody who has nothing of ours. docs/audit.md explains it to those who check.
"""
