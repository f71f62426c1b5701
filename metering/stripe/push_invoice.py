"""Push an invoice: a walk brings Stripe from any state to exactly one correct, finalized invoice.

A walk is one pass through the states of a push: it reads Stripe, then writes what is missing. Every walk begins by
reading Stripe, and every write is recorded before it is sent. So a walk may stop at any point, even without an
answer from Stripe, and the next one continues from what Stripe has.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from metering.core.errors import MeteringError
from metering.db.engine import transaction
from metering.months.store.invoices import StoredInvoice
from metering.stripe.client.errors import (
    StripeError,
    StripeMissingError,
    StripeRefusedError,
    StripeThrottledError,
    StripeUncertainError,
)
from metering.stripe.client.port import StripePort, Written, find_snapshots
from metering.stripe.drift import (
    choose,
    identity_problem,
    is_as_wanted,
    line_changes,
    state_at_stripe,
)
from metering.stripe.push import AT_STRIPE, CURRENCY, LINE_MARK, PushState, WantedInvoice, WantedLine
from metering.stripe.snapshot import Snapshot
from metering.stripe.store.operations import (
    OperationOutcome,
    StripeOperation,
    answer_operation,
    begin_operation,
    confirm_creation,
)
from metering.stripe.store.pushes import ClaimedPush, park_push, read_back_columns, record_push

log = logging.getLogger(__name__)

MAX_FAILURES = 3  # failed verifications and refusals before a push is stuck
_LINES_PER_CALL = 100


class StartOverError(MeteringError):
    """The invoice at Stripe changed during the walk: read it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTerms:
    """How invoices are written to Stripe.

    With `collect`, Stripe sends or charges final invoices automatically. With `days_until_due`, invoices are sent
    for payment within that many days instead of charged to a card. With `keep_manual_lines`, lines that people add
    to drafts stay.
    """

    environment: str
    collect: bool = False
    days_until_due: int | None = None
    keep_manual_lines: bool = False


