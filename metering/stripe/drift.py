"""Drift: the differences between Stripe's invoices and ours, each with a class and a remedy.

docs/months.md lists the classes and their remedies.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from metering.core.money import dollars_text
from metering.stripe.push import (
    AT_STRIPE,
    CURRENCY,
    LINE_MARK,
    PERIOD_MARK,
    PushState,
    WantedInvoice,
    WantedLine,
    mark_of,
)
from metering.stripe.snapshot import Snapshot, SnapshotLine, StripeStatus


class DriftClass(StrEnum):
    """The kind of a difference. `SETTLEMENT` is the payment state: open, paid or uncollectible."""

    MISSING = "missing"
    AMOUNT = "amount"
    LINE = "line"
    EXTRA_LINE = "extra_line"
    DUPLICATE_LINE = "duplicate_line"
    DUPLICATE_INVOICE = "duplicate_invoice"
    EXTRA_INVOICE = "extra_invoice"
    WRONG_CUSTOMER = "wrong_customer"
    WRONG_CURRENCY = "wrong_currency"
    WRONG_PERIOD = "wrong_period"
    STATE = "state"
    SETTLEMENT = "settlement"


class Remedy(StrEnum):
    """What a repair does; `REPORT` leaves the finding to a person."""

    PUSH = "push"
    DELETE_DRAFT = "delete_draft"
    CREDIT_NOTE = "credit_note"
    ADJUSTMENT_INVOICE = "adjustment_invoice"
    ADOPT = "adopt"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference. `cents` is what Stripe has minus what it should have, in whole cents.

    `finalized` says whether the invoice at Stripe is finalized.
    """

    drift_class: DriftClass
    remedy: Remedy
    detail: str
    finalized: bool = False
    stripe_invoice_id: str | None = None
    cents: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChanges:
    """The changes that bring a draft's lines to the wanted ones; `kept` are manual lines that stay."""

    add: tuple[WantedLine, ...] = ()
    update: tuple[tuple[SnapshotLine, WantedLine], ...] = ()
    remove: tuple[SnapshotLine, ...] = ()
    kept: tuple[SnapshotLine, ...] = field(default=())

    @property
    def none(self) -> bool:
        """Whether the lines are as wanted."""
        return not (self.add or self.update or self.remove)


def line_changes(wanted: WantedInvoice, snapshot: Snapshot, *, keep_manual_lines: bool) -> LineChanges:
    """Compare a snapshot's lines with the wanted ones, by their marks.

    Of two lines with the same mark, the one with the wanted amount stays, else the older one. Lines without a mark
    are removed, or kept with `keep_manual_lines`.
    """
    by_mark = {line.mark: line for line in wanted.lines}
    amounts = {(line.mark, line.amount) for line in wanted.lines}
    seen: dict[str, SnapshotLine] = {}
    remove: list[SnapshotLine] = []
    kept: list[SnapshotLine] = []
    # Stripe's ids increase with time, so the older line comes first.
    wanted_first = sorted(
        snapshot.lines,
        key=lambda each: ((each.metadata.get(LINE_MARK), each.amount) not in amounts, each.stripe_line_id),
    )
    for line in wanted_first:
        mark = line.metadata.get(LINE_MARK)
        if mark is None and keep_manual_lines:
            kept.append(line)
        elif mark is None or mark not in by_mark or mark in seen:
            remove.append(line)
        else:
            seen[mark] = line
    return LineChanges(
        add=tuple(line for line in wanted.lines if line.mark not in seen),
        update=tuple(
            (seen[mark], line)
            for mark, line in by_mark.items()
            if mark in seen and seen[mark].amount != line.amount
        ),
        remove=tuple(remove),
        kept=tuple(kept),
    )


def identity_problem(wanted: WantedInvoice, snapshot: Snapshot) -> tuple[DriftClass, str] | None:
    """The class and detail of a wrong customer, currency or month, or None. No change of lines repairs these."""
    if snapshot.stripe_customer_id != wanted.stripe_customer_id:
        return (
            DriftClass.WRONG_CUSTOMER,
            f"its customer is {snapshot.stripe_customer_id}, not {wanted.stripe_customer_id}",
        )
    if snapshot.currency != CURRENCY:
        return DriftClass.WRONG_CURRENCY, f"its currency is {snapshot.currency}, not {CURRENCY}"
    period = snapshot.metadata.get(PERIOD_MARK, wanted.period)
    if period != wanted.period:
        return DriftClass.WRONG_PERIOD, f"its month is {period}, not {wanted.period}"
    return None


