"""A snapshot: what an invoice at Stripe asks of the customer."""

import pytest

from metering.stripe.snapshot import StripeStatus
from tests.builders.snapshots import snapshot_of, wanted_of


@pytest.mark.parametrize("status", StripeStatus)
def test_it_asks_for_its_lines_without_what_was_credited_and_for_nothing_when_it_is_void(
    status: StripeStatus,
) -> None:
    found = snapshot_of(wanted_of(70, 30), status=status, credited=25)
    assert found.net == (0 if status is StripeStatus.VOID else 75)
    assert found.finalized == (status is not StripeStatus.DRAFT)
