"""Values as JSON: the journal form is lossless and canonical, the public form is read against a type."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from decimal import Decimal
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jamjet_dsl.definition import (
    Agent,
    BuiltinType,
    Definition,
    Enum,
    EnumType,
    FieldDef,
    Final,
    ListType,
    MapType,
    MoneyType,
    ObjectType,
    OptionalType,
    Record,
    RecordType,
    Region,
    Scalar,
    SecretType,
)
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel.scalars import BoolKey
from jamjet_dsl.kernel.values import (
    Duration,
    EvalError,
    Money,
    Timestamp,
    TypeValue,
    UInt,
    dumps_journal,
    from_journal,
    from_public,
    loads_public,
    map_keys,
    parse_duration,
    parse_money,
    parse_timestamp,
    to_journal,
    to_key,
    to_public,
)
from jamjet_dsl.money import money_text

STRING, INT, ANY = Scalar(kind="string"), Scalar(kind="int"), Scalar(kind="any")
USD = MoneyType(currency="USD")
AGENT = Agent(name="a", body=Region(start="f", states=(Final(name="f"),)))
DEFN = Definition(
    main="a",
    agents={"a": AGENT},
    records={
        "App": Record(
            fields=(
                FieldDef(name="account", type=STRING),
                FieldDef(name="amount", type=USD),
                FieldDef(name="note", type=OptionalType(item=STRING)),
            )
        ),
        "Report": Record(
            fields=(
                FieldDef(name="score", type=Scalar(kind="int", low=300, high=850)),
                FieldDef(name="flags", type=ListType(item=STRING, low=0, high=2)),
            )
        ),
    },
    enums={"Outcome": Enum(members=("approved", "declined"))},
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6)
moneys = st.builds(Money, decimals, st.sampled_from(["USD", "EUR", "JPY", "KWD"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    texts,
    texts.map(lambda t: "$" + t),
    st.binary(max_size=8),
    decimals,
    moneys,
    st.integers(0, 2**64 - 1).map(UInt),
    st.integers(-(10**20), 10**20).map(Duration),
    st.integers(-62_135_596_800, 253_402_300_799).map(lambda s: Timestamp(s * 10**9 + 1)),
    st.just(TypeValue("int")),
)
keys = st.one_of(texts, texts.map(lambda t: "$" + t), st.integers(-9, 9), st.booleans().map(to_key))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


def identical(a: Any, b: Any) -> bool:
    """Equal and of the same classes all the way down, NaN included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return math.copysign(1, a) == math.copysign(1, b) and (a == b or (math.isnan(a) and math.isnan(b)))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(identical(a[k], b[k]) for k in a)
    return bool(a == b)


# ---- the journal form


@settings(max_examples=300, deadline=None)
@given(values)
def test_the_journal_form_loses_nothing(value: Any) -> None:
    stored = dumps_journal(value)
    assert identical(from_journal(json.loads(stored)), value) or _has_nan_sign(value)
    assert dumps_journal(from_journal(json.loads(stored))) == stored


def _has_nan_sign(value: Any) -> bool:
    """NaN has a sign that no text of it keeps."""
    return "NaN" in dumps_journal(value).decode()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(texts, scalars, max_size=5))
def test_equal_maps_have_equal_bytes_whatever_their_order(value: dict[Any, Any]) -> None:
    assert dumps_journal(dict(reversed(value.items()))) == dumps_journal(value)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (2**53 - 1, b"9007199254740991"),
        (2**53, b'{"$int":"9007199254740992"}'),
        (Money(Decimal("1.5"), "USD"), b'{"$money":"1.50 USD"}'),
        (Decimal("1.50"), b'{"$decimal":"1.50"}'),
        (Duration.of_ms(90_000), b'{"$duration":"90s"}'),
        (Timestamp.of_ms(0), b'{"$timestamp":"1970-01-01T00:00:00Z"}'),
        (b"a", b'{"$bytes":"YQ=="}'),
        (UInt(1), b'{"$uint":"1"}'),
        (math.inf, b'{"$float":"inf"}'),
        ({"$money": "x"}, b'{"$map":[["$money","x"]]}'),
        ({1: "a", to_key(True): "b"}, b'{"$map":[[1,"a"],[true,"b"]]}'),
        ({"b": 1, "a": ["é"]}, '{"a":["é"],"b":1}'.encode()),
        (0.1, b"0.1"),
        (1.0, b"1.0"),
    ],
)
def test_the_bytes_of_the_journal_form(value: Any, stored: bytes) -> None:
    assert dumps_journal(value) == stored
    assert identical(from_journal(json.loads(stored)), value)


