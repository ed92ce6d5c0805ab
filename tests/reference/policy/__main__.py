"""The campaign: random policies and histories, until enough decisions were compared."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import count

from tests.reference.policy.compare import Tally, compare

CHUNK = 5


def campaign(decisions: int, seed: int, jobs: int, only: range | None = None) -> int:
    """Compares so many decisions and prints what came of it. 1 if any of them disagreed."""
    began, total = time.monotonic(), Tally()
    if only is not None:
        total = compare(only)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            todo = (range(start, start + CHUNK) for start in count(seed, CHUNK))
            running = {pool.submit(compare, next(todo)) for _ in range(jobs * 2)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for one in done:
                    total.add(one.result())
                    if total.decisions < decisions and len(total.wrong) < 20:
                        running.add(pool.submit(compare, next(todo)))
    for text in total.wrong[:6]:
        print(text, end="\n\n")
    print(
        f"{total.policies:,} policies ({total.refused:,} refused), {total.decisions:,} decisions compared "
        f"{total.verdicts}, {len(total.wrong)} disagreements in {time.monotonic() - began:.0f} s"
    )
    return 1 if total.wrong or not total.decisions else 0
