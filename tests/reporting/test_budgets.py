"""`budgets`, `holds` and `overruns`: the figures of the API, for SQL readers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from metering.budgets.budget import BudgetScope, BudgetWindow, ScopeKind
from tests.builders import Books, end, start
from tests.builders.budgets import Purse, asked
from tests.reporting.views import Row, read


def budgets(books: Books) -> dict[str, Row]:
    return {row["budget_id"]: row for row in read(books.database, "SELECT * FROM budgets WHERE is_current")}


def test_a_budget_has_its_figures_as_the_api_does(books: Books) -> None:
    purse, now = Purse(books.service), datetime.now(UTC)
    purse.set(now=now, window=BudgetWindow.TOTAL)
    purse.set("all", "50", scope=BudgetScope(ScopeKind.DEPLOYMENT), now=now, window=BudgetWindow.DAY)
    assert budgets(books)["b"]["headroom_usd_cents"] == 100
    purse.hold(asked("held"), now)
    purse.hold(asked("s"), now)
    books.receive([start(time=now), end(time=now)], at=now)
    books.finalize(now=now)
    found = budgets(books)
    for name in ("b", "all"):
        standing = purse.standing(name, now)
        row = found[name]
        assert (row["spent_usd_cents"], row["held_usd_cents"]) == (
            standing.spent_usd_cents,
            standing.held_usd_cents,
        )
        assert row["headroom_usd_cents"] == row["limit_usd_cents"] - row["spent_usd_cents"] - row["held_usd_cents"]
        assert row["headroom_usd"] * 100 == row["headroom_usd_cents"]
        assert row["spent_usd_cents"] > 0 < row["held_usd_cents"]
    assert (found["all"]["customer_id"], found["all"]["scope"]) == (None, "deployment")
    assert found["b"]["customer_id"] == "acme"


def test_a_window_that_is_over_has_what_was_spent_and_no_holds(books: Books) -> None:
    purse, now = Purse(books.service), datetime.now(UTC)
    purse.set(now=now - timedelta(days=2), window=BudgetWindow.DAY)
    purse.hold(asked("held"), now)
    at = now - timedelta(days=1)
    books.receive([start(time=at), end(time=at)], at=at)
    books.finalize(now=now)
    before, current = read(
        books.database, "SELECT * FROM budgets WHERE spent_usd > 0 OR is_current ORDER BY is_current"
    )
    assert (before["is_current"], before["spent_usd_cents"]) == (False, Decimal("0.4985"))
    assert (before["held_usd_cents"], before["headroom_usd_cents"]) == (None, None)
    assert (current["is_current"], current["spent_usd_cents"]) == (True, 0)
    assert current["held_usd_cents"] == Decimal("0.656")


def test_the_balance_is_the_limit_of_a_prepaid_budget(books: Books) -> None:
    Purse(books.service).set(limit=None, window=BudgetWindow.PREPAID, now=datetime.now(UTC))
    (row,) = budgets(books).values()
    assert (row["window"], row["limit_usd_cents"], row["headroom_usd_cents"]) == ("prepaid", None, None)


def test_holds_and_what_was_booked_beyond_them_are_listed(books: Books) -> None:
    purse, now = Purse(books.service), datetime.now(UTC)
    purse.set(now=now, window=BudgetWindow.TOTAL)
    purse.hold(asked("open"), now)
    purse.hold(asked("s"), now)
    books.receive([start(time=now), end(output=4_000, time=now)], at=now)
    books.finalize(now=now)
    held = {row["stream_id"]: row for row in read(books.database, "SELECT * FROM holds")}
    assert (held["open"]["state"], held["open"]["budgets"], held["open"]["closed_at"]) == ("open", "b", None)
    assert (held["s"]["state"], held["s"]["settled_usd_cents"]) == ("settled", Decimal("10.406"))
    (overrun,) = read(books.database, "SELECT * FROM overruns")
    assert (overrun["stream_id"], overrun["reason"], overrun["held_usd_cents"]) == (
        "s",
        "counted_more",
        Decimal("0.656"),
    )
    assert overrun["usd_cents"] == overrun["usd"] * 100 == Decimal("9.75")