@dataclass(slots=True, kw_only=True)
class Push:
    """One walk of a push.

    `version` counts the drafts that were deleted at Stripe to be recreated. `part` is the name of an adjustment
    invoice, and empty for the invoice itself: an adjustment invoice's writes are recorded, its states are not.
    """

    engine: Engine
    port: StripePort
    terms: PushTerms
    clock: Callable[[], datetime]
    claimed: ClaimedPush
    stored: StoredInvoice
    wanted: WantedInvoice
    version: int
    failures: int
    part: str = ""

    def walk(self) -> PushState:
        """Walk until the invoice is final or a call fails; return the state that the push reached.

        A failure is recorded with the time of the next attempt.

        Raises:
            LeaseLostError: another worker has the push.
            StripeUnauthorizedError: Stripe does not accept the key.
        """
        try:
            return self._walk()
        except (StartOverError, StripeUncertainError, StripeThrottledError) as error:
            return self._retry_later(str(error))
        except StripeRefusedError as error:
            if self._failed_too_often():
                return self._stuck(str(error))
            return self._retry_later(str(error))

    def _walk(self) -> PushState:
        while True:
            snapshot = self._look_up()
            if snapshot is None:
                snapshot = self._create()
            if snapshot.finalized:
                return self.adopt(snapshot)
            problem = identity_problem(self.wanted, snapshot)
            if problem is not None:
                if self._failed_too_often():
                    return self._stuck(f"recreated, and again {problem[1]}")
                self._delete_wrong_draft(snapshot)
                continue
            snapshot = self._correct_lines(snapshot)
            self._enter(PushState.VERIFYING)
            if is_as_wanted(self.wanted, snapshot, keep_manual_lines=self.terms.keep_manual_lines):
                return self.adopt(self._finalize(snapshot))
            if self._failed_too_often():
                return self._stuck(
                    f"verified {self.failures} times, and Stripe's draft differed from what was written"
                )
            self._enter(PushState.LOOKUP, failures=self.failures)

    def _failed_too_often(self) -> bool:
        self.failures += 1
        return self.failures >= MAX_FAILURES

    def _look_up(self) -> Snapshot | None:
        """Stripe's invoice with our mark, or None. Deletes duplicate drafts."""
        self._enter(PushState.LOOKUP)
        known = None if self.part else self.claimed.stripe_invoice_id
        former = self.claimed.stripe_customer_id
        ours = find_snapshots(self.port, self.stored, self.wanted, known, former_customer_id=former)
        chosen, others = choose(ours)
        for other in others:
            if not other.finalized:
                log.warning("deleting duplicate draft", extra={"stripe_invoice_id": other.stripe_invoice_id})
                self.port.delete_draft(stripe_invoice_id=other.stripe_invoice_id)
        if chosen is not None:
            with transaction(self.engine) as connection:
                confirm_creation(
                    connection,
                    self.claimed,
                    operation=f"{self.part}create",
                    stripe_invoice_id=chosen.stripe_invoice_id,
                    now=self.clock(),
                )
            self._enter(PushState.LOOKUP, stripe_invoice_id=chosen.stripe_invoice_id)
        return chosen

    def _create(self) -> Snapshot:
        # Recorded before it is sent, so that the invoice is found there even after the customer was linked anew.
        self._enter(PushState.CREATING, stripe_invoice_id=None, stripe_customer_id=self.wanted.stripe_customer_id)
        parameters = self._creation()
        _, snapshot = self.send(
            "create",
            parameters,
            lambda operation: self.port.create_invoice(
                parameters=operation.parameters, idempotency_key=operation.idempotency_key
            ),
        )
        self._enter(PushState.LINING, stripe_invoice_id=snapshot.stripe_invoice_id)
        return snapshot

    def _creation(self) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "customer": self.wanted.stripe_customer_id,
            "currency": CURRENCY,
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            "description": self.wanted.description,
            "metadata": dict(self.wanted.metadata),
        }
        if self.terms.days_until_due is not None:
            parameters |= {"collection_method": "send_invoice", "days_until_due": self.terms.days_until_due}
        return parameters

    def _correct_lines(self, snapshot: Snapshot) -> Snapshot:
        """Bring the draft's lines to the wanted ones."""
        self._enter(PushState.LINING)
        changes = line_changes(self.wanted, snapshot, keep_manual_lines=self.terms.keep_manual_lines)
        if changes.remove:
            removed = [{"id": line.stripe_line_id, "behavior": "delete"} for line in changes.remove]
            snapshot = self._change_lines(snapshot, "remove_lines", removed)
        if changes.update:
            updated = [{"id": was.stripe_line_id, **_line(line)} for was, line in changes.update]
            snapshot = self._change_lines(snapshot, "update_lines", updated)
        if changes.add:
            snapshot = self._change_lines(snapshot, "add_lines", [_line(line) for line in changes.add])
        return snapshot

    def _change_lines(self, snapshot: Snapshot, change: str, lines: Sequence[Mapping[str, Any]]) -> Snapshot:
        for start in range(0, len(lines), _LINES_PER_CALL):
            name = change if not start else f"{change}-{start // _LINES_PER_CALL}"
            _, snapshot = self.send(
                name,
                {"lines": list(lines[start : start + _LINES_PER_CALL])},
                lambda operation: self.port.change_lines(
                    stripe_invoice_id=snapshot.stripe_invoice_id,  # noqa: B023
                    change=change,
                    parameters=operation.parameters,
                    idempotency_key=operation.idempotency_key,
                ),
            )
        return snapshot

    def _finalize(self, snapshot: Snapshot) -> Snapshot:
        self._enter(PushState.FINALIZING)
        _, final = self.send(
            "finalize",
            {"auto_advance": self.terms.collect},
            lambda operation: self.port.finalize_invoice(
                stripe_invoice_id=snapshot.stripe_invoice_id,
                parameters=operation.parameters,
                idempotency_key=operation.idempotency_key,
            ),
        )
        if not final.finalized:
            raise StartOverError(f"{final.stripe_invoice_id} is still a draft after the call to finalize it")
        return final

    def _delete_wrong_draft(self, snapshot: Snapshot) -> None:
        """Delete a draft with a wrong customer, currency or month, which cannot be repaired."""
        log.warning("deleting wrong draft to recreate it", extra={"stripe_invoice_id": snapshot.stripe_invoice_id})
        self.port.delete_draft(stripe_invoice_id=snapshot.stripe_invoice_id)
        self.version += 1
        self._enter(PushState.LOOKUP, version=self.version, failures=self.failures, stripe_invoice_id=None)

    def send(
        self, name: str, parameters: Mapping[str, Any], call: Callable[[StripeOperation], Written]
    ) -> tuple[Written, Snapshot]:
        """Record a write, send it, and record its outcome; return the answer and the invoice after the write.

        Raises:
            LeaseLostError: another worker has the push.
            StartOverError: the invoice is gone from Stripe.
            StripeError: the write failed, or its outcome is unknown.
        """
        with transaction(self.engine) as connection:
            operation = begin_operation(
                connection,
                self.claimed,
                version=self.version,
                operation=f"{self.part}{name}",
                parameters=parameters,
                environment=self.terms.environment,
                now=self.clock(),
            )
        try:
            written = call(operation)
        except StripeError as error:
            self._answer(operation, outcome_of(error), stripe_request_id=error.request_id, problem=str(error))
            if isinstance(error, StripeMissingError) and name != "create":
                raise StartOverError(str(error)) from error
            raise
        snapshot = written.snapshot
        if written.replayed or snapshot is None:
            # A replayed answer is old, and a credit note's has no invoice: read the invoice.
            about = snapshot.stripe_invoice_id if snapshot else self.claimed.stripe_invoice_id
            snapshot = self.port.get_invoice(stripe_invoice_id=about or written.stripe_object_id)
        outcome = OperationOutcome.DONE if snapshot is not None else OperationOutcome.GONE
        self._answer(
            operation,
            outcome,
            stripe_object_id=written.stripe_object_id,
            stripe_request_id=written.request_id,
        )
        if snapshot is None:
            raise StartOverError(f"{written.stripe_object_id} no longer exists at Stripe")
        return written, snapshot

    def _answer(self, operation: StripeOperation, outcome: OperationOutcome | None, **details: str | None) -> None:
        with transaction(self.engine) as connection:
            answer_operation(connection, operation, outcome=outcome, now=self.clock(), **details)

    def adopt(self, snapshot: Snapshot) -> PushState:
        """Record a finalized invoice's state, and the customer that has it; a reconciliation checks amounts."""
        state = state_at_stripe(snapshot.status)
        assert state is not None
        owner = self.claimed.stripe_customer_id if self.claimed.state in AT_STRIPE else None
        self._park(
            state,
            stripe_customer_id=owner or snapshot.stripe_customer_id,
            stripe_invoice_id=snapshot.stripe_invoice_id,
            stripe_number=snapshot.number,
            stripe_url=snapshot.url,
            **read_back_columns(snapshot.read_back),
            problem=None,
            attempts=0,
            failures=0,
        )
        return state

    def _retry_later(self, problem: str) -> PushState:
        attempts = self.claimed.attempts + 1
        log.warning("push failed, will retry", extra={"invoice_id": self.claimed.invoice_id, "problem": problem})
        self._enter(
            PushState.UNKNOWN,
            problem=problem,
            attempts=attempts,
            failures=self.failures,
            due_at=self.clock() + wait_after(attempts),
            lease_until=None,
        )
        return PushState.UNKNOWN

    def _stuck(self, problem: str) -> PushState:
        log.error("push stuck, needs attention", extra={"invoice_id": self.claimed.invoice_id, "problem": problem})
        self._park(PushState.STUCK, problem=problem)
        return PushState.STUCK

    def _park(self, state: PushState, **changes: object) -> None:
        if not self.part:
            with transaction(self.engine) as connection:
                park_push(connection, self.claimed, now=self.clock(), state=state.value, **changes)

    def _enter(self, state: PushState, **changes: object) -> None:
        if self.part:
            return
        with transaction(self.engine) as connection:
            record_push(connection, self.claimed, now=self.clock(), state=state.value, **changes)
        if "stripe_invoice_id" in changes:
            self.claimed = replace(self.claimed, stripe_invoice_id=changes["stripe_invoice_id"])  # type: ignore[arg-type]


def wait_after(attempts: int) -> timedelta:
    """The wait after this many failed attempts: it doubles, up to 5 minutes."""
    return timedelta(seconds=min(2**attempts, 300))


def outcome_of(error: StripeError) -> OperationOutcome | None:
    """The outcome of a write that failed with this error; None when it may have taken effect."""
    if isinstance(error, StripeRefusedError):
        return OperationOutcome.REFUSED
    return OperationOutcome.REPLAYED_ERROR if error.replayed else None


def _line(line: WantedLine) -> dict[str, Any]:
    return {
        "amount": line.amount,
        "description": line.description,
        "metadata": {LINE_MARK: line.mark},
        "period": {"start": int(line.starts_at.timestamp()), "end": int(line.ends_at.timestamp())},
    }
