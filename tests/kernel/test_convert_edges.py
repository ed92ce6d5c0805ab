"""Values from outside at their borders: ranges, depth, size, secrets, and what is said of what does not fit."""

from __future__ import annotations

import enum
import math
from decimal import Decimal
from typing import Any

import pytest

from jamjet_dsl import definition as d
from jamjet_dsl.diagnostics.errors import JamError
from jamjet_dsl.kernel import convert
from jamjet_dsl.kernel.convert import MAX_DEPTH, loads_public, read_any, to_public
from jamjet_dsl.kernel.values import Duration, Money, Timestamp, UInt, from_public, to_key
from tests.kernel.test_expr_values import AGENT, identical

STRING, INT, ANY = (d.Scalar(kind=kind) for kind in ("string", "int", "any"))
USD, MOVE = d.MoneyType(currency="USD"), d.BuiltinType(kind="Move")
NODE = d.RecordType(name="Node")
DEFN = d.Definition(
    main="a",
    agents={"a": AGENT},
    records={
        "Node": d.Record(
            fields=(d.FieldDef(name="n", type=INT), d.FieldDef(name="next", type=d.OptionalType(item=NODE)))
        )
    },
    enums={"Colour": d.Enum(members=("red", "green"))},
)


def read(data: Any, type: Any, path: str = "x") -> Any:
    """The value, or the list of all problems."""
    problems: list[str] = []
    value = from_public(data, type, DEFN, path, problems)
    return problems or value


def scalar(kind: Any, **bounds: Any) -> d.Scalar:
    return d.Scalar(kind=kind, **bounds)


def usd(amount: str) -> Money:
    return Money(Decimal(amount), "USD")


# ---- ranges


@pytest.mark.parametrize(
    ("type", "good", "bad", "words"),
    [
        (scalar("int", low=2), [2, 3], 1, "int in at least 2"),
        (scalar("int", high=2), [2, -9], 3, "int in at most 2"),
        (scalar("int", low=2, high=4), [2, 4], 5, "int in 2..4"),
        (scalar("float", low=0.5, high=1.0), [0.5, 1.0], 0.25, "float in 0.5..1.0"),
        (scalar("decimal", low="0.5"), [Decimal("0.5")], Decimal("0.49"), "decimal in at least 0.5"),
        (scalar("decimal", high="0.5"), [Decimal("0.5")], Decimal("0.51"), "decimal in at most 0.5"),
        (d.MoneyType(currency="USD", low="1.00"), [usd("1"), usd("9")], usd("0.99"), "money in at least 1.00 USD"),
        (d.MoneyType(currency="USD", high="1.00"), [usd("1"), usd("-9")], usd("1.01"), "money in at most 1.00 USD"),
        (
            d.MoneyType(currency="USD", low="1.00", high="2.00"),
            [usd("1"), usd("2")],
            usd("2.01"),
            "money in 1.00 USD..2.00 USD",
        ),
    ],
)
def test_a_range_holds_its_ends_and_nothing_beyond(type: Any, good: list[Any], bad: Any, words: str) -> None:
    assert [read(value, type) for value in good] == good
    assert read(bad, type) == [f"x: expected {words}, found {bad}"]


@pytest.mark.parametrize(
    ("low", "high", "lengths", "words"),
    [(2, None, {2, 3, 4}, "at least 2"), (None, 2, {0, 1, 2}, "at most 2"), (1, 3, {1, 2, 3}, "1..3")],
)
def test_the_length_of_a_list_has_a_range(low: int | None, high: int | None, lengths: set[int], words: str) -> None:
    type = d.ListType(item=ANY, low=low, high=high)
    for length in range(5):
        items = list(range(length))
        wanted = items if length in lengths else [f"x: expected {words} items, found {length}"]
        assert read(items, type) == wanted


# ---- money


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"amount": "5.00", "currency": "USD"}, usd("5")),
        ({"amount": 5, "currency": "USD"}, usd("5")),
        ("5", usd("5")),
        (1e-7, usd("0.0000001")),
        (Decimal("1E+3"), usd("1000")),
        (usd("5"), usd("5")),
        (True, None),
        ({"amount": "5.00"}, None),
        ({"amount": "5.00", "currency": "USD", "note": "x"}, None),
        ({"amount": "five", "currency": "USD"}, None),
        (math.inf, None),
        (math.nan, None),
        ([5], None),
    ],
)
def test_money_is_read_from_what_says_it_exactly(data: Any, value: Money | None) -> None:
    found = read(data, USD)
    if value is None:
        assert [problem.split(",")[0] for problem in found] == ['x: expected money like "1.50 USD"']
    else:
        assert identical(found, value)


