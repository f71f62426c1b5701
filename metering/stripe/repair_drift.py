"""Repair drift: apply the remedies of an invoice's findings. Stripe is read again before and after."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from metering.core.money import dollars_text
from metering.db.engine import transaction
from metering.stripe.client.errors import StripeError, StripeUnauthorizedError
from metering.stripe.client.port import marked_snapshots
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

# A share of few customers would round down to none.
_ALWAYS_ALLOWED_CUSTOMERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits of one run: cents moved on finalized invoices, and the share of customers touched.

    More than this is taken for a bug of ours, and nothing is repaired.
    """

    cents: int
    share: Decimal


NO_REPAIRS = Caps(cents=0, share=Decimal(0))


def over_caps(
    by_invoice: Mapping[tuple[str, str], Sequence[FoundDrift]], *, customers: int, caps: Caps
) -> str | None:
    """Why these repairs exceed the caps of a run, or None. The keys are (customer_id, invoice_id)."""
    touched = len({customer_id for customer_id, _ in by_invoice})
    allowed = max(_ALWAYS_ALLOWED_CUSTOMERS, int(customers * caps.share))
    if touched > allowed:
        return f"repairs would touch {touched:,} of {customers:,} customers, more than {allowed:,}: look for a bug"
    cents = sum(abs(each.finding.cents) for found in by_invoice.values() for each in found if _moves(each.finding))
    if cents > caps.cents:
        return f"repairs would move {cents:,} cents, more than METERING_REPAIR_CAP_CENTS ({caps.cents:,})"
    return None


def _moves(finding: Finding) -> bool:
    """Whether the repair charges or credits a customer, on top of a finalized invoice."""
    return finding.remedy in (Remedy.CREDIT_NOTE, Remedy.ADJUSTMENT_INVOICE)


def repair_drift(
    pusher: Pusher, *, customer_id: str, invoice_id: str, found: Sequence[FoundDrift]
) -> tuple[bool, str]:
    """Apply the remedies of an invoice's findings, none of them `REPORT`.

    Returns whether no repairable drift is left, and a text that says what was done or why it failed.

    Raises:
        StripeUnauthorizedError: Stripe does not accept the key.
    """
    with transaction(pusher.engine) as connection:
        claimed = claim_push(connection, customer_id=customer_id, invoice_id=invoice_id, now=pusher.clock())
    if claimed is None:
        return False, "a worker is pushing the invoice: reconcile again"
    push = prepare_push(pusher, claimed)
    if push is None:
        return False, "the customer is not linked to Stripe"
    try:
        done = [_REMEDIES[remedy](push, each.finding) for each in found if (remedy := each.finding.remedy)]
        left = _drift_now(push)
    except StripeUnauthorizedError:
        raise
    except (StripeError, LeaseLostError) as error:
        log.warning("repair failed", extra={"invoice_id": invoice_id, "error": str(error)})
        return False, f"not repaired: {error}"
    finally:
        with transaction(pusher.engine) as connection:
            release_push(connection, push.claimed)
    if left:
        return False, f"not repaired: {'; '.join(each.detail for each in left)}"
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
    """Current snapshots of the invoice and its adjustment invoices."""
    return marked_snapshots(push.port, push.stored, push.wanted)


def _push_it(push: Push, _: Finding) -> str:
    return f"pushed, and {push.walk()}"


def _delete_draft(push: Push, finding: Finding) -> str:
    assert finding.stripe_invoice_id is not None
    now = push.port.get_invoice(stripe_invoice_id=finding.stripe_invoice_id)
    if now is None or now.finalized:
        return "the draft no longer exists, or is final"
    push.port.delete_draft(stripe_invoice_id=now.stripe_invoice_id)
    return f"draft {now.stripe_invoice_id} deleted"


def _adopt(push: Push, finding: Finding) -> str:
    assert finding.stripe_invoice_id is not None
    now = push.port.get_invoice(stripe_invoice_id=finding.stripe_invoice_id)
    if now is None or not now.finalized:
        return "nothing to adopt"
    return f"adopted: {push.adopt(now)}"


def _credit(push: Push, finding: Finding) -> str:
    """Credit what Stripe has too much now."""
    snapshot, excess = _excess_now(push, finding)
    if snapshot is None or excess <= 0:
        return "nothing to credit"
    parameters: dict[str, Any] = {
        "invoice": snapshot.stripe_invoice_id,
        "amount": excess,
        "memo": f"Correction of {excess} cents: the invoice was higher than its statement",
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
    return f"{dollars_text(excess)} credited"


def _bill_adjustment(push: Push, finding: Finding) -> str:
    """Bill what Stripe has too little now by an adjustment invoice, with our mark and a number."""
    snapshot, excess = _excess_now(push, finding)
    if snapshot is None or excess >= 0:
        return "nothing to bill"
    earlier = [mark.adjustment for each in _read(push) if each.finalized and (mark := mark_of(each))]
    mark = replace(push.wanted.mark, adjustment=max(earlier) + 1)
    adjustment = replace(
        push, wanted=_adjustment(push.wanted, mark, -excess), part=f"adjustment-{mark.adjustment}-"
    )
    return f"{dollars_text(-excess)} billed by an adjustment invoice, {adjustment.walk()}"


def _adjustment(wanted: WantedInvoice, mark: Mark, cents: int) -> WantedInvoice:
    line = WantedLine(
        mark="adjustment",
        amount=cents,
        description=f"Amount missing from the invoice for {wanted.period}",
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
    Remedy.ADJUSTMENT_INVOICE: _bill_adjustment,
}
