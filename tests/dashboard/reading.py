"""Reading a page as a person does: its amounts, what they lead to, its tables."""

import csv
import re
from dataclasses import dataclass, field
from decimal import Decimal
from html.parser import HTMLParser
from io import StringIO


@dataclass(slots=True)
class Amount:
    """An amount on a page: exactly in dollars, as it is shown, and where it leads."""

    usd: Decimal
    href: str | None
    shown: str = ""


@dataclass(slots=True)
class _Reader(HTMLParser):
    amounts: list[Amount] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    _href: str | None = None
    _inside: bool = False

    def __post_init__(self) -> None:
        HTMLParser.__init__(self, convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self._href = given.get("href")
            self.links.append(self._href or "")
        if tag == "data":
            self.amounts.append(Amount(Decimal(given["value"] or "0"), self._href))
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._href = None
        if tag == "data":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.amounts[-1].shown += data


def amounts_of(page: str) -> list[Amount]:
    """Every amount of a page."""
    return _read(page).amounts


def links_of(page: str) -> list[str]:
    """Where a page leads."""
    return _read(page).links


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    return reader


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(StringIO(text.removeprefix("\ufeff"))))


_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


def hidden_fields(page: str) -> dict[str, str]:
    """The hidden fields of the forms of a page; the first one where a name repeats."""
    found: dict[str, str] = {}
    for name, value in _HIDDEN.findall(page):
        found.setdefault(name, value)
    return found
