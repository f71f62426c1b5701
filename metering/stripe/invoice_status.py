"""The status of an invoice for finance: what its push has reached, and what its customer still has to do."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

from metering.stripe.push import UNDER_WAY, PushState


class InvoiceStatus(StrEnum):
    """`DRAFT`: on its way to Stripe. `OPEN`: final there, and not paid yet. `PAST_DUE`: open after its due date.

    `ATTENTION`: it does not go on by itself, or Stripe does not answer. `CARRIED_OVER`: below the minimum, so that
    nothing is billed. `VOID`, `UNCOLLECTIBLE`: given up at Stripe.
    """

    DRAFT = "draft"
    OPEN = "open"
    PAST_DUE = "past_due"
    PAID = "paid"
    ATTENTION = "attention"
    CARRIED_OVER = "carried_over"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"


# Push states in which an invoice needs attention. A worker goes on with the last one by itself.
NEED_ATTENTION = frozenset({PushState.STUCK, PushState.UNLINKED, PushState.UNKNOWN})

_ENDS = {
    PushState.PAID: InvoiceStatus.PAID,
    PushState.VOID: InvoiceStatus.VOID,
    PushState.UNCOLLECTIBLE: InvoiceStatus.UNCOLLECTIBLE,
    PushState.DEFERRED: InvoiceStatus.CARRIED_OVER,
}


def status_of(state: PushState, *, payment_due_at: datetime | None, now: datetime) -> InvoiceStatus:
    """The status of an invoice by its push and its due date."""
    if state in NEED_ATTENTION:
        return InvoiceStatus.ATTENTION
    if state in UNDER_WAY:
        return InvoiceStatus.DRAFT
    if state is PushState.FINAL:
        is_late = payment_due_at is not None and payment_due_at < now
        return InvoiceStatus.PAST_DUE if is_late else InvoiceStatus.OPEN
    return _ENDS[state]


# What each push state means, and what to do about it.
EXPLANATIONS: Mapping[PushState, str] = {
    PushState.PENDING: "Waits for a worker.",
    PushState.LOOKUP: "A worker looks for it at Stripe.",
    PushState.CREATING: "A worker creates the draft at Stripe.",
    PushState.LINING: "A worker writes the lines at Stripe.",
    PushState.VERIFYING: "A worker compares Stripe's draft with the invoice.",
    PushState.FINALIZING: "A worker finalizes it at Stripe.",
    PushState.UNKNOWN: "Stripe did not answer, or could not be reached. It is tried again by itself.",
    PushState.FINAL: "Final at Stripe.",
    PushState.PAID: "Paid at Stripe.",
    PushState.VOID: "Voided at Stripe. It is not billed again.",
    PushState.UNCOLLECTIBLE: "Marked as uncollectible at Stripe.",
    PushState.DEFERRED: "Below the minimum: nothing is billed, and the amount is on the next invoice.",
    PushState.UNLINKED: "The customer has no Stripe customer: link one, and it is pushed.",
    PushState.STUCK: "Refused, or verified too often. Remove the cause, then push the month again.",
}
