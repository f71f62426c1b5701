"""Faults in prepaid credits: drawing, restoring, expiry, revenue, the prepaid line, top-ups."""

from tests.planted.fault import Fault

CREDITS = (
    Fault(
        "expired credit can be spent until its expiry is booked",
        "metering/credits/drawing.py",
        "            self._expire(grant, at)\n            grant = self.grants[grant_id]\n"
        "            if not grant.pays_at(at):",
        "            if not grant.balance_usd_cents or grant.effective_from > at:",
        ("tests/credits/test_drawing.py::test_expired_credit_cannot_be_spent_before_a_sweeper_runs",),
    ),
    Fault(
        "what returns to an expired grant can be spent again",
        "metering/credits/drawing.py",
        "        elif grant.expired(at):",
        "        elif False:",
        ("tests/credits/test_drawing.py::test_what_returns_to_an_expired_grant_expires_at_once_and_visibly",),
    ),
    Fault(
        "a second restoring gives back what the first one gave back",
        "metering/credits/drawing.py",
        "            last = paid.pop()\n            given = min(left, last.usd_cents)",
        "            last = paid[-1]\n            given = left",
        ("tests/credits/test_drawing.py::test_no_more_is_restored_than_was_drawn_for_the_stream",),
    ),
    Fault(
        "grants pay for what a credit had covered",
        "metering/credits/drawing.py",
        "            left = min(left, max(cost, ZERO))\n",
        "            left = min(left, max(cost, left))\n",
        (
            "tests/credits/test_drawing.py::test_no_more_is_drawn_than_the_stream_costs",
            "tests/credits/test_grants_in_books.py::test_what_a_credit_had_covered_already_is_not_paid_once_more",
        ),
    ),
    Fault(
        "draws are restored the first one first",
        "metering/credits/drawing.py",
        "            last = paid.pop()\n            given",
        "            last = paid.pop(0)\n            given",
        ("tests/credits/test_drawing.py::test_what_is_taken_back_is_restored_to_the_last_grant_that_paid_first",),
    ),
    Fault(
        "a negated amount is rounded to Python's usual digits",
        "metering/credits/drawing.py",
        "EntryKind.DRAWN, taken.copy_negate(), at)",
        "EntryKind.DRAWN, -taken, at)",
        ("tests/credits/test_drawing.py::test_amounts_of_many_digits_are_not_rounded",),
    ),
    Fault(
        "a limited grant pays for every model",
        "metering/credits/drawing.py",
        "            if not grant.limits.allow(provider=booking.provider, model=booking.model):\n"
        "                continue\n",
        "",
        ("tests/credits/test_drawing.py::test_a_limited_grant_is_passed_over_for_other_models",),
    ),
    Fault(
        "a limited grant is a balance to admit by",
        "metering/credits/queries/balances.py",
        "AND only_providers IS NULL AND only_models IS NULL",
        "",
        ("tests/credits/test_grants_in_books.py::test_expired_credit_is_not_a_balance_although_no_sweeper_ran",),
    ),
    Fault(
        "a refund pays back what a restored draw had earned as well",
        "metering/credits/revenue.py",
        "    rest = int(paid) - ended\n    if balance:\n        least, most",
        "    rest = int(paid) - ended\n    if balance and usd_cents < 0:\n"
        "        return Earned(drawn, earned.recognised_cents, earned.released_cents)\n    if balance:\n"
        "        least, most",
        ("tests/credits/test_revenue.py::test_refunds_never_pay_back_more_than_the_price",),
    ),
    Fault(
        "an invoice bills what grants have paid",
        "metering/months/invoice.py",
        "total = EXACT.subtract(EXACT.add(exact, carried_in), prepaid)",
        "total = EXACT.add(exact, carried_in)",
        (
            "tests/credits/test_prepaid_invoices.py"
            "::test_what_grants_paid_is_one_line_below_zero_and_the_rest_is_owed",
        ),
    ),
    Fault(
        "a customer whose grant is used up gets nothing back",
        "metering/budgets/queries/posting.py",
        "FROM grants WHERE customer_id = ANY(:customer_ids) AND",
        "FROM grants WHERE customer_id = ANY(:customer_ids) AND balance_usd_cents > 0 AND",
        ("tests/credits/test_grants_in_books.py::test_a_grant_that_is_used_up_gets_back_what_is_taken_back",),
    ),
    Fault(
        "a top-up is bought while another one is unpaid",
        "metering/credits/top_up.py",
        "and not unpaid and bought",
        "and bought",
        ("tests/credits/test_top_up.py::test_it_is_due_below_its_limit_unless_one_is_unpaid_or_the_day_is_full",),
    ),
    Fault(
        "a grant is active when its invoice is final",
        "metering/stripe/invoice_grants.py",
        "elif read.status is StripeStatus.PAID:",
        "elif read.finalized:",
        ("tests/stripe/test_grant_invoices.py::test_a_grant_is_active_once_its_invoice_is_read_back_as_paid",),
    ),
)