def test_a_value_that_needs_no_tags_is_not_copied() -> None:
    value = {"a": [1, "x", None, True, {"b": 2.5}]}
    assert to_journal(value) is value


@pytest.mark.parametrize("tree", [{"$nope": 1}, {"$money": "x"}, {"$int": []}, {"$decimal": "x"}, {"$map": 5}])
def test_a_malformed_tag_is_refused(tree: Any) -> None:
    with pytest.raises(ValueError, match="journaled value"):
        from_journal(tree)


def test_keys_of_a_map_are_seen_in_one_order_before_and_after_the_journal() -> None:
    value = {"b": 1, "a": 2}
    again = from_journal(json.loads(dumps_journal(value)))
    assert map_keys(value) == map_keys(again) == ["a", "b"]
    assert map_keys({2: 0, "x": 0, to_key(False): 0, 1: 0}) == ["x", 1, 2, False]
    assert isinstance(to_key(True), BoolKey)


# ---- money, durations, timestamps


@settings(max_examples=200, deadline=None)
@given(moneys)
def test_the_text_of_money_reads_back_as_the_same_money(money: Money) -> None:
    assert parse_money(str(money)) == money
    assert str(parse_money(str(money))) == str(money)


@given(decimals, decimals)
def test_money_is_added_and_taken_away_without_a_trace(a: Decimal, b: Decimal) -> None:
    x, y = Money(a, "USD"), Money(b, "USD")
    assert x + y - y == x
    assert x + y == y + x
    assert (x < y) == (a < b)


@given(decimals, st.integers(-1000, 1000))
def test_a_product_of_money_is_the_sum_it_stands_for(a: Decimal, n: int) -> None:
    total = Money(Decimal(0), "USD")
    for _ in range(abs(n) % 20):
        total = total + Money(a, "USD")
    assert Money(a, "USD").times(Decimal(abs(n) % 20)) == total


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("1.5", "USD", "1.50 USD"),
        ("1.5000", "USD", "1.50 USD"),
        ("0.075", "USD", "0.075 USD"),
        ("1E+3", "USD", "1000.00 USD"),
        ("100", "JPY", "100 JPY"),
        ("1.5", "KWD", "1.500 KWD"),
        ("-0.00", "USD", "0.00 USD"),
        ("-2", "USD", "-2.00 USD"),
    ],
)
def test_money_has_one_text(amount: str, currency: str, text: str) -> None:
    assert money_text(Decimal(amount), currency) == text


@given(st.integers(-315_576_000_000 * 10**9, 315_576_000_000 * 10**9))
def test_the_text_of_a_duration_reads_back(ns: int) -> None:
    assert parse_duration(str(Duration(ns))).ns == ns


@given(st.integers(-62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1))
def test_the_text_of_a_timestamp_reads_back(ns: int) -> None:
    assert parse_timestamp(str(Timestamp(ns))).ns == ns


@pytest.mark.parametrize("text", ["1.50", "$", "1,50 USD", "1.50 usd", "$1 EUR", "1.5.0 USD", "USD 1", "1e5 USD", ""])
def test_text_that_is_no_money_is_refused(text: str) -> None:
    with pytest.raises(EvalError):
        parse_money(text)


# ---- the public form


def read(data: Any, type: Any) -> Any:
    problems: list[str] = []
    value = from_public(data, type, DEFN, "app", problems)
    return problems or value


def test_every_problem_is_reported_with_its_path() -> None:
    data = {"account": 5, "amount": "x", "nte": "?", "extra": 1}
    assert read(data, RecordType(name="App")) == [
        "app.nte: there is no such field (did you mean note?)",
        "app.extra: there is no such field",
        "app.account: expected text, found 5",
        'app.amount: expected money like "1.50 USD", found "x"',
    ]
    assert read({"account": "a"}, RecordType(name="App")) == ['app.amount: missing: expected money like "1.50 USD"']


def test_an_optional_field_that_is_missing_is_null() -> None:
    found = read({"account": "a", "amount": "$9_000".replace("_", "")}, RecordType(name="App"))
    assert found == {"account": "a", "amount": Money(Decimal(9000), "USD"), "note": None}


