"""Repair drift: what each class allows, one invoice at a time, read again before and after."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from metering.db.engine import transaction
from metering.stripe.client.errors import StripeError, StripeUnauthorizedError
from metering.stripe.client.port import since_of
from metering.stripe.drift import Finding, Remedy, find_drift
from metering.stripe.push import (
    INVOICE_MARK,
    Mark,
    WantedInvoice,
    WantedLine,
    mark_of,
)
from metering.stripe.push_due import Pusher, prepare_push
from metering.stripe.push_invoice import Push
from metering.stripe.snapshot import Snapshot, StripeStatus
from metering.stripe.store.pushes import LeaseLostError, claim_push, push_state, release_push
from metering.stripe.store.reconciliations import FoundDrift

log = logging.getLogger(__name__)

# A share of few customers is less than one of them.
_ALWAYS_ALLOWED_CUSTOMERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """More than this in one run is a bug of ours, not drift, and nothing is repaired."""

    cents: int
    share: Decimal


NO_REPAIRS = Caps(cents=0, share=Decimal(0))


def over_caps(
    by_invoice: Mapping[tuple[str, str], Sequence[FoundDrift]], *, customers: int, caps: Caps
) -> str | None:
    """Why these repairs are too much for one run; None when they are not."""
    touched = len({customer_id for customer_id, _ in by_invoice})
    allowed = max(_ALWAYS_ALLOWED_CUSTOMERS, int(customers * caps.share))
    if touched > allowed:
        return f"repairs would touch {touched:,} of {customers:,} customers, more than {allowed:,}: look for a bug"
    cents = sum(abs(each.finding.cents) for found in by_invoice.values() for each in found if _moves(each.finding))
    if cents > caps.cents:
        return f"repairs would move {cents:,} cents, more than METERING_REPAIR_CAP_CENTS ({caps.cents:,})"
    return None


def _moves(finding: Finding) -> bool:
    """A missing invoice, or a draft, is only made what it should be; what is final costs or gives back."""
    return finding.remedy in (Remedy.CREDIT_NOTE, Remedy.ADJUSTMENT_INVOICE)


def mend(pusher: Pusher, *, customer_id: str, invoice_id: str, found: Sequence[FoundDrift]) -> tuple[bool, str]:
    """Do what these findings of an invoice allow; whether no drift is left of it, and what was done."""
    with transaction(pusher.engine) as connection:
        claimed = claim_push(connection, customer_id=customer_id, invoice_id=invoice_id, now=pusher.clock())
    if claimed is None:
        return False, "a worker pushes it right now: reconcile again"
    push = prepare_push(pusher, claimed)
    if push is None:
        return False, "the customer is not linked to Stripe"
    try:
        done = [_REMEDIES[remedy](push, each.finding) for each in found if (remedy := each.finding.remedy)]
        left = _drift_now(push)
    except StripeUnauthorizedError:
        raise
    except (StripeError, LeaseLostError) as error:
        log.warning("a repair failed", extra={"invoice_id": invoice_id, "error": str(error)})
        return False, f"not mended: {error}"
    finally:
        with transaction(pusher.engine) as connection:
            release_push(connection, push.claimed)
    if left:
        return False, f"not mended: {'; '.join(each.detail for each in left)}"
    return True, "; ".join(dict.fromkeys(done))


def _drift_now(push: Push) -> list[Finding]:
    snapshots = _read(push)
    with transaction(push.engine) as connection:
        state = push_state(connection, customer_id=push.claimed.customer_id, invoice_id=push.claimed.invoice_id)
    found = find_drift(
        wanted=push.wanted,
        state=state,
        snapshots=snapshots,
        keep_manual_lines=push.terms.keep_manual_lines,
    )
    return [each for each in found if each.remedy is not Remedy.REPORT]


def _read(push: Push) -> list[Snapshot]:
    """The invoice and what bills beside it, as Stripe has them now."""
    listed = push.port.list_invoices(
        stripe_customer_id=push.wanted.stripe_customer_id, created_from=since_of(push.stored)
    )
    first = push.wanted.mark
    return [
        each
        for each in listed
        if (mark := mark_of(each)) is not None
        and (mark.environment, mark.invoice_id) == (first.environment, first.invoice_id)
    ]


def _push_it(push: Push, _: Finding) -> str:
    return f"pushed, and {push.walk()}"


def _delete_draft(push: Push, finding: Finding) -> str:
    assert finding.stripe_invoice_id is not None
    now = push.port.get_invoice(stripe_invoice_id=finding.stripe_invoice_id)
    if now is None or now.finalized:
        return "the draft is gone, or final"
    push.port.delete_draft(stripe_invoice_id=now.stripe_invoice_id)
    return f"draft {now.stripe_invoice_id} deleted"


def _adopt(push: Push, finding: Finding) -> str:
    assert finding.stripe_invoice_id is not None
    now = push.port.get_invoice(stripe_invoice_id=finding.stripe_invoice_id)
    if now is None or not now.finalized:
        return "there is nothing to adopt any more"
    return f"adopted: {push.adopt(now)}"


def _credit(push: Push, finding: Finding) -> str:
    """Take back what is too much, by what is read now."""
    snapshot, excess = _excess_now(push, finding)
    if snapshot is None or excess <= 0:
        return "nothing is too much any more"
    parameters: dict[str, Any] = {
        "invoice": snapshot.stripe_invoice_id,
        "amount": excess,
        "memo": f"Correction of {excess} cents: the invoice came to more than its snapshot",
        "metadata": {INVOICE_MARK: str(push.wanted.mark)},
    }
    if snapshot.status is StripeStatus.PAID:
        parameters["credit_amount"] = excess
    push.send(
        "credit_note",
        parameters,
        lambda operation: push.port.create_credit_note(
            parameters=operation.parameters, idempotency_key=operation.idempotency_key
        ),
    )
    return f"{excess} cents credited"


def _bill_beside(push: Push, finding: Finding) -> str:
    """Bill what is too little by an invoice of its own, with our mark and a number."""
    snapshot, excess = _excess_now(push, finding)
    if snapshot is None or excess >= 0:
        return "nothing is too little any more"
    earlier = [mark.adjustment for each in _read(push) if each.finalized and (mark := mark_of(each))]
    mark = replace(push.wanted.mark, adjustment=max(earlier) + 1)
    beside = replace(push, wanted=_adjustment(push.wanted, mark, -excess), part=f"adjustment-{mark.adjustment}-")
    return f"{-excess} cents billed beside it, {beside.walk()}"


def _adjustment(wanted: WantedInvoice, mark: Mark, cents: int) -> WantedInvoice:
    line = WantedLine(
        mark="adjustment",
        amount=cents,
        description=f"What the invoice for {wanted.period} lacked",
        starts_at=min(line.starts_at for line in wanted.lines),
        ends_at=max(line.ends_at for line in wanted.lines),
    )
    return replace(
        wanted,
        mark=mark,
        description=f"Adjustment to LLM usage {wanted.period} ({mark})",
        metadata={**wanted.metadata, INVOICE_MARK: str(mark)},
        billed_cents=cents,
        lines=(line,),
    )


def _excess_now(push: Push, finding: Finding) -> tuple[Snapshot | None, int]:
    snapshots = _read(push)
    now = find_drift(
        wanted=push.wanted,
        state=push.claimed.state,
        snapshots=snapshots,
        keep_manual_lines=push.terms.keep_manual_lines,
    )
    excess = sum(each.cents for each in now if each.remedy is finding.remedy)
    first = next((each for each in snapshots if each.stripe_invoice_id == finding.stripe_invoice_id), None)
    return first, excess


_REMEDIES: dict[Remedy, Callable[[Push, Finding], str]] = {
    Remedy.PUSH: _push_it,
    Remedy.DELETE_DRAFT: _delete_draft,
    Remedy.ADOPT: _adopt,
    Remedy.CREDIT_NOTE: _credit,
    Remedy.ADJUSTMENT_INVOICE: _bill_beside,
}
