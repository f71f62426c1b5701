"""CSV as RFC 4180 has it: UTF-8, CRLF, quotes where they are needed, a header; safe to open in a spreadsheet.

Numbers are plain digits, moments ISO 8601 in UTC, booleans `true` and `false`, and what is not there is empty.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from metering.exports.columns import Column, Kind, Row

# What spreadsheets take for the beginning of a formula (OWASP, "CSV Injection"), also in its full-width forms.
_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")


class CsvFile:
    """A CSV file that is being written."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._spell = [_SPELLING[column.kind] for column in columns]

    def head(self) -> bytes:
        """The header."""
        return _lines([[column.name for column in self._columns]])

    def rows(self, rows: Sequence[Row]) -> bytes:
        """These rows as lines."""
        # Column by column: a month has millions of rows, and some forty columns.
        columns = [spell(values) for spell, values in zip(self._spell, zip(*rows, strict=True), strict=False)]
        return _lines(zip(*columns, strict=True))

    def end(self) -> bytes:
        """Nothing: a CSV file has no end of its own."""
        return b""


def defused(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that begins like one has an apostrophe before it.

    >>> defused("=1+1"), defused("claude-opus-4.7")
    ("'=1+1", 'claude-opus-4.7')
    """
    return f"'{text}" if text[:1] in _FORMULA else text


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    out = StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def _texts(values: Sequence[str | None]) -> Sequence[str | None]:
    return [f"'{text}" if text and text[0] in _FORMULA else text for text in values]


def _numbers(values: Sequence[Any]) -> Sequence[str | None]:
    return [None if value is None else _number(value) for value in values]


def _number(value: Any) -> str:
    # The one spelling of an amount, as `cents_text` has it, at a third of its time.
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moments(values: Sequence[Any]) -> Sequence[str | None]:
    # The bounds of a day or a month are the same object from row to row.
    texts: list[str | None] = []
    before, text = None, None
    for value in values:
        if value is not before:
            before, text = value, None if value is None else _moment(value)
        texts.append(text)
    return texts


def _moment(value: datetime) -> str:
    text = value.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else _moment(value.astimezone(UTC))


def _flags(values: Sequence[bool | None]) -> Sequence[str | None]:
    return [None if value is None else "true" if value else "false" for value in values]


def _as_they_are(values: Sequence[Any]) -> Sequence[Any]:
    return values


_SPELLING: dict[Kind, Callable[[Sequence[Any]], Sequence[Any]]] = {
    Kind.TEXT: _texts,
    Kind.COUNT: _as_they_are,
    Kind.NUMBER: _numbers,
    Kind.MOMENT: _moments,
    Kind.FLAG: _flags,
    Kind.JSON: _as_they_are,
}
