"""New prices of the catalogue: an alert for each batch, for everybody and for each customer whose cost changes."""

from datetime import UTC, datetime, timedelta

from metering.alerts.alerts import AlertKind, AlertScope
from metering.corrections.compare_rates import compare_rates
from metering.prices.catalogue import Catalogue
from metering.prices.import_rates import import_rates
from tests.alerts.watched import NOW, Watched
from tests.builders.catalogues import dearer

PRICE_CHANGE = AlertKind.PRICE_CHANGE
OCTOBER = datetime(2026, 10, 20, 15, tzinfo=UTC)
DAY = timedelta(days=1)


def compare(watched: Watched, found: Catalogue, at: datetime) -> str:
    """Compare, and tell the window of the newest batch."""
    compare_rates(engine=watched.service.engine, read=lambda: found, every=DAY, now=at)
    ((batch,),) = watched.rows("SELECT batch FROM rate_comparisons")
    return str(batch)


def test_new_prices_fire_once_a_batch_for_everybody_and_for_those_whose_cost_changes(watched: Watched) -> None:
    watched.alert(PRICE_CHANGE, 100, scope=AlertScope.DEPLOYMENT)
    watched.alert(PRICE_CHANGE, 60)
    watched.use("acme", 60, OCTOBER)
    watched.use("bolt", 40, OCTOBER)
    assert watched.occurred(PRICE_CHANGE) == set()
    twice = dearer({"claude-opus-4-7": 2})
    first = compare(watched, twice, NOW)
    assert watched.occurred(PRICE_CHANGE) == {("", first, "100"), ("acme", first, "60")}
    assert compare(watched, twice, NOW + DAY) == first
    assert watched.evaluate(PRICE_CHANGE, NOW + DAY).occurrences == 0
    both = compare(watched, dearer({"claude-opus-4-7": 2, "claude-sonnet-5": 3}), NOW + 2 * DAY)
    assert both != first
    assert ("", both, "100") in watched.occurred(PRICE_CHANGE, NOW + 2 * DAY)


def test_the_message_has_the_amounts_of_last_month_before_and_after(watched: Watched) -> None:
    watched.alert(PRICE_CHANGE, 0, scope=AlertScope.DEPLOYMENT)
    watched.use("acme", 60, OCTOBER)
    compare(watched, dearer({"claude-opus-4-7": "0.5", "claude-sonnet-5": 3}), NOW)
    watched.evaluate(PRICE_CHANGE)
    (one,) = watched.occurrences()
    expected = {
        "value": "30",
        "unit": "usd_cents",
        "change_count": 2,
        "last_month_usd_cents": "60",
        "would_cost_usd_cents": "30",
        "found_at": "2026-11-23T15:30:00Z",
    }
    assert {name: one.data[name] for name in expected} == expected


def test_customers_who_would_pay_more_and_less_do_not_cancel_out(watched: Watched) -> None:
    watched.alert(PRICE_CHANGE, 50, scope=AlertScope.DEPLOYMENT)
    watched.use("acme", 30, OCTOBER)
    watched.execute(
        """
        INSERT INTO price_changes VALUES ('c', 'p', 'm', 'a', 'b', now(), 's', '2026-10', now());
        INSERT INTO price_change_costs VALUES ('c', 'acme', 1, 0, 30, 55.5)
        """
    )
    watched.execute(f"UPDATE rate_comparisons SET batch = 'b', found_at = '{NOW}', compared_at = '{NOW}'")
    assert watched.occurred(PRICE_CHANGE) == set()
    watched.use("bolt", 30, OCTOBER)
    watched.execute("INSERT INTO price_change_costs VALUES ('c', 'bolt', 1, 0, 30, 5.5)")
    assert watched.occurred(PRICE_CHANGE) == {("", "b", "50")}


def test_prices_that_were_imported_fire_no_more_and_nor_do_old_ones(watched: Watched) -> None:
    watched.alert(PRICE_CHANGE, 0, scope=AlertScope.DEPLOYMENT)
    twice = dearer({"claude-opus-4-7": 2})
    compare(watched, twice, NOW)
    assert watched.evaluate(PRICE_CHANGE, NOW + 32 * DAY).occurrences == 0
    import_rates(engine=watched.service.engine, catalogue=twice, now=NOW)
    assert watched.evaluate(PRICE_CHANGE, NOW).occurrences == 0
