"""The history of drift: a difference is one, however often it is found, until it is repaired or gone."""

from datetime import timedelta

from metering.db.engine import transaction
from metering.stripe.queries.drift_history import DriftEpisode, DriftStatus, list_drift_history
from tests.builders import Months
from tests.stripe.reconciling import edit_line, invoice_of, look


def history(months: Months, **where: str) -> list[DriftEpisode]:
    with transaction(months.service.engine) as connection:
        given = {"customer_id": None, "period": None, "reconciliation_id": None, **where}
        return list(list_drift_history(connection, **given, before=None, limit=100))


def pushed(months: Months) -> None:
    months.month("acme")
    months.push_all()


def later(months: Months) -> None:
    months.ahead += timedelta(hours=1)


def test_a_finding_that_is_repeated_and_repaired_is_one_row_with_both_totals(months: Months) -> None:
    pushed(months)
    edit_line(months, invoice_of(months), 130)
    look(months)
    later(months)
    look(months)
    (before,) = history(months)
    assert (before.status, before.times, before.repaired_at) == (DriftStatus.OPEN, 2, None)
    assert (before.ours_cents, before.theirs_cents, before.drift_cents) == (100, 130, 30)
    assert "$1.30, not $1.00" in before.detail
    assert before.stripe_url
    later(months)
    look(months, repair=True)
    (after,) = history(months)
    assert (after.status, after.times, after.first_seen) == (DriftStatus.REPAIRED, 3, before.first_seen)
    assert after.repaired_at is not None
    assert after.repair == "$0.30 credited"
    assert after.number is not None


def test_a_difference_that_comes_back_after_its_repair_is_another_one(months: Months) -> None:
    pushed(months)
    invoice = invoice_of(months)
    edit_line(months, invoice, 130)
    look(months, repair=True)
    later(months)
    edit_line(months, invoice, 160)
    look(months, repair=True)
    later(months)
    found = history(months)
    assert [each.status for each in found] == [DriftStatus.REPAIRED] * 2
    assert found[0].first_seen > found[1].first_seen


def test_what_a_later_reconciliation_does_not_find_is_gone(months: Months) -> None:
    pushed(months)
    invoice = invoice_of(months)
    edit_line(months, invoice, 130)
    first = look(months)
    later(months)
    edit_line(months, invoice, 100)
    look(months)
    (gone,) = history(months)
    assert gone.status is DriftStatus.GONE
    assert history(months, reconciliation_id=first.reconciliation_id) == [gone]
    assert history(months, customer_id="other") == []