@pytest.mark.parametrize("data", ["5.00 EUR", {"amount": "5.00", "currency": "EUR"}, Money(Decimal(5), "EUR")])
def test_money_of_another_currency_is_refused_and_without_a_declared_one_any_is_taken(data: Any) -> None:
    assert read(data, USD)[0].startswith("x: expected money in USD, found ")
    assert read(data, d.MoneyType()) == Money(Decimal(5), "EUR")


# ---- what is no number


@pytest.mark.parametrize("data", [math.nan, -math.nan, Decimal("NaN"), Decimal("sNaN")])
@pytest.mark.parametrize("type", [scalar("float"), ANY, scalar("float", low=0.0, high=1.0)])
def test_what_is_no_number_is_no_float(data: Any, type: d.Type) -> None:
    """It is neither above nor below anything, so no rule could bound it."""
    (problem,) = read(data, type)
    assert problem.startswith("x: expected a number, found ")
    assert read([data], d.ListType(item=type))[0].startswith("x[0]: ")
    assert read({"a": [data]}, ANY)[0].startswith("x.a[0]: expected a number, found ")


def test_the_infinities_are_numbers() -> None:
    for data in (math.inf, -math.inf):
        assert read(data, scalar("float")) == read(data, ANY) == data


@pytest.mark.parametrize("data", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), math.nan, math.inf])
@pytest.mark.parametrize("type", [INT, scalar("decimal"), USD])
def test_nor_is_it_a_whole_number_a_decimal_or_money(data: Any, type: Any) -> None:
    assert read(data, type)[0].startswith("x: expected ")


# ---- depth


def chain(length: int) -> dict[str, Any] | None:
    node: dict[str, Any] | None = None
    for n in range(length):
        node = {"n": n, "next": node}
    return node


def nested(levels: int, within: Any = 1) -> Any:
    for _ in range(levels):
        within = [within]
    return within


def lists(levels: int) -> Any:
    type: Any = INT
    for _ in range(levels):
        type = d.ListType(item=type)
    return type


def maps(levels: int) -> tuple[Any, Any]:
    data, type = 1, INT
    for _ in range(levels):
        data, type = {"k": data}, d.MapType(key=STRING, value=type)  # type: ignore[assignment]
    return data, type


def move(levels: int) -> dict[str, Any]:
    return {"text": None, "call": {"tool": "t", "args": {"a": nested(levels)}}}


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (lambda over: nested(MAX_DEPTH + over), lambda over: ANY),
        (lambda over: nested(MAX_DEPTH + over), lambda over: lists(MAX_DEPTH + over)),
        (lambda over: maps(MAX_DEPTH + over)[0], lambda over: ANY),
        (lambda over: maps(MAX_DEPTH + over)[0], lambda over: maps(MAX_DEPTH + over)[1]),
        (lambda over: chain(MAX_DEPTH + over), lambda over: NODE),
        (lambda over: move(MAX_DEPTH - 3 + over), lambda over: MOVE),
    ],
)
def test_a_value_may_be_nested_a_hundred_levels_deep_and_no_deeper(data: Any, type: Any) -> None:
    assert identical(read(data(0), type(0)), data(0))
    problems = read(data(1), type(1))
    assert problems
    assert all(problem.endswith(": nested deeper than 100 levels") for problem in problems)


def test_a_value_that_says_its_own_shape_may_be_as_deep() -> None:
    problems: list[str] = []
    assert identical(read_any(nested(MAX_DEPTH), "x", problems), nested(MAX_DEPTH))
    assert problems == []
    assert read_any(nested(MAX_DEPTH + 1), "x", problems) is None
    assert len(problems) == 1


def test_what_is_wrong_inside_is_said_once() -> None:
    assert read({"call": {"tool": "t", "args": {"a": 2**63}}}, MOVE) == [
        "x.call.args.a: expected a whole number of 64 bits, found 9223372036854775808"
    ]
    assert read([{"text": "\ud800"}], d.BuiltinType(kind="conversation")) == [
        "x[0].text: the text holds half of a surrogate pair, which is no character"
    ]


# ---- size


