"""No cell of a CSV file becomes a formula, whichever separator a spreadsheet uses; every text can be read back."""

import csv
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metering.dashboard.tables import Column as PageColumn
from metering.dashboard.tables import Kind as PageKind
from metering.dashboard.tables import Table, table_csv
from metering.exports.columns import Column, Kind
from metering.exports.csv_file import CsvFile, defused, defused_json
from metering.exports.csv_lines import rendered

PAGE = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()
# What a spreadsheet may drop in front of a formula, and what begins one.
BEFORE = ' \t\r\n\v\f\0\x1f\x85\xa0\u3000\u200b\u200e\ufeff"'
FORMULA = re.compile(rf"[{re.escape(BEFORE)}]*[=+\-@＝＋－＠]")
HOSTILE = (
    'Acme;=HYPERLINK("http://x/?"&A1,"ok")',
    " =1+1",
    "Acme\n=1+1",
    "Acme\r\n=1+1",
    "Acme\r=1+1",
    "＝1+1",
    "@SUM(A1)",
    "+1+1",
    "-1+1",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "a\t=1+1",
    "a;\t =1+1",
    'a;"=1+1',
    '"=1+1"',
    '";=1+1',
    "\xa0=1+1",
    "\ufeff=1+1",
    "a;;;=1+1",
    "a; ;\t; -1",
    "'=1+1",
    "';=1+1",
    ";'=1+1",
    "'';'=1+1",
    "a;－1",
    "a\n\n+1",
    "=1+1;=1+1",
    '"\n"=1+1',
    'a;""=1+1&""',
    "\x00=1+1",
    "a,=1+1",
    ",=1+1",
    'a",=1+1',
    'a",;=1+1',
)
TEXT = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.sampled_from("=+-@＝;,\t\r\n \"'a1\u00a0\ufeff"), max_size=20),
    st.text(max_size=20),
)
COLUMNS = (
    Column("name", Kind.TEXT, ""),
    Column("cents", Kind.NUMBER, ""),
    Column("at", Kind.MOMENT, ""),
    Column("tags", Kind.JSON, ""),
    Column("reason", Kind.TEXT, ""),
)
AT = datetime(2026, 11, 23, tzinfo=UTC)


def file_of(*texts: str) -> str:
    """A file in which the texts are in every place that takes text, beside a negative amount."""
    rows = [(text, Decimal("-5.25"), AT, json.dumps({text: text}, ensure_ascii=False), text) for text in texts]
    file = CsvFile(COLUMNS)
    return (file.head() + file.lines(rendered(rows, COLUMNS)) + file.end()).decode()


def cells(content: str, separator: str) -> list[str]:
    """The cells as a spreadsheet with this separator finds them: quotes count at the start of a cell only."""
    lines = csv.reader(StringIO(content, newline=""), delimiter=separator)
    return [cell for line in lines for cell in line]


def formulas(content: str, separator: str) -> list[str]:
    return [cell for cell in cells(content, separator) if FORMULA.match(cell) and cell != "-5.25"]


def read_back(cell: str) -> str:
    """A text as docs/exports.md says to read it."""
    (code,) = re.findall(r"```python\n(IGNORED.+?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"re": re, "cell": cell}
    exec(code, names)
    text: str = names["text"]
    return text


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula_with_any_separator(text: str, separator: str) -> None:
    assert formulas(file_of(text), separator) == []


@given(st.lists(TEXT, min_size=1, max_size=4))
@example(["a;", "=1+1"])
@example(["a\n", "=1+1"])
@example(["", '"', "=1+1"])
def test_no_cell_is_a_formula_in_any_file(texts: list[str]) -> None:
    content = file_of(*texts)
    for separator in (",", ";", "\t"):
        assert formulas(content, separator) == []


@given(st.lists(TEXT, min_size=1, max_size=4))
@example(["\thello"])
@example([" \n"])
@example(["a", "\u00a0-1"])
def test_rows_that_are_not_rewritten_would_be_rewritten_the_same(texts: list[str]) -> None:
    content = file_of(*texts)
    rows = list(csv.reader(StringIO(content, newline=""), strict=True))[1:]
    assert [(line[0], line[4]) for line in rows] == [(defused(text), defused(text)) for text in texts]
    assert [json.loads(line[3]) for line in rows] == [{text: text} for text in texts]


@given(TEXT)
@example("'\t=1+1")
@example(";' =1")
@example("''=1+1")
def test_every_text_can_be_read_back(text: str) -> None:
    assert read_back(defused(text)) == text


@given(st.recursive(TEXT | st.integers() | st.none(), lambda each: st.lists(each) | st.dictionaries(TEXT, each)))
def test_json_keeps_its_value(value: Any) -> None:
    for indent in (None, 1, "\t"):
        assert json.loads(defused_json(json.dumps(value, ensure_ascii=False, indent=indent))) == value


def test_rows_and_amounts_survive_and_ordinary_texts_are_unchanged() -> None:
    texts = [
        "claude-opus-4.7",
        "Acme, Inc. (–5 %)",
        "a-b=c",
        "Müller & Söhne; Köln",
        "it's",
        '"Quoted"',
        "a;b",
        "x\ny",
    ]
    found = list(csv.reader(StringIO(file_of(*texts), newline=""), strict=True))
    assert [line[0] for line in found[1:]] == texts
    assert {line[1] for line in found[1:]} == {"-5.25"}
    assert [json.loads(line[3]) for line in found[1:]] == [{text: text} for text in texts]


@given(TEXT, TEXT)
def test_files_of_pages_are_harmless_in_headings_and_cells(model: str, name: str) -> None:
    columns = [PageColumn("name", "Name"), PageColumn(model, "Model", PageKind.MONEY)]
    rows = [{"name": name, model: Decimal(-525)}]
    content = table_csv([Table(name="t", title="T", columns=columns, rows=rows, empty="")])
    for separator in (",", ";", "\t"):
        assert [cell for cell in formulas(content, separator) if cell != "-5.250"] == []
