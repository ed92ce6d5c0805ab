"""What holds for every test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from jamjet_dsl.store import chain

if hypothesis.settings.get_current_profile_name() != "mutation":
    # The suite says the same of the same code each time. What looks further is a campaign, and prints its seeds.
    hypothesis.settings.register_profile("suite", database=None, deadline=None)
    hypothesis.settings.load_profile("suite")


@pytest.fixture(autouse=True, scope="session")
def _nothing_but_json_is_stored() -> Iterator[None]:
    """The serializer of the store would also take dates, sets, bytes and decimals. Nothing of the kind may reach it:
    what is read again would not be what was written."""
    quick = chain.to_json

    def checked(tree: Any) -> bytes:
        data = quick(tree)
        try:
            text = json.dumps(tree, ensure_ascii=False, separators=(",", ":"))
        except TypeError as error:
            raise AssertionError(f"{tree!r} is no JSON, and was about to be stored") from error
        assert data == text.encode()
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "to_json", checked)
        yield
