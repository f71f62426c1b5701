"""CSV files as in RFC 4180: UTF-8, CRLF, quotes where needed, a header; safe to open in a spreadsheet.

Numbers are plain digits, times are ISO 8601 in UTC, booleans are `true` and `false`, and None is empty.

A spreadsheet may use another separator than ours: by its language, or as a person chose. It then ignores our
quotes, and starts a cell wherever a text has its separator or a line break. So texts are made harmless in each
such place.
"""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Any

from metering.exports.columns import Column, Kind, Row

# Characters that start a formula in a spreadsheet (OWASP, "CSV Injection"), with their full-width and small forms.
_STARTS = r"=+\-@＝＋－＠﹢﹣﹦﹫−"
# Characters that a spreadsheet may drop or read as quotes before it looks for a formula.
_IGNORED = r"\s\x00-\x20\x7f-\xa0\u200b-\u200f\u2060\ufeff'\""
# Where a cell may start within a text: these separate the cells or the lines of some spreadsheet. Not the comma: a
# spreadsheet that separates by commas reads our quotes.
_SEPARATORS = ";\t\r\n"
# A text that begins with a tab or a line break is one that OWASP names, too.
_FORMULA = re.compile(rf"\A(?=[{_IGNORED}]*[{_STARTS}\t\r\n])|(?<=[{_SEPARATORS}])(?=[{_IGNORED}]*[{_STARTS}])")
# The characters that a text has to begin with to match at its start: a look-up is faster than the expression.
_SUSPECT = frozenset(re.findall(rf"[{_IGNORED}{_STARTS}]", "".join(map(chr, range(0x10000)))))
# JSON has line breaks and tabs between its values only. In its strings, a character may be written as its code.
_JSON_BREAKS = str.maketrans("\t\r\n", "   ")
_JSON_FORMULA = re.compile(rf"(;[{_IGNORED}]*)([{_STARTS}])")


# Excel reads a file as UTF-8 only if it begins with this; else in the encoding of the person's language.
EXCEL_MARK = b"\xef\xbb\xbf"


class CsvFile:
    """A CSV file that is being written. With `excel`, Excel opens it as it is meant, by a double-click."""

    def __init__(self, columns: Sequence[Column], *, excel: bool = False) -> None:
        self._columns = columns
        self._excel = excel
        writers = {**_WRITERS, Kind.MOMENT: _excel_moments} if excel else _WRITERS
        self._writers = [writers[column.kind] for column in columns]

    def head(self) -> bytes:
        """The header."""
        mark = EXCEL_MARK if self._excel else b""
        return mark + _lines([[column.name for column in self._columns]])

    def rows(self, rows: Sequence[Row]) -> bytes:
        """These rows as lines."""
        # Column by column, for speed: a month has millions of rows of about forty columns.
        columns = [write(values) for write, values in zip(self._writers, zip(*rows, strict=True), strict=False)]
        return _lines(zip(*columns, strict=True))

    def end(self) -> bytes:
        """Nothing: a CSV file has no footer."""
        return b""


def defused(text: str) -> str:
    """A text that no spreadsheet runs as a formula, whatever its separator is.

    An apostrophe stands where a cell would begin like a formula: before the text, or after a semicolon, a tab or a
    line break in it. docs/exports.md says how to read the text back.

    >>> defused("=1+1"), defused("claude-opus-4.7"), defused("Acme; =1+1")
    ("'=1+1", 'claude-opus-4.7', "Acme;' =1+1")
    """
    return _FORMULA.sub("'", text)


def defused_json(document: str) -> str:
    """The same for a JSON document, which keeps its value: characters that start a formula become codes.

    >>> defused_json('{"note": ";=1+1"}')
    '{"note": ";\\\\u003d1+1"}'
    """
    return _JSON_FORMULA.sub(_coded, document.translate(_JSON_BREAKS))


def _coded(found: re.Match[str]) -> str:
    return f"{found[1]}\\u{ord(found[2]):04x}"


def _lines(rows: Iterable[Iterable[Any]]) -> bytes:
    out = StringIO(newline="")
    csv.writer(out, lineterminator="\r\n").writerows(rows)
    return out.getvalue().encode()


def _texts(values: Sequence[str | None]) -> Sequence[str | None]:
    if _has_separator(values):
        return [text and defused(text) for text in values]
    return [defused(text) if text and text[0] in _SUSPECT else text for text in values]


def _documents(values: Sequence[str | None]) -> Sequence[str | None]:
    if _has_separator(values):
        return [document and defused_json(document) for document in values]
    return values


def _has_separator(values: Sequence[str | None]) -> bool:
    """Whether one of the texts has a separator; for speed, they are searched together."""
    together = "".join(filter(None, values))
    return any(separator in together for separator in _SEPARATORS)


def _numbers(values: Sequence[Any]) -> Sequence[str | None]:
    return [None if value is None else _number(value) for value in values]


def _number(value: Any) -> str:
    # The same text as `cents_text` gives, in a third of the time.
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moments(values: Sequence[Any]) -> Sequence[str | None]:
    # Consecutive rows often share the same object, such as the bounds of a day or a month.
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


def _excel_moments(values: Sequence[Any]) -> Sequence[str | None]:
    """Times in UTC as Excel takes them for times, to the second."""
    return [None if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for value in values]


def _flags(values: Sequence[bool | None]) -> Sequence[str | None]:
    return [None if value is None else "true" if value else "false" for value in values]


def _unchanged(values: Sequence[Any]) -> Sequence[Any]:
    return values


_WRITERS: dict[Kind, Callable[[Sequence[Any]], Sequence[Any]]] = {
    Kind.TEXT: _texts,
    Kind.COUNT: _unchanged,
    Kind.NUMBER: _numbers,
    Kind.MOMENT: _moments,
    Kind.FLAG: _flags,
    Kind.JSON: _documents,
}
