"""The status of an invoice: what finance asks of it, made of its push and its due date."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering.db.engine import transaction
from metering.stripe.invoice_status import EXPLANATIONS, InvoiceStatus, status_of
from metering.stripe.push import PushState
from metering.stripe.queries.statuses import StatusFilter, invoices_by_status, sums_by_status, sums_to_do
from tests.builders import Months

NOW = datetime(2026, 12, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "due", "status"),
    [
        (PushState.PENDING, None, InvoiceStatus.DRAFT),
        (PushState.UNKNOWN, None, InvoiceStatus.ATTENTION),
        (PushState.STUCK, None, InvoiceStatus.ATTENTION),
        (PushState.FINAL, None, InvoiceStatus.OPEN),
        (PushState.FINAL, NOW, InvoiceStatus.OPEN),
        (PushState.FINAL, NOW - timedelta(seconds=1), InvoiceStatus.PAST_DUE),
        (PushState.PAID, NOW - timedelta(days=9), InvoiceStatus.PAID),
        (PushState.DEFERRED, None, InvoiceStatus.CARRIED_OVER),
    ],
)
def test_an_invoice_is_past_due_only_while_it_is_open(
    state: PushState, due: datetime | None, status: InvoiceStatus
) -> None:
    assert status_of(state, payment_due_at=due, now=NOW) is status


def test_every_push_state_has_a_status_and_an_explanation() -> None:
    assert {status_of(state, payment_due_at=NOW - timedelta(1), now=NOW) for state in PushState} < set(
        InvoiceStatus
    )
    assert set(EXPLANATIONS) == set(PushState)


def test_the_queries_have_the_same_rules(months: Months) -> None:
    states = {f"{state.value}-{due}": (state, due) for state in PushState for due in (None, -1, 1)}
    months.month(*states)
    for customer_id, (state, due) in states.items():
        at = "NULL" if due is None else f"'{(NOW + timedelta(days=due)).isoformat()}'"
        months.execute(
            f"UPDATE invoice_pushes SET state = '{state.value}', payment_due_at = {at}, due_at = NULL"
            f" WHERE customer_id = '{customer_id}'"
        )
    wanted: dict[InvoiceStatus, set[str]] = {status: set() for status in InvoiceStatus}
    for customer_id, (state, due) in states.items():
        at_ = None if due is None else NOW + timedelta(days=due)
        wanted[status_of(state, payment_due_at=at_, now=NOW)].add(customer_id)
    with transaction(months.service.engine) as connection:
        sums = sums_by_status(connection, period="2026-11", customer_id=None, now=NOW)
        to_do = sums_to_do(connection, now=NOW)
        for status, customers in wanted.items():
            where = StatusFilter(status=status)
            found = invoices_by_status(connection, where=where, before=None, limit=1_000, now=NOW)
            assert {customer_id for customer_id, _ in found} == customers, status
            assert (sums[status].count, sums[status].billed_cents) == (len(customers), 100 * len(customers))
            assert sums[status].exact_usd_cents == Decimal("100.406") * len(customers)
            if status in to_do:
                assert to_do[status].count == len(customers)