@pytest.mark.parametrize(
    ("data", "type", "size"),
    [
        ("x" * 5000, STRING, 8 + 5000),
        (b"x" * 5000, scalar("bytes"), 8 + 5000),
        ([UInt(1)] * 100, d.ListType(item=scalar("uint")), 8 + 100 * 8),
        ({str(n): UInt(n) for n in range(10)}, d.MapType(key=STRING, value=scalar("uint")), 8 + 10 * (8 + 8 + 1)),
    ],
)
def test_a_value_is_counted_as_its_text_and_eight_bytes_for_everything_else(
    data: Any, type: Any, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "MAX_BYTES", size)
    assert identical(read(data, type), data)
    monkeypatch.setattr(convert, "MAX_BYTES", size - 1)
    assert "the value is larger than" in read(data, type)[0]


@pytest.mark.parametrize(
    ("data", "size"),
    [("x" * 50, 58), (b"x" * 50, 58), ([1] * 9, 80), ({"key": "text"}, 8 + 8 + 3 + 4), (None, 8)],
)
def test_a_value_of_any_type_is_counted_likewise(data: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    monkeypatch.setattr(convert, "MAX_BYTES", size)
    assert identical(read_any(data, "x", problems), data)
    assert problems == []
    monkeypatch.setattr(convert, "MAX_BYTES", size - 1)
    assert read_any(data, "x", problems) is None
    assert "the value is larger than" in problems[0]


def test_a_value_that_is_too_large_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MAX_BYTES", 100)
    assert len(read(["x" * 50] * 5, d.ListType(item=INT))) == 5
    assert read([{"a": "x" * 101}] * 5, ANY) == ["x[0].a: the value is larger than 0 MiB"]


# ---- any


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (True, True),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (Decimal("0.5"), 0.5),
        (0.5, 0.5),
        (b"a", b"a"),
        (usd("1"), usd("1")),
        (Duration(5), Duration(5)),
        (Timestamp(5), Timestamp(5)),
        (UInt(2**63), UInt(2**63)),
        ({1: "a"}, {"1": "a"}),
        ((1, "é"), [1, "é"]),
    ],
)
def test_a_value_of_any_type_is_what_its_shape_says(data: Any, value: Any) -> None:
    assert identical(read(data, ANY), value)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (2**63, "x: expected a whole number of 64 bits, found 9223372036854775808"),
        (-(2**63) - 1, "x: expected a whole number of 64 bits, found -9223372036854775809"),
        ("\ud800", "x: the text holds half of a surrogate pair, which is no character"),
        ([1, "\udfff"], "x[1]: the text holds half of a surrogate pair, which is no character"),
        ({"a": object()}, "x.a: expected a value that JSON can say, found a Python `object`"),
    ],
)
def test_what_no_journal_can_hold_is_refused_wherever_it_stands(data: Any, problem: str) -> None:
    assert read(data, ANY) == [problem]
    problems: list[str] = []
    assert read_any(data, "x", problems) is None
    assert problems == [problem]


def test_a_conversation_is_a_list_of_messages() -> None:
    chat = d.BuiltinType(kind="conversation")
    assert read([{"role": "user"}], chat) == [{"role": "user"}]
    assert read({"role": "user"}, chat) == ["x: expected a list of messages, found an object"]
    assert read("hi", chat) == ['x: expected a list of messages, found "hi"']
    assert read({"name": "f"}, d.BuiltinType(kind="file")) == {"name": "f"}


# ---- what a model proposes


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({}, {"text": None, "call": None}),
        ({"text": "hi"}, {"text": "hi", "call": None}),
        ({"call": {"tool": "t"}}, {"text": None, "call": {"tool": "t", "args": {}}}),
        ([], ["x: expected an object (Move), found a list"]),
        ({"txt": "hi"}, ["x.txt: there is no such field (did you mean text?)"]),
        ({"call": 5}, ["x.call: expected an object (ToolCall), found 5"]),
        ({"call": {"tool": "t", "arg": {}}}, ["x.call.arg: there is no such field (did you mean args?)"]),
        ({"call": {"tool": 5}}, ["x.call.tool: expected the name of a tool, found 5"]),
        ({"call": {"tool": "t", "args": [1]}}, ["x.call.args: expected an object, found a list"]),
        ({"call": {"tool": "t", "text": "x"}}, ["x.call.text: there is no such field"]),
    ],
)
def test_a_move_is_text_and_a_call_and_nothing_else(data: Any, value: Any) -> None:
    assert read(data, MOVE) == value


