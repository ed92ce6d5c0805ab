"""The coverage-guided process that `tests.fuzz.run` starts: atheris over the oracle, with mutations of tokens.

Its arguments are libFuzzer's. A failing input does not end it: it is printed, kept, and the search goes on.
"""

from __future__ import annotations

import random
import sys

import atheris


def main() -> None:
    """Fuzz until libFuzzer has had its time. Does not return."""
    with atheris.instrument_imports(include=["jamjet_dsl"]):
        from tests.fuzz.mutate import Mutator, seeds
        from tests.fuzz.run import Campaign

    campaign = Campaign()
    mutator = Mutator(seeds())

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        # One in five by libFuzzer itself, which knows the constants that the code compares with.
        if rng.random() < 0.2:
            return bytes(atheris.Mutate(data, max_size))
        return mutator(data, rng, max_size)

    atheris.Setup(sys.argv, campaign.check, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
