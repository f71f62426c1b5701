"""A change by hand of budgets, holds and overruns is found."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from metering.budgets.budget import BudgetScope, BudgetWindow, ScopeKind
from metering.server.embedded.data_dir import Services
from tests.audit.planting import Planting
from tests.builders import Books
from tests.builders.budgets import Purse, asked
from tests.builders.events import NOW, end, start
from tests.database import Template, clone, copy

BUDGETS_TEMPLATE = "metering_budgets_template"


@pytest.fixture(scope="session")
def budgets_template(services: Services, rated_template: Template) -> Template:
    """Budgets of each scope; holds that are open, settled, expired; charges within and beyond them."""
    database = copy(services, rated_template, name=BUDGETS_TEMPLATE)
    with database.service() as service:
        books, purse = Books(database, service), Purse(service)
        books.receive([start("before", api_key_id="k"), end("before")])
        books.finalize()
        purse.set("month", "100")
        purse.set("day", "100", window=BudgetWindow.DAY)
        purse.set("key", "100", scope=BudgetScope(ScopeKind.API_KEY, "acme", "k"))
        purse.set("all", "100", scope=BudgetScope(ScopeKind.DEPLOYMENT), window=BudgetWindow.TOTAL)
        purse.hold(asked("old"), now=NOW - timedelta(minutes=5))
        for stream_id in ("within", "beyond", "open", "key"):
            purse.hold(asked(stream_id, api_key_id="k" if stream_id == "key" else None))
        books.receive([start("within"), end("within"), start("beyond"), end("beyond", 500), start("open")])
        books.receive([start("key", api_key_id="k"), end("key"), start("none"), end("none")])
        books.finalize()
        purse.set("month", "200")
    return Template(BUDGETS_TEMPLATE, rated_template.cards)


@pytest.fixture
def planting(services: Services, budgets_template: Template) -> Iterator[Planting]:
    with clone(services, budgets_template) as database, database.service() as service:
        yield Planting(Books(database, service))


def test_nothing_is_wrong_with_what_the_service_wrote(planting: Planting) -> None:
    assert planting.audit() == []


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("UPDATE budgets SET held_usd_cents = held_usd_cents + 0.000001 WHERE budget_id = 'month'", "budgets"),
        ("UPDATE budgets SET held_usd_cents = 0 WHERE budget_id = 'all'", "budgets"),
        ("UPDATE holds SET held_usd_cents = 0.1 WHERE stream_id = 'open'", "budgets"),
        ("UPDATE holds SET budget_ids = '{}' WHERE stream_id = 'open'", "budgets"),
        ("DELETE FROM holds WHERE stream_id = 'open'", "budgets"),
        ("UPDATE budget_windows SET spent_usd_cents = 0 WHERE budget_id = 'day'", "budget_windows"),
        (
            "UPDATE budget_windows SET spent_usd_cents = spent_usd_cents - 1,"
            " opening_usd_cents = opening_usd_cents - 1 WHERE budget_id = 'month'",
            "budget_windows",
        ),
        (
            "UPDATE budget_windows SET ends_at = ends_at + interval '1 day' WHERE budget_id = 'day'",
            "budget_windows",
        ),
        ("DELETE FROM budget_windows WHERE budget_id = 'all'", "budget_postings"),
        ("DELETE FROM budget_postings WHERE budget_id = 'key'", "budget_windows"),
        (
            "DELETE FROM budget_postings p USING charges c WHERE p.customer_id = c.customer_id"
            " AND p.entry_id = c.charge_id AND c.stream_id = 'none' AND p.budget_id = 'day'",
            "budget_windows",
        ),
        ("UPDATE budget_postings SET usd_cents = usd_cents + 1 WHERE budget_id = 'all'", "budget_postings"),
        ("UPDATE budget_postings SET entry_id = 'ch_' || entry_id WHERE budget_id = 'all'", "budget_postings"),
        (
            "UPDATE budget_postings SET window_starts_at = window_starts_at + interval '1 h'"
            " WHERE budget_id = 'day'",
            "budget_postings",
        ),
        (
            "UPDATE holds SET state = 'open', closed_at = NULL, settled_usd_cents = NULL"
            " WHERE stream_id = 'within'",
            "holds",
        ),
        ("UPDATE holds SET settled_usd_cents = 0 WHERE stream_id = 'within'", "holds"),
        (
            "UPDATE holds SET state = 'settled', closed_at = now(), settled_usd_cents = 0 WHERE stream_id = 'old'",
            "holds",
        ),
        ("UPDATE holds SET held_usd_cents = 1 WHERE stream_id = 'beyond'", "overruns"),
        ("DELETE FROM overruns WHERE stream_id = 'none'", "overruns"),
        ("UPDATE overruns SET usd_cents = usd_cents / 2 WHERE stream_id = 'beyond'", "overruns"),
        ("UPDATE overruns SET entry_id = 'ch_nothing' WHERE stream_id = 'none'", "overruns"),
        ("UPDATE budgets SET limit_usd_cents = 100000 WHERE budget_id = 'month'", "budgets"),
        ("UPDATE budgets SET action = 'warn' WHERE budget_id = 'day'", "budgets"),
        ("UPDATE budgets SET ended_at = now() WHERE budget_id = 'key'", "budgets"),
        ("DELETE FROM budget_versions WHERE budget_id = 'month' AND version = 2", "budgets"),
    ],
    ids=lambda value: value[:70],
)
def test_a_change_of_budgets_is_found(planting: Planting, change: str, table: str) -> None:
    planting.plant(change)
    assert table in {what[0] for what in planting.audit()}
