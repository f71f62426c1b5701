"""A connection to PostgreSQL that breaks while a page is made: the page says to try again."""

import psycopg
import pytest

from tests.dashboard.browsing import browse
from tests.database import Database
from tests.lost_connections import breaking
from tests.running_api import Api

PAGES = ["", "streams", "customers", "invoices", "backlog", "keys"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("statements", ["FROM keys", "SELECT"])
def test_a_page_whose_connection_breaks_says_to_try_again(
    api: Api, rated_database: Database, path: str, statements: str
) -> None:
    browser = browse(api)
    with breaking(rated_database, statements=statements) as ended:
        answer = browser.http.get(f"/dashboard/{path}")
    assert ended
    assert answer.status_code == 503
    assert "Temporarily unavailable" in answer.text
    assert browser.get(path)


def test_a_page_whose_query_takes_too_long_asks_for_a_shorter_range(api: Api, rated_database: Database) -> None:
    browser = browse(api)
    with psycopg.connect(rated_database.url) as owner:
        owner.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
        answer = browser.http.get("/dashboard/customers", timeout=60)
    assert answer.status_code == 503
    assert "a shorter range, or a single customer" in answer.text