def is_as_wanted(wanted: WantedInvoice, snapshot: Snapshot, *, keep_manual_lines: bool) -> bool:
    """Whether a draft may be finalized: its lines, their sum, its customer, currency and month are as wanted."""
    changes = line_changes(wanted, snapshot, keep_manual_lines=keep_manual_lines)
    manual = sum(line.amount for line in changes.kept)
    return (
        changes.none
        and identity_problem(wanted, snapshot) is None
        and snapshot.subtotal == wanted.billed_cents + manual
    )


def choose(snapshots: Sequence[Snapshot]) -> tuple[Snapshot | None, Sequence[Snapshot]]:
    """Of several snapshots of the same invoice, the one that counts, and the others.

    A finalized one that is not void counts first, then a void one, then a draft; among equals, the oldest.
    """
    if not snapshots:
        return None, ()
    ordered = sorted(
        snapshots,
        key=lambda each: (
            not each.finalized,
            each.status is StripeStatus.VOID,
            each.created_at,
            each.stripe_invoice_id,
        ),
    )
    return ordered[0], ordered[1:]


def find_drift(
    *,
    wanted: WantedInvoice,
    state: PushState,
    snapshots: Sequence[Snapshot],
    keep_manual_lines: bool,
) -> list[Finding]:
    """How the snapshots with the mark of an invoice that Stripe should have differ from it.

    `state` is the state of our push.
    """
    firsts = [each for each in snapshots if not _adjustment(each)]
    adjustments = [each for each in snapshots if _adjustment(each)]
    chosen, others = choose(firsts)
    findings = [_duplicate(each) for each in others if each.status is not StripeStatus.VOID]
    if chosen is None:
        detail = "no invoice at Stripe has its mark"
        missing = Finding(
            drift_class=DriftClass.MISSING, remedy=Remedy.PUSH, detail=detail, cents=-wanted.billed_cents
        )
        return [*findings, missing]
    compare = _finalized_findings if chosen.finalized else _draft_findings
    findings += compare(wanted, chosen, adjustments, keep_manual_lines)
    return findings + _state_findings(state, chosen)


def _adjustment(snapshot: Snapshot) -> bool:
    mark = mark_of(snapshot)
    return mark is not None and mark.adjustment > 0


def _duplicate(snapshot: Snapshot) -> Finding:
    return Finding(
        drift_class=DriftClass.DUPLICATE_INVOICE,
        remedy=Remedy.REPORT if snapshot.finalized else Remedy.DELETE_DRAFT,
        detail=f"a second invoice has its mark, {snapshot.status}",
        finalized=snapshot.finalized,
        stripe_invoice_id=snapshot.stripe_invoice_id,
        cents=snapshot.net if snapshot.finalized else 0,
    )


def _draft_findings(
    wanted: WantedInvoice, snapshot: Snapshot, _: Sequence[Snapshot], keep_manual_lines: bool
) -> list[Finding]:
    """A push repairs any difference of a draft, except a wrong total of correct lines."""
    problem = identity_problem(wanted, snapshot)
    if problem is not None:
        return [_finding(problem[0], Remedy.PUSH, problem[1], snapshot)]
    changes = line_changes(wanted, snapshot, keep_manual_lines=keep_manual_lines)
    marks = Counter(line.metadata.get(LINE_MARK) for line in snapshot.lines)
    findings = [
        _finding(
            DriftClass.DUPLICATE_LINE if marks[line.metadata.get(LINE_MARK)] > 1 else DriftClass.EXTRA_LINE,
            Remedy.PUSH,
            f"an extra line of {dollars_text(line.amount)}: {line.description}",
            snapshot,
            cents=line.amount,
        )
        for line in changes.remove
    ]
    findings += [
        _finding(
            DriftClass.LINE,
            Remedy.PUSH,
            f"a line has {dollars_text(was.amount)}, not {dollars_text(line.amount)}: {line.description}",
            snapshot,
            cents=was.amount - line.amount,
        )
        for was, line in changes.update
    ]
    findings += [
        _finding(
            DriftClass.LINE,
            Remedy.PUSH,
            f"a line of {dollars_text(line.amount)} is missing: {line.description}",
            snapshot,
            cents=-line.amount,
        )
        for line in changes.add
    ]
    manual = sum(line.amount for line in changes.kept)
    if not findings and snapshot.subtotal != wanted.billed_cents + manual:
        findings.append(_amount(wanted, snapshot, Remedy.REPORT, snapshot.subtotal - manual))
    return findings


