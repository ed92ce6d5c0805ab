"""Odds of a program: what comes of it, and at what cost, as an absorbing Markov chain.

The chain is made by the kernel itself. `skeleton` takes the data out of a definition and leaves what decides its way:
states, edges, limits, retries, budgets, effects. `world` drives the kernel over that, one random choice at a time;
`chain` follows every choice and merges what the kernel cannot tell apart, `sample` follows one at random. `solve` is
the arithmetic on the chain, `results` what is told of it, `assumed`, `inputs` and `fit` are where the odds of a single
choice come from, and `plot` draws.
"""