# ---- secrets


def test_what_is_beside_a_secret_is_shown_and_what_is_in_it_is_not() -> None:
    type = d.ObjectType(fields={"key": d.SecretType(item=d.MapType(key=INT, value=INT)), "n": INT})
    assert read({"key": {"hunter2": "hunter2"}, "n": "seven"}, type) == [
        "x.key[…]: expected a whole number of 64 bits",
        "x.key[…]: expected a whole number of 64 bits",
        'x.n: expected a whole number of 64 bits, found "seven"',
    ]
    twice = d.SecretType(item=d.ListType(item=d.SecretType(item=INT)))
    assert read(["a", "b"], twice) == [f"x[{n}]: expected a whole number of 64 bits" for n in (0, 1)]
    assert read("grene", d.SecretType(item=d.EnumType(name="Colour"))) == ["x: expected one of red, green"]
    assert read(5, d.SecretType(item=INT)) == 5


def test_a_secret_that_may_be_missing_may_be_missing() -> None:
    optional = d.SecretType(item=d.OptionalType(item=INT))
    assert read({}, d.ObjectType(fields={"k": optional})) == {"k": None}
    assert read({}, d.ObjectType(fields={"k": d.SecretType(item=INT)})) == [
        "x.k: missing: expected a whole number of 64 bits"
    ]


# ---- objects and maps


@pytest.mark.parametrize(
    ("type", "words"),
    [
        (NODE, "Node"),
        (d.EnumType(name="Colour"), "Colour"),
        (USD, 'money like "1.50 USD"'),
        (d.MoneyType(currency="EUR"), 'money like "1.50 EUR"'),
        (d.MoneyType(), 'money like "1.50 USD"'),
        (d.ListType(item=INT), "a list"),
        (d.MapType(key=STRING, value=INT), "an object"),
        (d.ObjectType(fields={}), "an object"),
        (MOVE, "an object"),
        (d.BuiltinType(kind="conversation"), "a list of messages"),
        (d.SecretType(item=STRING), "text"),
        (ANY, "a value"),
    ],
)
def test_a_field_that_is_missing_is_described(type: Any, words: str) -> None:
    assert read({}, d.ObjectType(fields={"f": type})) == [f"x.f: missing: expected {words}"]
    assert read({}, d.ObjectType(fields={"f": type}), "") == [f"f: missing: expected {words}"]


@pytest.mark.parametrize(
    ("key", "data", "value"),
    [
        (INT, {"1": 2}, {1: 2}),
        (INT, {1: 2}, {1: 2}),
        (scalar("bool"), {"true": 2}, {to_key(True): 2}),
        (STRING, {"1": 2}, {"1": 2}),
        (INT, {"one": 2}, ['x["one"]: expected a whole number of 64 bits, found "one"']),
        (INT, {"1" * 25: 2}, [f'x["{"1" * 25}"]: expected a whole number of 64 bits, found "{"1" * 25}"']),
        (INT, {str(-(2**63)): 2}, {-(2**63): 2}),
        (scalar("uint"), {str(2**64 - 1): 2}, {UInt(2**64 - 1): 2}),
        (INT, {"1" * 21: 2}, [f'x["{"1" * 21}"]: expected a whole number of 64 bits, found "{"1" * 21}"']),
        (INT, {"1": 2, "b": 3}, ['x["b"]: expected a whole number of 64 bits, found "b"']),
        (STRING, {"a": "b"}, ['x["a"]: expected a whole number of 64 bits, found "b"']),
        (STRING, [1], ["x: expected an object, found a list"]),
    ],
)
def test_the_keys_of_a_map_are_read_from_their_text(key: Any, data: Any, value: Any) -> None:
    assert read(data, d.MapType(key=key, value=INT)) == value


class Paint(enum.Enum):
    red = "#f00"
    blue = "green"
    pink = "#fcc"


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("red", "red"),
        (Paint.red, "red"),
        (Paint.blue, "green"),
        (Paint.pink, ["x: expected one of red, green, found a Python `Paint`"]),
        ("Green", ['x: expected one of red, green, found "Green" (did you mean green?)']),
        (None, ["x: expected one of red, green, found null"]),
    ],
)
def test_a_python_enum_is_read_by_its_value_or_its_name(data: Any, value: Any) -> None:
    assert read(data, d.EnumType(name="Colour")) == value


