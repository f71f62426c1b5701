"""How rows are laid out as text: a table that fits its width, or a block of lines for each row.

A value is broken between words only: numbers, ids and addresses always stay in one piece, to be copied.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

GAP = "  "
# Text up to this long is not wrapped, whatever else has to go.
_SHORT = 24


@dataclass(frozen=True, slots=True)
class Laid:
    """A column as text: its heading, and a cell of each row."""

    heading: str
    cells: Sequence[str]
    right: bool = False


# Adds the colour of a cell: its column's place, its text, and the text padded to the column's width.
Paint = Callable[[int, str, str], str]


def plain(_place: int, _text: str, padded: str) -> str:
    """No colour."""
    return padded


@dataclass(frozen=True, slots=True)
class Fit:
    """Which columns a table of this width has, and how wide each is."""

    shown: Sequence[int]
    widths: Sequence[int]


def fit(columns: Sequence[Laid], *, importance: Sequence[int], keep: int, width: int | None) -> Fit | None:
    """The columns that fit, in their order: the least important ones go first, and `keep` of them always stay.

    None: not even those fit. `importance` has the places of all columns, the most important one first.
    """
    for count in range(len(importance), keep - 1, -1):
        shown = sorted(importance[:count])
        widths = _widths([columns[place] for place in shown], width)
        if widths is not None:
            return Fit(shown, widths)
    return None


def table(columns: Sequence[Laid], fitted: Fit, *, heading: Callable[[str], str], paint: Paint) -> Iterator[str]:
    """The lines of a table: a line of headings, then the rows."""
    laid = [(place, columns[place], width) for place, width in zip(fitted.shown, fitted.widths, strict=True)]
    names = [_padded(column.heading, width, right=column.right) for _, column, width in laid]
    yield heading(GAP.join(names).rstrip())
    for row in range(len(columns[0].cells)):
        wrapped = [wrap(column.cells[row], width) for _, column, width in laid]
        for line in range(max(map(len, wrapped))):
            cells = []
            for (place, column, width), lines in zip(laid, wrapped, strict=True):
                text = lines[line] if line < len(lines) else ""
                cells.append(paint(place, column.cells[row], _padded(text, width, right=column.right)))
            yield GAP.join(cells).rstrip()


def block(columns: Sequence[Laid], row: int, *, width: int | None, paint: Paint) -> Iterator[str]:
    """A row as lines, one for each value; long text continues below itself."""
    name_width = max(len(column.heading) for column in columns)
    for place, column in enumerate(columns):
        text = column.cells[row].strip()
        first, *more = wrap(text, max(width - name_width - len(GAP), _SHORT) if width else None)
        yield f"{column.heading.ljust(name_width)}{GAP}{paint(place, text, first)}".rstrip()
        for line in more:
            yield " " * name_width + GAP + line


def wrap(text: str, width: int | None) -> list[str]:
    """The text in lines of this width, broken between words. Text with double spaces is broken there only.

    >>> wrap("input 30  output 180", 12)
    ['input 30', 'output 180']
    """
    if width is None or cells(text) <= width:
        return [text]
    gap = _gap(text)
    lines = [""]
    for word in re.split(f"{gap}+", text.strip()):
        longer = lines[-1] + gap + word if lines[-1] else word
        if lines[-1] and cells(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def cells(text: str) -> int:
    """The width of a text on a terminal.

    >>> cells("Söhne"), cells("東京")
    (5, 4)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def _widths(columns: Sequence[Laid], width: int | None) -> list[int] | None:
    """A width for each column; None if they do not fit."""
    natural = [max(map(cells, (column.heading, *column.cells))) for column in columns]
    if width is None:
        return natural
    left = width - len(GAP) * (len(columns) - 1)
    if sum(natural) <= left:
        return natural
    least = [max(cells(column.heading), *map(_least, column.cells)) for column in columns]
    spare = left - sum(least)
    if spare < 0:
        return None
    widths = []
    for wanted, needed in zip(natural, least, strict=True):
        given = min(wanted - needed, spare)
        spare -= given
        widths.append(needed + given)
    return widths


def _least(text: str) -> int:
    """The width below which a text is not squeezed: that of its longest word, or all of it where it is short."""
    longest = max(map(cells, re.split(f"{_gap(text)}+", text)))
    return max(longest, min(cells(text), _SHORT))


def _gap(text: str) -> str:
    return GAP if GAP in text.strip() else " "


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cells(text))
    return space + text if right else text + space
