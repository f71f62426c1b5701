"""Metrics of months: where invoices are at Stripe, and what reconciliations left."""

from metering.stripe.push import PushState
from tests.builders import NOVEMBER, Months
from tests.metrics import scrape_work
from tests.stripe.reconciling import edit_line, invoice_of, look


def test_invoices_are_counted_by_how_far_stripe_has_them(months: Months) -> None:
    assert scrape_work(months.service).not_zero("metering_pushes") == {}
    months.month("acme", "other")
    months.use("small", output=8_000)
    months.close("2026-11", customer_id="small")
    found = scrape_work(months.service)
    assert found.not_zero("metering_pushes") == {"pending": 2, "deferred": 1}
    assert found.not_zero("metering_push_cents") == {"pending": 200}
    months.push_all()
    found = scrape_work(months.service)
    assert found.not_zero("metering_pushes") == {"final": 2, "deferred": 1}
    assert found.not_zero("metering_push_cents") == {"final": 200}
    assert {labels[0][1] for name, labels in found.samples if name == "metering_pushes"} == set(PushState)


def test_of_earlier_months_only_what_is_not_at_its_end_is_counted(months: Months) -> None:
    months.use("acme", at=NOVEMBER.replace(month=10))
    months.use("stuck", at=NOVEMBER.replace(month=10))
    months.close("2026-10")
    months.execute("UPDATE invoice_pushes SET state = 'final' WHERE customer_id = 'acme'")
    months.execute("UPDATE invoice_pushes SET state = 'stuck' WHERE customer_id = 'stuck'")
    months.use("acme", name="two")
    months.close("2026-11")
    found = scrape_work(months.service)
    assert found.not_zero("metering_pushes") == {"pending": 1, "stuck": 1}
    assert found.not_zero("metering_push_cents") == {"pending": 100, "stuck": 100}


def test_drift_is_counted_by_class_until_it_is_gone(months: Months) -> None:
    months.month("acme", "other")
    months.push_all()
    assert "metering_reconciled_seconds" not in scrape_work(months.service)
    look(months)
    clean = scrape_work(months.service)
    assert clean.not_zero("metering_drift_findings") == {}
    assert clean("metering_reconciled_seconds") < 3600
    edit_line(months, invoice_of(months), 70)
    look(months)
    found = scrape_work(months.service)
    assert found.not_zero("metering_drift_findings") == {"line": 1}
    assert found.not_zero("metering_drift_cents") == {"line": 30}
    look(months, repair=True)
    assert scrape_work(months.service).not_zero("metering_drift_findings") == {}
