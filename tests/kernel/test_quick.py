"""Quick readers: whatever they read, the careful reader reads just so, and they never share what they were given."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.definition import (
    Definition,
    Enum,
    EnumType,
    FieldDef,
    ListType,
    MapType,
    MoneyType,
    OptionalType,
    Record,
    RecordType,
    Scalar,
    SecretType,
)
from jamjet_dsl.kernel import convert, quick
from jamjet_dsl.kernel import values as values_of
from jamjet_dsl.kernel.quick import ITEMS, MISS, TEXT, reader_of
from jamjet_dsl.kernel.values import Duration, Money, Timestamp, from_journal, from_public, to_journal
from tests.kernel.test_expr_values import AGENT, identical, values

STRING, INT = Scalar(kind="string"), Scalar(kind="int")
LOOP = OptionalType(item=RecordType(name="Node"))
DEFN = Definition(
    main="a",
    agents={"a": AGENT},
    records={
        "Pair": Record(fields=(FieldDef(name="n", type=INT), FieldDef(name="s", type=OptionalType(item=STRING)))),
        "Node": Record(fields=(FieldDef(name="n", type=INT), FieldDef(name="next", type=LOOP))),
    },
    enums={"Colour": Enum(members=("red", "green"))},
)
scalar_types = st.sampled_from(
    [
        *(Scalar(kind=kind) for kind in ("bool", "int", "uint", "float", "string", "bytes", "decimal", "null", "any")),
        Scalar(kind="duration"),
        Scalar(kind="timestamp"),
        Scalar(kind="int", low=0, high=9),
        Scalar(kind="float", low=0.0, high=0.5),
        MoneyType(),
        MoneyType(currency="USD"),
        MoneyType(currency="USD", low="1.00"),
        EnumType(name="Colour"),
        RecordType(name="Pair"),
        RecordType(name="Node"),
    ]
)
types = st.recursive(
    scalar_types,
    lambda inner: st.one_of(
        st.builds(lambda item: OptionalType(item=item), inner),
        st.builds(lambda item: SecretType(item=item), inner),
        st.builds(lambda item: MapType(key=STRING, value=item), inner),
        st.builds(lambda item, low: ListType(item=item, low=low, high=3), inner, st.sampled_from([None, 0, 1])),
    ),
    max_leaves=3,
)
data = st.recursive(
    st.one_of(
        st.sampled_from(["red", "blue", "", "é", "\ud800", "x" * (TEXT + 1), True, None, 10, -1, 2**63, 0.5, 1.0]),
        st.sampled_from([Money(1, "USD"), Money(1, "EUR"), Duration(5), Timestamp(5), "1.00 USD", {"n": 1}]),
        st.builds(lambda n, s: {"n": n, "s": s}, st.integers(-3, 12), st.sampled_from(["a", None, 1])),
        st.builds(lambda n: {"n": 1, "next": n}, st.sampled_from([None, {"n": 2, "next": None}, {"n": "2"}])),
        st.integers(-3, 12),
        st.floats(),
        st.text(max_size=4),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ns"), inner, max_size=2),
    max_leaves=6,
)


def carefully(given: Any, type: Any) -> tuple[Any, list[str]]:
    """What the careful reader says."""
    problems: list[str] = []
    reader = convert._Reader(DEFN, problems)
    return reader.read(given, type, "x", 0), problems


@settings(max_examples=1500, deadline=None)
@given(data, types)
def test_what_is_read_quickly_is_what_is_read_with_care(value: Any, type: Any) -> None:
    before = copy.deepcopy(value)
    found = reader_of(type, DEFN)(value)
    assert identical(value, before)
    slow, problems = carefully(value, type)
    if found is MISS:
        return
    assert not problems
    assert identical(found, slow)


@settings(max_examples=500, deadline=None)
@given(data, types)
def test_reading_says_the_same_with_and_without_quick_readers(value: Any, type: Any) -> None:
    problems: list[str] = []
    found = from_public(value, type, DEFN, "x", problems)
    slow, wanted = carefully(value, type)
    assert problems == wanted
    assert wanted or identical(found, slow)


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (RecordType(name="Pair"), {"n": 1, "s": "a"}),
        (ListType(item=STRING), ["a", "b"]),
        (ListType(item=RecordType(name="Pair")), [{"n": 1, "s": None}]),
        (OptionalType(item=EnumType(name="Colour")), "red"),
        (MoneyType(currency="USD"), Money(1, "USD")),
        (Scalar(kind="int", low=0, high=9), 9),
    ],
)
def test_plain_values_are_read_quickly_into_containers_of_their_own(type: Any, value: Any) -> None:
    found = reader_of(type, DEFN)(value)
    assert found == value
    assert not isinstance(value, dict | list) or found is not value


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (STRING, "x" * (TEXT + 1)),
        (STRING, "é"),
        (ListType(item=INT), [1] * (ITEMS + 1)),
        (ListType(item=INT, low=2), [1]),
        (INT, True),
        (INT, 2**63),
        (RecordType(name="Pair"), {"n": 1}),
        (RecordType(name="Node"), {"n": 1, "next": None}),
        (SecretType(item=STRING), "s"),
        (ListType(item=ListType(item=STRING)), [["a"]]),
    ],
)
def test_what_needs_care_is_left_to_the_careful_reader(type: Any, value: Any) -> None:
    assert reader_of(type, DEFN)(value) is MISS


def test_readers_of_many_types_and_definitions_do_not_pile_up() -> None:
    for n in range(quick._MOST_TYPES + 5):
        assert reader_of(Scalar(kind="int", low=0, high=n), DEFN)(n) == n
    assert len(quick._SHELVES[id(DEFN)]._readers) <= quick._MOST_TYPES
    for _ in range(quick._MOST_SHELVES + 5):
        reader_of(INT, DEFN.model_copy())
    assert len(quick._SHELVES) <= quick._MOST_SHELVES


@settings(max_examples=300, deadline=None)
@given(values)
def test_forms_without_tags_are_shared_and_others_are_read(value: Any) -> None:
    form = to_journal(value)
    before = copy.deepcopy(form)
    found = from_journal(form)
    assert identical(found, values_of._untagged(form))
    assert identical(form, before)
    assert found is form or form is not value
