"""Reconcile: fetch Stripe's invoices, compare them with ours, and repair what is safe to repair."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.core.period import BillingPeriod
from metering.db.engine import transaction
from metering.stripe.client.port import CLOCK_SKEW, marked_snapshots
from metering.stripe.drift import DriftClass, Finding, Remedy, find_drift, former_customer, state_at_stripe
from metering.stripe.push import WantedInvoice, mark_of, wanted_invoice
from metering.stripe.push_due import Pusher
from metering.stripe.queries.pushes import pushes_under_way
from metering.stripe.queries.reconciliations import (
    ReconciledInvoice,
    count_billed,
    last_reconciled,
    list_billed,
    newest_billed,
    oldest_billed,
)
from metering.stripe.repair_drift import NO_REPAIRS, Caps, over_caps, repair_drift
from metering.stripe.snapshot import Snapshot
from metering.stripe.store.pushes import read_back_columns, record_read_back, record_relinked
from metering.stripe.store.reconciliations import (
    FoundDrift,
    add_findings,
    add_snapshots,
    finish_reconciliation,
    record_repair,
    snapshots_of,
    snapshots_of_no_invoice,
    start_reconciliation,
)

log = logging.getLogger(__name__)

_BATCH = 500

# Called with (activity, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(slots=True, kw_only=True)
class Reconciliation:
    """What a reconciliation found and repaired.

    `ours_cents` and `theirs_cents` are the sums of all compared invoices, in whole cents. `repaired` has the
    numbers of the repaired findings. `relinked` has the invoices that are at a former Stripe customer, which is
    reported once. `problem` says why a requested repair was not attempted. `read_back` has what Stripe now
    says of the dates and the payers of invoices, where that has changed.
    """

    reconciliation_id: str
    compared: int = 0
    customers: set[str] = field(default_factory=set)
    ours_cents: int = 0
    theirs_cents: int = 0
    found: list[FoundDrift] = field(default_factory=list)
    repaired: set[int] = field(default_factory=set)
    relinked: list[Mapping[str, str]] = field(default_factory=list)
    problem: str | None = None
    read_back: list[Mapping[str, object]] = field(default_factory=list)

    @property
    def left(self) -> list[FoundDrift]:
        """The findings that were not repaired."""
        return [each for each in self.found if each.number not in self.repaired]

    def add(self, invoice: ReconciledInvoice | None, finding: Finding) -> None:
        """Add a finding; `invoice` is None if it belongs to no invoice here."""
        self.found.append(
            FoundDrift(
                number=len(self.found) + 1,
                customer_id=invoice.stored.invoice.customer_id if invoice else None,
                invoice_id=invoice.stored.invoice.invoice_id if invoice else None,
                period=str(invoice.stored.invoice.period) if invoice else None,
                finding=finding,
            )
        )


def reconcile(
    *,
    pusher: Pusher,
    period: BillingPeriod | None,
    repair: bool,
    caps: Caps,
    requested_by: Author,
    progress: Progress = lambda *_: None,
) -> Reconciliation:
    """Compare a month, or all months (None), with Stripe; with `repair`, apply the remedies, within the caps.

    Every finding and every repair is stored.

    Raises:
        StripeError: Stripe could not be read.
    """
    month = str(period) if period else None
    now = pusher.clock()
    with transaction(pusher.engine) as connection:
        reconciliation_id = start_reconciliation(
            connection, period=month, repair=repair, requested_by=str(requested_by), now=now
        )
        since = oldest_billed(connection, period=month)
    report = Reconciliation(reconciliation_id=reconciliation_id)
    if since is not None:
        _fetch(pusher, reconciliation_id, since - CLOCK_SKEW, progress)
        _compare(pusher, report, month, progress)
    with transaction(pusher.engine) as connection:
        add_findings(connection, reconciliation_id, report.found, now=now)
        record_relinked(connection, report.relinked)
        record_read_back(connection, report.read_back)
    if repair:
        _repair(pusher, report, caps, requested_by, progress)
    with transaction(pusher.engine) as connection:
        finish_reconciliation(
            connection,
            reconciliation_id,
            compared=report.compared,
            ours_cents=report.ours_cents,
            theirs_cents=report.theirs_cents,
            problem=report.problem,
            now=pusher.clock(),
        )
    return report


def _fetch(pusher: Pusher, reconciliation_id: str, since: datetime, progress: Progress) -> None:
    """Store snapshots of Stripe's invoices with our mark, batch by batch, so that few are in memory at once."""
    count = 0
    for batch in _batches(pusher.port.list_invoices(stripe_customer_id=None, created_from=since)):
        ours = [
            (mark, each)
            for each in batch
            if (mark := mark_of(each)) is not None and mark.environment == pusher.terms.environment
        ]
        with transaction(pusher.engine) as connection:
            add_snapshots(connection, reconciliation_id, ours)
        count += len(batch)
        progress("reading Stripe's invoices", count, count)