@pytest.mark.parametrize(
    ("data", "type", "problem"),
    [
        ({"score": 200, "flags": []}, RecordType(name="Report"), "app.score: expected int in 300..850, found 200"),
        (
            {"score": 400, "flags": ["a", "b", "c"]},
            RecordType(name="Report"),
            "app.flags: expected 0..2 items, found 3",
        ),
        (
            {"score": 400, "flags": ["a", 1]},
            RecordType(name="Report"),
            "app.flags[1]: expected text, found 1",
        ),
        (
            "aproved",
            EnumType(name="Outcome"),
            'app: expected one of approved, declined, found "aproved" (did you mean approved?)',
        ),
        (7, EnumType(name="Outcome"), "app: expected one of approved, declined, found 7"),
        ("1.50 EUR", USD, 'app: expected money in USD, found "1.50 EUR"'),
        (1.5, MoneyType(), 'app: expected money like "1.50 USD", found 1.5'),
        (True, INT, "app: expected a whole number of 64 bits, found true"),
        (2**63, INT, "app: expected a whole number of 64 bits, found 9223372036854775808"),
        (1.5, INT, "app: expected a whole number of 64 bits, found 1.5"),
        ("7 days", Scalar(kind="duration"), 'app: expected a duration like "90s", found "7 days"'),
        (
            "2024-05-10T15:52:59",
            Scalar(kind="timestamp"),
            'app: expected a timestamp like "2024-05-10T15:52:59Z" with its zone, found "2024-05-10T15:52:59"',
        ),
        ("x", SecretType(item=INT), "app: expected a whole number of 64 bits"),
        ("\ud800", STRING, "app: the text holds half of a surrogate pair, which is no character"),
        (object(), ANY, "app: expected a value that JSON can say, found a Python `object`"),
        (
            {"a": {"b": "x"}},
            MapType(key=STRING, value=MapType(key=STRING, value=INT)),
            'app["a"]["b"]: expected a whole number of 64 bits, found "x"',
        ),
        ({"text": 1}, BuiltinType(kind="Move"), "app.text: expected text, found 1"),
        ({"call": {"args": {}}}, BuiltinType(kind="Move"), "app.call.tool: expected the name of a tool, found null"),
    ],
)
def test_a_value_that_does_not_fit_is_named(data: Any, type: Any, problem: str) -> None:
    assert read(data, type) == [problem]


@pytest.mark.parametrize(
    ("data", "type", "value"),
    [
        ("$1.50", USD, Money(Decimal("1.5"), "USD")),
        (Decimal("0.1"), USD, Money(Decimal("0.1"), "USD")),
        (0.1, USD, Money(Decimal("0.1"), "USD")),
        (5, USD, Money(Decimal(5), "USD")),
        (5.0, INT, 5),
        ("7d", Scalar(kind="duration"), Duration.of_ms(7 * 86_400_000)),
        ("1.5", Scalar(kind="decimal"), Decimal("1.5")),
        (Decimal("1.5"), Scalar(kind="float"), 1.5),
        ({"1": "a"}, MapType(key=INT, value=STRING), {1: "a"}),
        ([1, Decimal("2.5"), {"a": None}], ANY, [1, 2.5, {"a": None}]),
        (None, OptionalType(item=INT), None),
        (
            {"call": {"tool": "t", "args": {"a": 1}}},
            BuiltinType(kind="Move"),
            {"text": None, "call": {"tool": "t", "args": {"a": 1}}},
        ),
        (
            {"by": "ann"},
            ObjectType(fields={"by": STRING, "note": OptionalType(item=STRING)}),
            {"by": "ann", "note": None},
        ),
    ],
)
def test_a_value_that_fits_is_converted(data: Any, type: Any, value: Any) -> None:
    assert identical(read(data, type), value)


class Colour(enum.Enum):
    approved = 1


class Model(pydantic.BaseModel):
    account: str
    amount: Decimal


@dataclasses.dataclass
class Plain:
    account: str
    amount: float


class Pair(NamedTuple):
    account: str
    amount: int


@pytest.mark.parametrize(
    "data",
    [
        Model(account="a", amount=Decimal(2)),
        Plain("a", 2.0),
        Pair("a", 2),
        {"account": "a", "amount": Money(Decimal(2), "USD")},
    ],
)
def test_what_python_tools_return_is_read(data: Any) -> None:
    assert read(data, RecordType(name="App")) == {"account": "a", "amount": Money(Decimal(2), "USD"), "note": None}


