"""Tests that cover an agent, found by trying its runs in simulated time.

`search` tries runs, guided by what is not passed yet; `wishes` reads from guards which values would matter; `values`
draws and changes them; `smallest` chooses few of the runs and makes each small; `blocks` writes them as `test` blocks.
"""