def _batches(snapshots: Iterator[Snapshot]) -> Iterator[list[Snapshot]]:
    batch: list[Snapshot] = []
    for each in snapshots:
        batch.append(each)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _compare(pusher: Pusher, report: Reconciliation, month: str | None, progress: Progress) -> None:
    with transaction(pusher.engine) as connection:
        total = count_billed(connection, period=month)
        after: tuple[str, str] | None = None
        while batch := list_billed(connection, period=month, after=after, limit=_BATCH):
            ids = [each.stored.invoice.invoice_id for each in batch]
            snapshots = snapshots_of(connection, report.reconciliation_id, ids)
            for each in batch:
                _compare_one(pusher, report, each, snapshots.get(each.stored.invoice.invoice_id, []))
            after = (str(batch[-1].stored.invoice.period), batch[-1].stored.invoice.customer_id)
            progress("comparing", report.compared, total)
        if month is None:
            for snapshot in snapshots_of_no_invoice(connection, report.reconciliation_id):
                report.add(None, _extra(snapshot))
                report.theirs_cents += snapshot.net


def _compare_one(
    pusher: Pusher, report: Reconciliation, invoice: ReconciledInvoice, listed: Sequence[Snapshot]
) -> None:
    snapshots = listed or _read_again(pusher, invoice)
    report.compared += 1
    report.customers.add(invoice.stored.invoice.customer_id)
    report.ours_cents += invoice.stored.invoice.billed_cents
    report.theirs_cents += sum(each.net for each in snapshots)
    for finding in drift_of(pusher, invoice, snapshots):
        report.add(invoice, finding)
    _compare_read_back(report, invoice, snapshots)
    former = former_customer(
        invoice.state, pushed_to=invoice.pushed_to, linked=invoice.stripe_customer_id, snapshots=snapshots
    )
    if former is not None and invoice.relinked_to != invoice.stripe_customer_id:
        report.add(invoice, former)
        report.relinked.append(
            {
                "customer_id": invoice.stored.invoice.customer_id,
                "invoice_id": invoice.stored.invoice.invoice_id,
                "relinked_to": invoice.stripe_customer_id or "",
            }
        )


def _compare_read_back(report: Reconciliation, invoice: ReconciledInvoice, snapshots: Sequence[Snapshot]) -> None:
    """Note the dates and the payer of an invoice that Stripe has in the state that we know."""
    for each in snapshots:
        known = (each.stripe_invoice_id, state_at_stripe(each.status)) == (
            invoice.stripe_invoice_id,
            invoice.state,
        )
        if known and each.read_back != invoice.read_back:
            mine = invoice.stored.invoice
            key = {"customer_id": mine.customer_id, "invoice_id": mine.invoice_id}
            columns = read_back_columns(each.read_back)
            report.read_back.append({**key, "state": invoice.state.value, **columns})


