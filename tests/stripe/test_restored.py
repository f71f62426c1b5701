"""A database restored from a backup: what was pushed afterwards is found at Stripe, and not written again."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from metering.core.clock import utc_now
from metering.lab.stripe_local.faults import Fault
from metering.server.embedded.data_dir import Services
from metering.stripe.client.client import StripeClientPort
from metering.stripe.drift import DriftClass
from metering.stripe.push import PushState
from tests.builders import Months
from tests.command_line import CommandLine
from tests.database import Database, Template, clone, is_cluster
from tests.local_stripe import KEY
from tests.stripe.reconciling import look

pytestmark = pytest.mark.skipif(is_cluster(), reason="`metering backup` is for one PostgreSQL")
RIGHT = [("open", 100, 1)]
POST_INVOICE = "POST /v1/invoices"


def back_up(months: Months, folder: Path) -> None:
    CommandLine(months.database)("backup", str(folder))


@contextmanager
def restored(backup: Path, months: Months, services: Services) -> Iterator[Months]:
    """The books of the backup in a database of their own, with Stripe as it is now."""
    with clone(services, Template("template0")) as empty:
        CommandLine(None)("restore", str(backup), "--into", empty.url)
        database = Database(empty.url, empty.redis_url, months.database.cards)
        with database.service() as service:
            found = Months(database, service, months.stripe)
            found.ahead = months.ahead
            months.stripe.control.clear_requests()
            yield found


def test_an_invoice_that_was_pushed_after_the_backup_is_adopted(
    months: Months, services: Services, tmp_path: Path
) -> None:
    months.month("acme")
    back_up(months, tmp_path / "backup")
    assert months.push() == {PushState.FINAL: 1}
    ((invoice,),) = months.rows("SELECT stripe_invoice_id FROM invoice_pushes")
    with restored(tmp_path / "backup", months, services) as again:
        assert again.rows("SELECT state, stripe_invoice_id FROM invoice_pushes") == [("pending", None)]
        assert again.push() == {PushState.FINAL: 1}
        assert again.rows("SELECT state, stripe_invoice_id FROM invoice_pushes") == [("final", invoice)]
        assert again.stripe.requests("POST") == [], "nothing is written"
        assert look(again).found == []
    assert months.at_stripe() == RIGHT


def test_a_reconciler_that_is_first_creates_no_second_invoice(
    months: Months, services: Services, tmp_path: Path
) -> None:
    months.month("acme")
    back_up(months, tmp_path / "backup")
    months.push_all()
    with restored(tmp_path / "backup", months, services) as again:
        look(again, repair=True)
        assert again.stripe.requests("POST") == []
        again.push_all()
        assert look(again, repair=True).found == []
    assert months.at_stripe() == RIGHT


def test_a_month_that_was_closed_after_the_backup_is_closed_again_as_the_same_invoice(
    months: Months, services: Services, tmp_path: Path
) -> None:
    months.use("acme")
    months.link("acme")
    back_up(months, tmp_path / "backup")
    months.close_november()
    months.push_all()
    sealed = months.rows("SELECT invoice_id, billed_cents, remainder_usd_cents FROM invoices")
    with restored(tmp_path / "backup", months, services) as again:
        assert again.rows("SELECT count(*) FROM invoices") == [(0,)]
        again.close_november()
        again.push_all()
        assert again.rows("SELECT invoice_id, billed_cents, remainder_usd_cents FROM invoices") == sealed
        assert again.stripe.requests("POST") == []
    assert months.at_stripe() == RIGHT


def test_a_month_that_is_closed_again_days_later_is_found_at_stripe_in_live_mode(
    months: Months, services: Services, tmp_path: Path
) -> None:
    """In live mode a customer's invoices are listed from a time on: it must not be that of the second closing."""

    def close_october(books: Months, at: datetime) -> None:
        books.port = StripeClientPort(
            api_key="sk_live_tests", api_base=books.stripe.url, limiter=books.port._limiter
        )
        assert books.close("2026-10") == {}
        books.execute(f"UPDATE invoices SET created_at = '{at.isoformat()}'")
        books.execute("UPDATE invoice_pushes SET due_at = now() WHERE due_at IS NOT NULL")
        books.push_all()

    months.use("acme", at=datetime(2026, 10, 12, 9, tzinfo=UTC))
    months.link("acme")
    back_up(months, tmp_path / "backup")
    first = datetime(2026, 11, 2, 1, tzinfo=UTC)
    close_october(months, first)
    ((invoice,),) = months.rows("SELECT stripe_invoice_id FROM invoice_pushes")
    months.stripe.control.edit(str(invoice), {"created": int(first.timestamp())})
    months.stripe.control.forget_keys()
    with restored(tmp_path / "backup", months, services) as again:
        close_october(again, utc_now())
        assert again.rows("SELECT state, stripe_invoice_id FROM invoice_pushes") == [("final", invoice)]
        assert again.stripe.requests("POST") == []
        assert look(again).found == []
    assert months.at_stripe() == RIGHT


@pytest.mark.parametrize("endpoint", [POST_INVOICE, f"{POST_INVOICE}/{{invoice}}/add_lines"])
@pytest.mark.parametrize("forgotten", [False, True], ids=["remembered", "forgotten"])
def test_a_draft_of_a_push_that_the_backup_does_not_know_is_completed(
    months: Months, services: Services, tmp_path: Path, endpoint: str, forgotten: bool
) -> None:
    months.month("acme")
    back_up(months, tmp_path / "backup")
    months.stripe.control.fail_next(endpoint, Fault.LOST_REPLY)
    assert months.push() == {PushState.UNKNOWN: 1}
    if forgotten:
        months.stripe.control.forget_keys()
    with restored(tmp_path / "backup", months, services) as again:
        again.push_all()
        assert POST_INVOICE not in again.stripe.requests("POST")
        assert again.rows("SELECT state FROM invoice_pushes") == [("final",)]
    assert months.at_stripe() == RIGHT


def test_an_invoice_of_usage_that_was_lost_is_reported_and_not_billed_again(
    months: Months, services: Services, tmp_path: Path
) -> None:
    months.use("acme")
    months.link("acme")
    back_up(months, tmp_path / "backup")
    months.use("acme", name="after the backup")
    months.close_november()
    months.push_all()
    assert months.at_stripe() == [("open", 200, 1)]
    with restored(tmp_path / "backup", months, services) as again:
        again.close_november()
        again.push_all()
        assert again.stripe.requests("POST") == []
        assert [each.finding.drift_class for each in look(again).found] == [DriftClass.LINE]
    assert months.at_stripe() == [("open", 200, 1)]


def test_a_customer_that_was_created_at_stripe_after_the_backup_is_linked_and_not_created_again(
    months: Months, services: Services, tmp_path: Path
) -> None:
    def link(books: Months, how: str) -> str:
        key, base = {"STRIPE_API_KEY": KEY}, {"METERING_STRIPE_API_BASE": books.stripe.url}
        return CommandLine(books.database, **key, **base)("customers", "link", how, "--yes").stderr

    months.use("acme")
    back_up(months, tmp_path / "backup")
    assert "1 Stripe customer created" in link(months, "--create")
    months.close_november()
    months.push_all()
    linked = months.rows("SELECT stripe_customer_id FROM customers")
    months.stripe.control.forget_keys()
    with restored(tmp_path / "backup", months, services) as again:
        assert "1 customer linked, which an earlier run had created" in link(again, "--create")
        assert again.rows("SELECT stripe_customer_id FROM customers") == linked
        again.close_november()
        again.push_all()
        assert again.stripe.requests("POST") == []
    assert months.at_stripe() == RIGHT
