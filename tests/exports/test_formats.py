"""The formats: what a spreadsheet, a program and a warehouse need of them."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO, StringIO
from typing import Any

import pyarrow
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from metering.exports.columns import Column, Kind, UnrepresentableError
from metering.exports.csv_file import CsvFile
from metering.exports.csv_lines import rendered
from metering.exports.parquet_file import ROW_GROUP, ParquetFile

COLUMNS = (
    Column("name", Kind.TEXT, ""),
    Column("count", Kind.COUNT, ""),
    Column("cents", Kind.NUMBER, "", scale=20),
    Column("at", Kind.MOMENT, ""),
    Column("flag", Kind.FLAG, ""),
    Column("tags", Kind.JSON, "", distinct=True),
)
AT = datetime(2026, 11, 23, 15, 0, 0, 123_000, tzinfo=UTC)
BATCH = 7_000
NOTHING = (None,) * len(COLUMNS)


def row(**values: Any) -> tuple[Any, ...]:
    return tuple(values.get(column.name) for column in COLUMNS)


def csv_of(rows: Sequence[tuple[Any, ...]]) -> str:
    file = CsvFile(COLUMNS)
    return (file.head() + file.lines(rendered(rows, COLUMNS)) + file.end()).decode()


def cells(rows: Sequence[tuple[Any, ...]], name: str) -> list[str]:
    return [each[name] for each in csv.DictReader(StringIO(csv_of(rows), newline=""), strict=True)]


def parquet_of(rows: Sequence[tuple[Any, ...]]) -> bytes:
    file = ParquetFile(COLUMNS, facts={"metering.period": "2026-11"})
    parts = [file.head()]
    parts += [file.lines(rendered(rows[start : start + BATCH], COLUMNS)) for start in range(0, len(rows), BATCH)]
    return b"".join([*parts, file.end()])


def test_csv_is_rfc_4180_in_utf_8_with_a_header() -> None:
    text = csv_of([row(name='a "b", c\r\nd', count=3), row(name="Ünï 杭州")])
    assert text == ('name,count,cents,at,flag,tags\r\n"a ""b"", c\r\nd",3,,,,\r\nÜnï 杭州,,,,,\r\n')


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_text_that_begins_like_a_formula_is_a_text_in_a_spreadsheet(first: str) -> None:
    hostile = f'{first}1+1,"x"'
    assert cells([row(name=hostile)], "name") == [f"'{hostile}"]


def test_other_texts_are_as_they_were_and_numbers_stay_numbers() -> None:
    assert cells([row(name=name) for name in ("a=1", "1-2", "'x", "a =1")], "name") == ["a=1", "1-2", "'x", "a =1"]
    assert cells([row(cents=Decimal("-0.5"), count=-3)], "cents") == ["-0.5"]
    assert cells([row(count=-3)], "count") == ["-3"]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0.0000001", "0.0000001"),
        ("1E+20", "100000000000000000000"),
        ("-262.8574375000", "-262.8574375"),
        ("100", "100"),
        ("0", "0"),
        ("0.00", "0"),
        ("0.1234567890123456789012345678901234567890", "0.123456789012345678901234567890123456789"),
    ],
)
def test_decimals_are_plain_digits_all_of_them(amount: str, text: str) -> None:
    assert cells([row(cents=Decimal(amount))], "cents") == [text]


def test_moments_are_utc_and_booleans_words() -> None:
    rows = [row(at=AT, flag=True), row(at=AT.replace(microsecond=0), flag=False), NOTHING]
    assert cells(rows, "at") == ["2026-11-23T15:00:00.123Z", "2026-11-23T15:00:00Z", ""]
    assert cells(rows, "flag") == ["true", "false", ""]


def test_a_file_without_rows_has_its_header() -> None:
    assert csv_of([]) == "name,count,cents,at,flag,tags\r\n"
    table = parquet.read_table(BytesIO(parquet_of([])))
    assert (table.num_rows, table.schema.names) == (0, [column.name for column in COLUMNS])


def test_parquet_has_exact_types_and_compressed_row_groups_of_bounded_size() -> None:
    rows = [row(name=f"n{n % 5}", count=n, cents=Decimal(n).scaleb(-3), at=AT, flag=True, tags="{}")
            for n in range(2 * ROW_GROUP + 10)]  # fmt: skip
    file = parquet.ParquetFile(BytesIO(parquet_of(rows)))
    assert [str(field.type) for field in file.schema_arrow] == [
        *("string", "int64", "decimal128(38, 20)", "timestamp[us, tz=UTC]", "bool", "string"),
    ]
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    *full, last = [group.num_rows for group in groups]
    assert len(full) == 1
    assert all(ROW_GROUP <= count < ROW_GROUP + BATCH for count in full)
    assert last < ROW_GROUP
    columns = {column.path_in_schema: column for column in map(groups[0].column, range(len(COLUMNS)))}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert columns["name"].has_dictionary_page
    assert not columns["tags"].has_dictionary_page
    assert file.schema_arrow.metadata[b"metering.period"] == b"2026-11"
    assert file.read().column("count").to_pylist() == list(range(len(rows)))


@given(
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.none(), min_size=1)
)
@example(["", None, '"', ",", "\r\n", "\n", "NULL", "null", "\\N"])
def test_parquet_holds_every_text(texts: list[str | None]) -> None:
    found = parquet.read_table(BytesIO(parquet_of([row(name=text, tags=text) for text in texts]))).to_pylist()
    assert [(each["name"], each["tags"]) for each in found] == [(text, text) for text in texts]


def test_parquet_holds_texts_as_they_are_and_nothing_as_null() -> None:
    found = parquet.read_table(BytesIO(parquet_of([row(name="=1+1"), NOTHING]))).to_pylist()
    assert [each["name"] for each in found] == ["=1+1", None]
    assert set(found[1].values()) == {None}


@pytest.mark.parametrize("amount", ["999999999999999999.99999999999999999999", "-1E-20", "1E+17", "0"])
def test_parquet_holds_what_fits_to_the_last_digit(amount: str) -> None:
    (found,) = parquet.read_table(BytesIO(parquet_of([row(cents=Decimal(amount))]))).to_pylist()
    assert found["cents"] == Decimal(amount)


@pytest.mark.parametrize("amount", ["1E+18", "-1E+18", "1E-21", "0.123456789012345678901", "1E+40"])
def test_parquet_refuses_what_it_would_have_to_round(amount: str) -> None:
    with pytest.raises(UnrepresentableError, match=r"cents: .* export CSV instead"):
        parquet_of([row(cents=Decimal("0.5")), row(cents=Decimal(amount))])


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**22), max_value=10**22, places=20))
@example(Decimal("1701411834604692317.31687303715884105727"))
@example(Decimal("-1701411834604692317.31687303715884105728"))
@example(Decimal("3402823669209384634.63374607431768211456"))
def test_parquet_holds_every_decimal_exactly_or_refuses_it(amount: Decimal) -> None:
    if abs(amount) < 10**18:
        (found,) = parquet.read_table(BytesIO(parquet_of([row(cents=amount)]))).to_pylist()
        assert found["cents"] == amount
    else:
        with pytest.raises(UnrepresentableError):
            parquet_of([row(cents=amount)])


def test_parquet_refuses_a_count_that_no_integer_holds() -> None:
    with pytest.raises(UnrepresentableError, match="count: 9223372036854775808"):
        parquet_of([row(count=2**63)])


def test_a_moment_of_another_zone_is_the_same_moment() -> None:
    there = AT.astimezone(timezone(timedelta(hours=-5)))
    (found,) = (
        parquet.read_table(BytesIO(parquet_of([row(at=there)]))).column("at").cast(pyarrow.int64()).to_pylist()
    )
    assert found == int(AT.timestamp() * 1_000_000)
    assert cells([row(at=there)], "at") == ["2026-11-23T15:00:00.123Z"]