def _finalized_findings(
    wanted: WantedInvoice, snapshot: Snapshot, adjustments: Sequence[Snapshot], keep_manual_lines: bool
) -> list[Finding]:
    """A finalized invoice cannot change: the difference is credited, or billed by an adjustment invoice."""
    if snapshot.status is StripeStatus.VOID:
        return []  # reported by _state_findings
    problem = identity_problem(wanted, snapshot)
    if problem is not None:
        return [_finding(problem[0], Remedy.REPORT, problem[1], snapshot)]
    changes = line_changes(wanted, snapshot, keep_manual_lines=keep_manual_lines)
    manual = sum(line.amount for line in changes.kept)
    net = snapshot.net - manual + sum(each.net for each in adjustments)
    excess = net - wanted.billed_cents
    if not excess:
        return []
    marks = Counter(line.metadata.get(LINE_MARK) for line in snapshot.lines)
    foreign = [line for line in changes.remove if marks[line.metadata.get(LINE_MARK)] == 1]
    if foreign:
        detail = "; ".join(f"{dollars_text(line.amount)}: {line.description}" for line in foreign)
        return [
            _finding(
                DriftClass.EXTRA_LINE, Remedy.REPORT, f"lines that are not ours: {detail}", snapshot, cents=excess
            )
        ]
    remedy = Remedy.CREDIT_NOTE if excess > 0 else Remedy.ADJUSTMENT_INVOICE
    if changes.remove and excess > 0:
        detail = f"duplicate lines: {dollars_text(excess)} too much"
        return [_finding(DriftClass.DUPLICATE_LINE, remedy, detail, snapshot, cents=excess)]
    if changes.none:
        return [_amount(wanted, snapshot, remedy, net)]
    detail = f"its lines sum to {dollars_text(net)}, not {dollars_text(wanted.billed_cents)}"
    return [_finding(DriftClass.LINE, remedy, detail, snapshot, cents=excess)]


def _amount(wanted: WantedInvoice, snapshot: Snapshot, remedy: Remedy, net: int) -> Finding:
    detail = f"its total is {dollars_text(net)}, not {dollars_text(wanted.billed_cents)}"
    return _finding(DriftClass.AMOUNT, remedy, detail, snapshot, cents=net - wanted.billed_cents)


def former_customer(
    state: PushState, *, pushed_to: str | None, linked: str | None, snapshots: Sequence[Snapshot]
) -> Finding | None:
    """A final invoice whose customer was linked to another Stripe customer since; None when it was not.

    There is nothing to repair: the invoice stays where it was paid or is due, and later ones go to the new
    customer.
    """
    if state not in AT_STRIPE or linked is None or pushed_to in (None, linked):
        return None
    chosen = next((each for each in snapshots if each.stripe_customer_id == pushed_to), None)
    if chosen is None:
        return None
    detail = f"it stays with the former customer {pushed_to}; the customer is now linked to {linked}"
    return _finding(DriftClass.WRONG_CUSTOMER, Remedy.REPORT, detail, chosen)


_STATE_OF_STATUS = {
    StripeStatus.OPEN: PushState.FINAL,
    StripeStatus.PAID: PushState.PAID,
    StripeStatus.UNCOLLECTIBLE: PushState.UNCOLLECTIBLE,
    StripeStatus.VOID: PushState.VOID,
}


def state_at_stripe(status: StripeStatus) -> PushState | None:
    """The push state for the status of a finalized invoice; None for a draft."""
    return _STATE_OF_STATUS.get(status)


def _state_findings(state: PushState, snapshot: Snapshot) -> list[Finding]:
    theirs = state_at_stripe(snapshot.status)
    if theirs is PushState.VOID:
        detail = "it was voided at Stripe; it is not billed again automatically"
        return [_finding(DriftClass.STATE, Remedy.REPORT, detail, snapshot)]
    if theirs == state:
        return []
    if theirs is None:
        if state not in AT_STRIPE and state is not PushState.STUCK:
            return [_finding(DriftClass.STATE, Remedy.PUSH, "it is a draft, the push is in progress", snapshot)]
        return [_finding(DriftClass.STATE, Remedy.PUSH, f"it is a draft at Stripe, {state} here", snapshot)]
    payment_states = {PushState.PAID, PushState.UNCOLLECTIBLE, PushState.FINAL}
    drift = DriftClass.SETTLEMENT if {theirs, state} <= payment_states else DriftClass.STATE
    return [_finding(drift, Remedy.ADOPT, f"it is {snapshot.status} at Stripe, {state} here", snapshot)]


def _finding(drift: DriftClass, remedy: Remedy, detail: str, snapshot: Snapshot, *, cents: int = 0) -> Finding:
    return Finding(
        drift_class=drift,
        remedy=remedy,
        detail=detail,
        finalized=snapshot.finalized,
        stripe_invoice_id=snapshot.stripe_invoice_id,
        cents=cents,
    )