def _read_again(pusher: Pusher, invoice: ReconciledInvoice) -> Sequence[Snapshot]:
    """The snapshots of an invoice that the list of all invoices does not have.

    That list leaves out test clocks, and is limited by Stripe's time of creation, which a restored invoice or a
    wrong clock can distort.
    """
    wanted = _wanted(pusher, invoice)
    if wanted is None:
        return ()
    found = marked_snapshots(pusher.port, invoice.stored, wanted)
    if not found and invoice.stripe_invoice_id is not None:
        read = pusher.port.get_invoice(stripe_invoice_id=invoice.stripe_invoice_id)
        found = [read] if read is not None else []
    return found


def _wanted(pusher: Pusher, invoice: ReconciledInvoice) -> WantedInvoice | None:
    """What Stripe should have; None for an invoice of a customer that has no Stripe customer yet."""
    if invoice.belongs_to is None:
        return None
    return wanted_invoice(
        invoice=invoice.stored.invoice,
        number=invoice.stored.number,
        environment=pusher.terms.environment,
        stripe_customer_id=invoice.belongs_to,
    )


def drift_of(pusher: Pusher, invoice: ReconciledInvoice, snapshots: Sequence[Snapshot]) -> list[Finding]:
    """How an invoice's snapshots differ from it. Stripe should have none for a customer that is not linked."""
    wanted = _wanted(pusher, invoice)
    if wanted is None:
        return [_extra(each) for each in snapshots]
    return find_drift(
        wanted=wanted,
        state=invoice.state,
        snapshots=snapshots,
        keep_manual_lines=pusher.terms.keep_manual_lines,
    )


def _extra(snapshot: Snapshot) -> Finding:
    return Finding(
        drift_class=DriftClass.EXTRA_INVOICE,
        remedy=Remedy.REPORT,
        detail=f"it has our mark, but we have no such invoice that bills; {snapshot.status}",
        finalized=snapshot.finalized,
        stripe_invoice_id=snapshot.stripe_invoice_id,
        cents=snapshot.net,
    )


def _repair(pusher: Pusher, report: Reconciliation, caps: Caps, requested_by: Author, progress: Progress) -> None:
    by_invoice: dict[tuple[str, str], list[FoundDrift]] = {}
    for each in report.found:
        if each.finding.remedy is not Remedy.REPORT and each.customer_id and each.invoice_id:
            by_invoice.setdefault((each.customer_id, each.invoice_id), []).append(each)
    report.problem = over_caps(by_invoice, customers=len(report.customers), caps=caps)
    if report.problem is not None:
        return
    for place, (key, found) in enumerate(by_invoice.items(), start=1):
        done, repair = repair_drift(pusher, customer_id=key[0], invoice_id=key[1], found=found)
        numbers = [each.number for each in found]
        with transaction(pusher.engine) as connection:
            now = pusher.clock()
            record_repair(
                connection, report.reconciliation_id, numbers, repair=repair, repaired_at=now if done else None
            )
            after = {"customer_id": key[0], "findings": numbers, "repair": repair, "done": done}
            log_action(
                connection, by=requested_by, now=now, kind="drift", action="repair", subject=key[1], after=after
            )
        if done:
            report.repaired.update(numbers)
        progress("repairing", place, len(by_invoice))


def reconcile_newest_month(*, pusher: Pusher, every: timedelta) -> Reconciliation | None:
    """Compare the newest month with Stripe, without repairs; return the result.

    Returns None without comparing when no invoice bills anything, while pushes are in progress, or when the last
    reconciliation started within `every`.

    Raises:
        StripeError: Stripe could not be read.
    """
    with transaction(pusher.engine) as connection:
        period = newest_billed(connection)
        if period is None or pushes_under_way(connection, period=period, only=None).count:
            return None
        last = last_reconciled(connection, period=period)
    if last is not None and pusher.clock() - last < every:
        return None
    report = reconcile(
        pusher=pusher,
        period=BillingPeriod.parse(period),
        repair=False,
        caps=NO_REPAIRS,
        requested_by="the schedule",
    )
    details = {"period": period, "compared": report.compared, "findings": len(report.left)}
    if report.left:
        log.error("drift found at Stripe: see `metering reconcile`", extra=details)
    else:
        log.info("no drift found at Stripe", extra=details)
    return report
