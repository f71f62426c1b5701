"""Invoice grants: a one-off Stripe invoice for each pending grant, which is active once that is read back as paid.

As a push does, each walk begins by reading Stripe and records every write before it is sent. So it may stop at any
point, and the next walk goes on from what Stripe has.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from msgspec.structs import replace as changed

from metering.credits.create_grant import activate
from metering.credits.grant import GrantState
from metering.credits.store.grants import add_entries, find_grant
from metering.customers.store import stripe_customer_id_of
from metering.db.engine import transaction, will_pass
from metering.db.locks import take_money
from metering.stripe.client.errors import StripeError, StripeRefusedError, StripeUnauthorizedError
from metering.stripe.client.port import CLOCK_SKEW, Written
from metering.stripe.drift import choose
from metering.stripe.push import CURRENCY
from metering.stripe.push_due import Pusher
from metering.stripe.push_invoice import StartOverError, outcome_of, wait_after
from metering.stripe.snapshot import Snapshot, StripeStatus
from metering.stripe.store.grant_invoices import (
    ClaimedGrantInvoice,
    GrantInvoiceState,
    answer_grant_operation,
    begin_grant_operation,
    claim_grant_invoices,
    mark_of_grant,
    record_grant_invoice,
)
from metering.stripe.store.operations import OperationOutcome, StripeOperation
from metering.stripe.store.pushes import LeaseLostError

log = logging.getLogger(__name__)

GRANT_MARK = "metering_grant"
# Stripe's events wake an open invoice; without them it is read this often. An unlinked one waits as long.
LOOK_EVERY = timedelta(minutes=15)
# A walk makes several writes; so many refusals in a row need a person.
_MAX_REFUSALS = 10


def invoice_grants(*, pusher: Pusher, limit: int) -> int:
    """Go on with up to `limit` due invoices of grants, one after the other; returns how many were due.

    Raises:
        StripeUnauthorizedError: Stripe does not accept the key.
    """
    with transaction(pusher.engine) as connection:
        claimed = claim_grant_invoices(connection, now=pusher.clock(), limit=limit)
    for each in claimed:
        try:
            GrantWalk(pusher, each).walk()
        except LeaseLostError as error:
            log.warning("a grant's invoice was taken over", extra={"grant_id": each.grant_id, "error": str(error)})
        except StripeUnauthorizedError:
            raise
        except Exception as error:
            # Whatever it is, it is about this grant: the others are invoiced once its lease has ended.
            if will_pass(error):
                raise
            log.exception("invoicing a grant failed unexpectedly", extra={"grant_id": each.grant_id})
    return len(claimed)


@dataclass(frozen=True, slots=True)
class GrantWalk:
    """One walk of a grant's invoice."""

    pusher: Pusher
    claimed: ClaimedGrantInvoice

    def walk(self) -> None:
        """Read Stripe, write what is missing, and adopt what Stripe says; a failure is tried again later."""
        try:
            self._walk()
        except StripeUnauthorizedError:
            raise
        except (StripeError, StartOverError) as error:
            attempts = self.claimed.attempts + 1
            log.warning(
                "a grant is not invoiced, will retry",
                extra={"grant_id": self.claimed.grant_id, "problem": str(error)},
            )
            stuck = isinstance(error, StripeRefusedError) and attempts >= _MAX_REFUSALS
            self._leave(
                GrantInvoiceState.STUCK if stuck else self.claimed.state,
                due=None if stuck else wait_after(attempts),
                attempts=attempts,
                problem=str(error),
            )

    def _walk(self) -> None:
        with transaction(self.pusher.engine) as connection:
            linked = stripe_customer_id_of(connection, customer_id=self.claimed.customer_id)
            grant = find_grant(connection, self.claimed.grant_id)
        assert grant is not None  # grants are never deleted
        # Once it was written to a Stripe customer, it stays there.
        owner = self.claimed.stripe_customer_id or linked
        if owner is None:
            problem = "the customer has no Stripe id"
            self._leave(GrantInvoiceState.UNLINKED, due=LOOK_EVERY, problem=problem)
            return
        snapshot = self._look_up(owner)
        if grant.state is GrantState.VOIDED and (snapshot is None or not snapshot.finalized):
            if snapshot is not None:
                self.pusher.port.delete_draft(stripe_invoice_id=snapshot.stripe_invoice_id)
            self._leave(GrantInvoiceState.VOID, due=None)
            return
        if snapshot is None:
            snapshot = self._create(owner)
        if not snapshot.finalized:
            snapshot = self._finalize(self._with_line(snapshot))
        self._adopt(snapshot)

    @property
    def _mark(self) -> str:
        return f"{self.pusher.terms.environment}/{mark_of_grant(self.claimed.grant_id)}"

    def _look_up(self, owner: str) -> Snapshot | None:
        """Stripe's invoice with our mark, or None; duplicate drafts are deleted."""
        since = self.claimed.created_at - CLOCK_SKEW
        listed = self.pusher.port.list_invoices(stripe_customer_id=owner, created_from=since)
        ours = {
            each.stripe_invoice_id: each
            for each in listed
            if each.metadata.get(GRANT_MARK) == self._mark or f"({self._mark})" in (each.description or "")
        }
        known = self.claimed.stripe_invoice_id
        if known is not None and known not in ours:
            found = self.pusher.port.get_invoice(stripe_invoice_id=known)
            if found is not None:
                ours[known] = found
        chosen, others = choose(list(ours.values()))
        for other in others:
            if not other.finalized:
                self.pusher.port.delete_draft(stripe_invoice_id=other.stripe_invoice_id)
        return chosen

    def _create(self, owner: str) -> Snapshot:
        terms = self.pusher.terms
        # Recorded before it is sent, so that it is found there after the customer was linked anew.
        self._record(stripe_customer_id=owner, stripe_invoice_id=None)
        parameters: dict[str, Any] = {
            "customer": owner,
            "currency": CURRENCY,
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "description": f"Prepaid credit ({self._mark})",
            "metadata": {GRANT_MARK: self._mark, "metering_customer": self.claimed.customer_id},
        }
        if terms.days_until_due is not None:
            parameters |= {"collection_method": "send_invoice", "days_until_due": terms.days_until_due}
        snapshot = self._send(
            "create",
            parameters,
            lambda operation: self.pusher.port.create_invoice(
                parameters=operation.parameters, idempotency_key=operation.idempotency_key
            ),
        )
        self._record(stripe_invoice_id=snapshot.stripe_invoice_id)
        return snapshot

    def _with_line(self, snapshot: Snapshot) -> Snapshot:
        """The draft with its one line; one that a person has changed is deleted and made anew."""
        cents = int(self.claimed.paid_usd_cents)
        if not snapshot.lines:
            metadata = {GRANT_MARK: self.claimed.grant_id}
            line = {"amount": cents, "description": "Prepaid credit", "metadata": metadata}
            snapshot = self._send(
                "add_lines",
                {"lines": [line]},
                lambda operation: self.pusher.port.change_lines(
                    stripe_invoice_id=snapshot.stripe_invoice_id,
                    change="add_lines",
                    parameters=operation.parameters,
                    idempotency_key=operation.idempotency_key,
                ),
            )
        if [line.amount for line in snapshot.lines] != [cents]:
            self.pusher.port.delete_draft(stripe_invoice_id=snapshot.stripe_invoice_id)
            raise StartOverError(f"the draft {snapshot.stripe_invoice_id} has other lines than the grant's price")
        return snapshot

    def _finalize(self, snapshot: Snapshot) -> Snapshot:
        return self._send(
            "finalize",
            {"auto_advance": self.pusher.terms.collect},
            lambda operation: self.pusher.port.finalize_invoice(
                stripe_invoice_id=snapshot.stripe_invoice_id,
                parameters=operation.parameters,
                idempotency_key=operation.idempotency_key,
            ),
        )

    def _send(
        self, name: str, parameters: Mapping[str, Any], call: Callable[[StripeOperation], Written]
    ) -> Snapshot:
        """Record a write, send it, record its outcome, and return the invoice as it is after it."""
        with transaction(self.pusher.engine) as connection:
            operation = begin_grant_operation(
                connection,
                self.claimed,
                operation=name,
                parameters=parameters,
                environment=self.pusher.terms.environment,
                now=self.pusher.clock(),
            )
        try:
            written = call(operation)
        except StripeError as error:
            self._answer(operation, outcome_of(error), problem=str(error))
            raise
        snapshot = written.snapshot
        if written.replayed or snapshot is None:
            # A replayed answer is old: read the invoice.
            snapshot = self.pusher.port.get_invoice(stripe_invoice_id=written.stripe_object_id)
        outcome = OperationOutcome.DONE if snapshot is not None else OperationOutcome.GONE
        self._answer(operation, outcome, stripe_object_id=written.stripe_object_id)
        if snapshot is None:
            raise StartOverError(f"{written.stripe_object_id} no longer exists at Stripe")
        return snapshot

    def _answer(self, operation: StripeOperation, outcome: OperationOutcome | None, **details: str | None) -> None:
        now = self.pusher.clock()
        with transaction(self.pusher.engine) as connection:
            answer_grant_operation(connection, self.claimed, operation, outcome=outcome, now=now, **details)

    def _adopt(self, snapshot: Snapshot) -> None:
        """Record a finalized invoice; a paid one activates its grant, in the same transaction."""
        read = self.pusher.port.get_invoice(stripe_invoice_id=snapshot.stripe_invoice_id) or snapshot
        facts: dict[str, Any] = {"stripe_invoice_id": read.stripe_invoice_id, "stripe_url": read.url}
        if read.subtotal != int(self.claimed.paid_usd_cents) or read.credited:
            problem = f"{read.stripe_invoice_id} is over {read.net} cents, and not the price of the grant"
            self._leave(GrantInvoiceState.STUCK, due=None, problem=problem, **facts)
        elif read.status is StripeStatus.PAID:
            self._activate(facts)
        elif read.status is StripeStatus.VOID:
            self._leave(GrantInvoiceState.VOID, due=None, ends=True, **facts)
        elif read.status is StripeStatus.UNCOLLECTIBLE:
            self._leave(GrantInvoiceState.UNCOLLECTIBLE, due=None, ends=True, **facts)
        else:
            self._leave(GrantInvoiceState.OPEN, due=LOOK_EVERY, **facts)

    def _activate(self, facts: Mapping[str, Any]) -> None:
        now = self.pusher.clock()
        with transaction(self.pusher.engine) as connection:
            take_money(connection, [self.claimed.customer_id])
            grant = find_grant(connection, self.claimed.grant_id)
            assert grant is not None
            voided = grant.state is GrantState.VOIDED
            state = GrantInvoiceState.STUCK if voided else GrantInvoiceState.PAID
            problem = "the invoice of a voided grant was paid: pay it back" if voided else None
            values = {"state": state, "due_at": None, "lease_until": None, "problem": problem, "attempts": 0}
            record_grant_invoice(connection, self.claimed, now=now, **{**values, **facts})
            if grant.state is GrantState.PENDING:
                activate(connection, grant, now=now)

    def _record(self, **changes: object) -> None:
        with transaction(self.pusher.engine) as connection:
            record_grant_invoice(connection, self.claimed, now=self.pusher.clock(), **changes)

    def _leave(
        self,
        state: GrantInvoiceState,
        *,
        due: timedelta | None,
        ends: bool = False,
        attempts: int = 0,
        problem: str | None = None,
        **facts: Any,
    ) -> None:
        """Record the state and release the row; with `ends`, the grant will never be paid, and is voided."""
        now = self.pusher.clock()
        with transaction(self.pusher.engine) as connection:
            if ends:
                take_money(connection, [self.claimed.customer_id])
                grant = find_grant(connection, self.claimed.grant_id)
                if grant is not None and grant.state is GrantState.PENDING:
                    add_entries(connection, [changed(grant, state=GrantState.VOIDED)], [])
            record_grant_invoice(
                connection,
                self.claimed,
                now=now,
                state=state,
                due_at=None if due is None else now + due,
                lease_until=None,
                attempts=attempts,
                problem=problem,
                **facts,
            )
