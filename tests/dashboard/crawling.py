"""All kinds of pages that a session comes to by following links, and what they say."""

import re
from html import unescape

from tests.dashboard.browsing import Browser


def text_of(page: str) -> str:
    """What a page says, with its titles, without what its customer's gateway sent and its addresses."""
    page = re.sub(r"<(script|pre)\b.*?</\1>", " ", page, flags=re.DOTALL)
    body = page[page.index("<body") :]
    return " ".join(unescape(re.sub(r"<[^>]*?(?:title=\"([^\"]*)\")?[^>]*>", r" \1 ", body)).split())


def pages_of(browser: Browser, *, each: int = 3) -> dict[str, str]:
    """The pages that links lead to from the first one, a few of each kind, by their address."""
    found: dict[str, str] = {}
    waiting = [""]
    while waiting:
        address = waiting.pop(0)
        kind = address.partition("?")[0]
        if address in found or sum(known.partition("?")[0] == kind for known in found) >= each:
            continue
        found[address] = browser.get(address).text
        links = re.findall(r'href="/dashboard/([^"#]*)"', found[address])
        waiting += [
            unescape(link) for link in links if not re.search(r"static/|csv=|statement\.|receipt\.|export", link)
        ]
    return found
