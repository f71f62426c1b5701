"""Rows as lines of CSV: what each value looks like, and that every text can be read back."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.exports.columns import Column, Kind
from metering.exports.csv_lines import moment_text, number_text, parsed, rendered, text_cell

COLUMNS = [Column(kind.name.lower(), kind, "") for kind in Kind]
AT = datetime(2026, 11, 23, 15, tzinfo=UTC)


def test_each_kind_of_value_looks_as_postgresql_writes_it() -> None:
    row = ("a,b", 3, Decimal("-0.50"), AT, True, '{"a": "b"}')
    assert rendered([row, (None,) * len(row)], COLUMNS) == [
        b'"a,b",3,-0.5,2026-11-23T15:00:00Z,true,"{""a"": ""b""}"',
        b",,,,,",
    ]
    assert rendered([], COLUMNS) == []


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
@example(["\r", "\n", "\r\n", '"', ",", ""])
def test_every_text_is_read_back(texts: list[str]) -> None:
    columns = [Column("text", Kind.TEXT, "")] * 2
    lines = rendered([(text, text) for text in texts], columns)
    assert list(parsed(b"\r\n".join([*lines, b""]).decode())) == [[text, text] for text in texts]


def test_nothing_is_not_an_empty_text() -> None:
    assert (text_cell(None), text_cell("")) == ("", '""')


def test_a_cell_may_be_longer_than_python_allows_by_itself() -> None:
    text = "x" * 1_000_000
    assert list(parsed(f"{text},1\n")) == [[text, "1"]]


@pytest.mark.parametrize(
    ("value", "text"),
    [("1E+3", "1000"), ("0.00", "0"), ("10", "10"), ("1E-7", "0.0000001"), ("-5.10", "-5.1")],
)
def test_numbers_are_plain_digits(value: str, text: str) -> None:
    assert number_text(Decimal(value)) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (AT, "2026-11-23T15:00:00Z"),
        (AT.replace(microsecond=120_000), "2026-11-23T15:00:00.12Z"),
        (AT.replace(microsecond=1), "2026-11-23T15:00:00.000001Z"),
        (AT.astimezone(timezone(timedelta(hours=5, minutes=30))), "2026-11-23T15:00:00Z"),
    ],
)
def test_times_are_in_utc_without_needless_zeros(at: datetime, text: str) -> None:
    assert moment_text(at) == text
