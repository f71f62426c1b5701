"""Dates in tables: one form, which sorts as text, on every page."""

import re

from tests.dashboard.browsing import Browser
from tests.dashboard.crawling import pages_of

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]*"
# 28 Nov, Nov 28, November 2026, 28/11/2026, 28.11.2026, and a time as machines write it.
OTHER_FORMS = re.compile(
    rf"\b\d{{1,2}} {_MONTH}\b|\b{_MONTH} \d{{1,4}}\b|\b\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}\b|\dT\d\d:"
)


def cells(page: str) -> str:
    """The text of the bodies of all tables."""
    bodies = re.findall(r"<tbody>(.*?)</tbody>", page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", " ".join(bodies)).split())


def test_dates_in_tables_are_year_month_day_everywhere(admin: Browser) -> None:
    pages = pages_of(admin, each=2)
    assert len(pages) > 25
    found = {address: OTHER_FORMS.findall(cells(page)) for address, page in pages.items()}
    assert {address: dates for address, dates in found.items() if dates} == {}
    assert sum(len(re.findall(r"\b20\d\d-\d\d-\d\d\b", cells(page))) for page in pages.values()) > 100
