"""CSV files as in RFC 4180: UTF-8, CRLF, quotes where needed, a header; safe to open in a spreadsheet.

Values are as in the lines that it takes: numbers are plain digits, and what is unknown is empty.

A spreadsheet may use another separator than ours: by its language, or as a person chose. It then ignores our
quotes, and starts a cell wherever a text has its separator or a line break. So texts are made harmless in each
such place.
"""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from io import StringIO
from itertools import groupby
from typing import Any

from metering.exports.columns import Column, Kind
from metering.exports.csv_lines import parsed

# Characters that start a formula in a spreadsheet (OWASP, "CSV Injection"), with their full-width and small forms.
_STARTS = r"=+\-@＝＋－＠﹢﹣﹦﹫−"
# Characters that a spreadsheet may drop or read as quotes before it looks for a formula.
_IGNORED = r"\s\x00-\x20\x7f-\xa0\u200b-\u200f\u2060\ufeff'\""
# Where a cell may start within a text: these separate the cells or the lines of some spreadsheet. Not the comma: a
# spreadsheet that separates by commas reads our quotes.
_SEPARATORS = ";\t\r\n"
# A text that begins with a tab or a line break is one that OWASP names, too.
_FORMULA = re.compile(rf"\A(?=[{_IGNORED}]*[{_STARTS}\t\r\n])|(?<=[{_SEPARATORS}])(?=[{_IGNORED}]*[{_STARTS}])")
_CHARACTERS = "".join(map(chr, range(0x10000)))
# The characters that a text has to begin with to match at its start: a look-up is faster than the expression.
_SUSPECT = frozenset(re.findall(rf"[{_IGNORED}{_STARTS}]", _CHARACTERS))
# What stands before the first character of a formula, and such a character; beyond ASCII, both.
_BEFORE = frozenset(re.findall(rf"[{_IGNORED}{_SEPARATORS},]", _CHARACTERS))
_FIRST = "=+-@"
_NOT_ASCII = [each for each in re.findall(rf"[{_IGNORED}{_STARTS}]", _CHARACTERS) if not each.isascii()]
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

    def lines(self, lines: Sequence[bytes]) -> bytes:
        """These rows, harmless in a spreadsheet."""
        if self._excel:
            return self._rewritten(lines)
        ended = _ended(lines)
        if _is_harmless(ended.decode(), line_ends=len(lines)):
            return ended
        runs = groupby(lines, lambda line: _is_harmless(line.decode(), line_ends=0))
        return b"".join(_ended(run) if harmless else self._rewritten(run) for harmless, run in runs)

    def end(self) -> bytes:
        """Nothing: a CSV file has no footer."""
        return b""

    def _rewritten(self, lines: Iterable[bytes]) -> bytes:
        rows = parsed(_ended(lines).decode())
        columns = [write(values) for write, values in zip(self._writers, zip(*rows, strict=True), strict=False)]
        return _lines(zip(*columns, strict=True))


def _ended(lines: Iterable[bytes]) -> bytes:
    """These lines with their ends."""
    return b"\r\n".join([*lines, b""])


def _is_harmless(text: str, *, line_ends: int) -> bool:
    """Whether lines, with so many line ends, have nothing to rewrite. A negative number counts as something.

    This takes a tenth of the time of rewriting, or of searching them with an expression.
    """
    return (
        text[:1] not in _SUSPECT
        and "\t" not in text
        and text.count("\n") == text.count("\r") == line_ends
        and all(_BEFORE.isdisjoint(part[-1:] for part in text.split(first)[:-1]) for first in _FIRST)
        and (text.isascii() or not any(character in text for character in _NOT_ASCII))
    )


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


def _texts(texts: Sequence[str]) -> Sequence[str]:
    if _has_separator(texts):
        return [defused(text) for text in texts]
    return [defused(text) if text[:1] in _SUSPECT else text for text in texts]


def _documents(documents: Sequence[str]) -> Sequence[str]:
    return [defused_json(document) for document in documents] if _has_separator(documents) else documents


def _has_separator(texts: Sequence[str]) -> bool:
    """Whether one of the texts has a separator; for speed, they are searched together."""
    together = "".join(texts)
    return any(separator in together for separator in _SEPARATORS)


def _excel_moments(texts: Sequence[str]) -> Sequence[str]:
    """Times in UTC as Excel takes them for times, to the second."""
    return [text and f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}" for text in texts]


def _unchanged(texts: Sequence[str]) -> Sequence[str]:
    return texts


_WRITERS: dict[Kind, Callable[[Sequence[str]], Sequence[str]]] = {
    Kind.TEXT: _texts,
    Kind.COUNT: _unchanged,
    Kind.NUMBER: _unchanged,
    Kind.MOMENT: _unchanged,
    Kind.FLAG: _unchanged,
    Kind.JSON: _documents,
}