def test_other_python_objects_are_read_as_what_they_stand_for() -> None:
    utc = datetime.UTC
    assert read(Colour.approved, EnumType(name="Outcome")) == "approved"
    assert read((1, 2), ListType(item=INT)) == [1, 2]
    assert read({3}, ListType(item=INT)) == [3]
    assert read(datetime.timedelta(milliseconds=1500), Scalar(kind="duration")) == Duration.of_ms(1500)
    assert read(datetime.datetime(1970, 1, 1, 0, 0, 5, tzinfo=utc), Scalar(kind="timestamp")) == Timestamp.of_ms(5000)
    assert "with its zone" in read(datetime.datetime(1970, 1, 1), Scalar(kind="timestamp"))[0]
    assert read(bytearray(b"a"), Scalar(kind="bytes")) == b"a"


def test_nothing_of_a_secret_is_quoted() -> None:
    for type in (EnumType(name="Outcome"), USD, MapType(key=STRING, value=INT), RecordType(name="App"), STRING):
        for data in ("hunter2", {"hunter2": "hunter2", "account": ["hunter2"]}, ["hunter2"], 5):
            found = read(data, SecretType(item=type))
            problems = found if isinstance(found, list) else []
            if type.kind != "record":
                assert not any("hunter2" in problem for problem in problems)
            assert not any('"hunter2"' in problem for problem in problems)


def test_a_value_that_is_too_large_or_too_deep_is_a_problem_not_a_crash() -> None:
    assert read("x" * (100 * 2**20), STRING) == ["app: the value is larger than 16 MiB"]
    assert read(["x" * 2**20] * 100, ANY) == ["app[15]: the value is larger than 16 MiB"]
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert "nested deeper than 100 levels" in read(deep, ANY)[0]


def test_many_problems_are_counted_after_the_first_hundred() -> None:
    found = read(["x"] * 5000, ListType(item=INT))
    assert len(found) == 101
    assert found[-1] == "app: and 4900 more problems"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "JAMR301"),
        ('{"a": 1, "a": 2}', "JAMR301"),
        ("NaN", "JAMR301"),
        ("[" * 100_000, "JAMR301"),
        ("", "JAMR301"),
    ],
)
def test_text_that_is_no_json_is_a_coded_error(text: str, code: str) -> None:
    with pytest.raises(JamError) as caught:
        loads_public(text)
    assert caught.value.code == code


def test_json_of_a_hundred_megabytes_is_refused_before_it_is_read() -> None:
    with pytest.raises(JamError) as caught:
        loads_public("1" * (100 * 2**20))
    assert caught.value.code == "JAMR003"


def test_numbers_with_a_fraction_are_read_exactly() -> None:
    assert read(loads_public("0.1000000000000000055"), USD) == Money(Decimal("0.1000000000000000055"), "USD")


def test_the_public_form_is_plain_json() -> None:
    value = {
        "m": Money(Decimal("1.5"), "USD"),
        "d": Decimal("2.50"),
        "t": Duration.of_ms(1),
        "b": b"a",
        to_key(True): UInt(1),
    }
    public = to_public(value)
    assert public == {"m": "1.50 USD", "d": "2.50", "t": "0.001s", "b": "YQ==", "true": 1}
    json.dumps(public)


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({"account": texts, "amount": decimals, "note": st.none() | texts}))
def test_a_record_read_back_from_its_public_form_is_the_same(data: dict[str, Any]) -> None:
    value = read({**data, "amount": Money(data["amount"], "USD")}, RecordType(name="App"))
    assert identical(read(json.loads(json.dumps(to_public(value))), RecordType(name="App")), value)


@pytest.mark.parametrize(
    "given",
    [("12.50 USD",), ("$12.5",), ("12.50", "USD"), (Decimal("12.5"), "USD"), (Decimal("12.500"), "USD")],
)
def test_money_is_made_as_people_write_it(given: Any) -> None:
    assert Money(*given) == Money(Decimal("12.50"), "USD")
    assert str(Money(*given)) == "12.50 USD"
    assert Money(12, "USD") == Money("12 USD")


@pytest.mark.parametrize("given", [(12.5, "USD"), (True, "USD"), (Decimal(1),), (12,), (None,)])
def test_money_that_is_not_exact_or_has_no_currency_says_what_to_write(given: Any) -> None:
    with pytest.raises(TypeError, match=r'write Money\("12.50 USD"\)'):
        Money(*given)


@pytest.mark.parametrize("given", [("12.50",), ("x USD",), ("12.50 USD", "USD"), ("",)])
def test_a_text_that_is_no_money_makes_none(given: Any) -> None:
    with pytest.raises(EvalError, match=r"is not money like `1\.50 USD`"):
        Money(*given)