@pytest.mark.parametrize("data", ["xs", {"a": 1}, 5, None])
def test_a_list_is_a_list(data: Any) -> None:
    assert [problem.partition(", found")[0] for problem in read(data, lists(1))] == ["x: expected a list"]
    assert read({1}, lists(1)) == read((1,), lists(1)) == [1]


def test_a_value_that_has_no_name_is_not_named() -> None:
    assert read("x", INT, "") == ['expected a whole number of 64 bits, found "x"']
    assert read(["x"], lists(1), "") == ['[0]: expected a whole number of 64 bits, found "x"']


def test_an_object_is_an_object_and_has_the_fields_it_declares() -> None:
    assert read([], NODE) == ["x: expected an object (Node), found a list"]
    assert read(None, d.ObjectType(fields={})) == ["x: expected an object, found null"]
    assert read({"n": 1, "next": {"n": "2"}}, NODE) == ['x.next.n: expected a whole number of 64 bits, found "2"']
    assert read({"n": 1, "N": 2}, NODE) == ["x.N: there is no such field (did you mean n?)"]


# ---- what is shown of a value


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ("x" * 40, '"' + "x" * 40 + '"'),
        ("x" * 41, '"' + "x" * 37 + '…"'),
        (10**39, "1" + "0" * 39),
        (10**40, "1" + "0" * 36 + "…"),
        (None, "null"),
        (False, "false"),
        (usd("1.5"), "1.50 USD"),
        ({}, "an object"),
        ([], "a list"),
        (object(), "a Python `object`"),
        ("é", '"é"'),
    ],
)
def test_what_was_found_is_shown_in_a_few_words(data: Any, shown: str) -> None:
    assert read(data, scalar("timestamp")) == [f'x: expected a timestamp like "2024-05-10T15:52:59Z", found {shown}']


@pytest.mark.parametrize("more", [0, 1, 5])
def test_the_first_hundred_problems_are_listed(more: int) -> None:
    found = read(["x"] * (100 + more), d.ListType(item=INT))
    assert len(found) == 100 + (more > 0)
    assert found[99] == 'x[99]: expected a whole number of 64 bits, found "x"'
    assert not more or found[100] == f"x: and {more} more problems"


# ---- JSON


def test_json_is_taken_up_to_its_limit_and_as_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MAX_BYTES", 8)
    assert loads_public('"123456"') == "123456"
    with pytest.raises(JamError) as refused:
        loads_public('"1234567"', what="the form")
    assert (refused.value.code, "the form has 9 bytes; the limit is 8" in str(refused.value)) == ("JAMR003", True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": 2, "b": 3}', 'the key "b" is given twice'),
        ('[{"c": {"a": 1, "a": 1}}]', 'the key "a" is given twice'),
        ("-Infinity", "-Infinity is not JSON"),
        ("[" * 100_000, "is nested too deep"),
    ],
)
def test_json_that_says_a_thing_twice_or_not_at_all_is_refused(text: str, words: str) -> None:
    with pytest.raises(JamError) as refused:
        loads_public(text, "JAMR404", "the form")
    assert refused.value.code == "JAMR404"
    assert words in str(refused.value)
    assert "the form" in str(refused.value)


def test_json_without_a_key_twice_is_what_it_says() -> None:
    found = loads_public(b'{"a": [1, 0.10, true, null, {}], "b": "x"}')
    assert identical(found, {"a": [1, Decimal("0.10"), True, None, {}], "b": "x"})


# ---- the public form


@pytest.mark.parametrize(
    ("value", "public"),
    [
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (1.5, 1.5),
        (False, False),
        (UInt(7), 7),
        ((1, [2]), [1, [2]]),
        (Decimal("1E+2"), "100"),
        ({to_key(False): 1, to_key(3): 2}, {"false": 1, "3": 2}),
        ({to_key(UInt(3)): Duration.of_ms(1500)}, {"3": "1.5s"}),
        (Timestamp.of_ms(0), "1970-01-01T00:00:00Z"),
    ],
)
def test_the_public_form_says_plainly_what_json_cannot(value: Any, public: Any) -> None:
    found = to_public(value)
    assert found == public
    assert type(found) is type(public)


def test_what_is_no_value_has_no_public_form() -> None:
    with pytest.raises(TypeError, match="object is not a run-time value"):
        to_public(object())
