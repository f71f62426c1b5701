"""Push an invoice: bring Stripe, from whatever it has, to exactly one correct and finalized invoice.

Every walk begins by reading Stripe, and every write is recorded before it is sent. So it can stop anywhere, also
without a word from Stripe, and be walked again from anywhere.
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
    LineChanges,
    choose,
    identity_problem,
    is_as_wanted,
    line_changes,
    state_at_stripe,
)
from metering.stripe.push import CURRENCY, LINE_MARK, PushState, WantedInvoice, WantedLine
from metering.stripe.snapshot import Snapshot
from metering.stripe.store.operations import (
    OperationOutcome,
    StripeOperation,
    answer_operation,
    begin_operation,
    settle_creation,
)
from metering.stripe.store.pushes import ClaimedPush, park_push, record_push

log = logging.getLogger(__name__)

# As often as an invoice may turn out wrong, or be refused, before a person has to look.
_MOST_FAILURES = 3
_LINES_A_CALL = 100


class StartOverError(MeteringError):
    """What was found does not hold any more: read Stripe again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PushTerms:
    """How invoices are to be at Stripe. `collect`: Stripe sends or charges them by itself once they are final.

    `days_until_due` makes them invoices that are sent instead of charged to a card.
    """

    environment: str
    collect: bool = False
    days_until_due: int | None = None
    keep_manual_lines: bool = False


@dataclass(slots=True, kw_only=True)
class Push:
    """One walk. `version` counts the invoices that were given up at Stripe to be made anew.

    `part` names what is not the invoice itself but bills beside it: its writes are recorded, its states are not.
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
        """Go as far as it goes; what went wrong is recorded, with when to try again.

        Raises:
            LeaseLostError: another worker has the push.
            StripeUnauthorizedError: the key is not accepted.
        """
        try:
            return self._walk()
        except (StartOverError, StripeUncertainError, StripeThrottledError) as error:
            return self._later(PushState.UNKNOWN, str(error))
        except StripeRefusedError as error:
            if self._failed_too_often():
                return self._stuck(str(error))
            return self._later(PushState.UNKNOWN, str(error))

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
                    return self._stuck(f"made anew, and again {problem[1]}")
                self._give_up(snapshot)
                continue
            snapshot = self._line_up(snapshot)
            self._enter(PushState.VERIFYING)
            if is_as_wanted(self.wanted, snapshot, keep_manual_lines=self.terms.keep_manual_lines):
                return self.adopt(self._finalize(snapshot))
            if self._failed_too_often():
                return self._stuck(f"{self.failures} times it was not what was written to it")
            self._enter(PushState.LOOKUP, failures=self.failures)

    def _failed_too_often(self) -> bool:
        self.failures += 1
        return self.failures >= _MOST_FAILURES

    def _look_up(self) -> Snapshot | None:
        """Stripe's invoice with our mark; drafts beside it are deleted."""
        self._enter(PushState.LOOKUP)
        known = None if self.part else self.claimed.stripe_invoice_id
        ours = find_snapshots(self.port, self.stored, self.wanted, known)
        chosen, others = choose(ours)
        for other in others:
            if not other.finalized:
                log.warning("a second draft is deleted", extra={"stripe_invoice_id": other.stripe_invoice_id})
                self.port.delete_draft(stripe_invoice_id=other.stripe_invoice_id)
        if chosen is not None:
            with transaction(self.engine) as connection:
                settle_creation(
                    connection,
                    self.claimed,
                    operation=f"{self.part}create",
                    stripe_invoice_id=chosen.stripe_invoice_id,
                    now=self.clock(),
                )
            self._enter(PushState.LOOKUP, stripe_invoice_id=chosen.stripe_invoice_id)
        return chosen

    def _create(self) -> Snapshot:
        self._enter(PushState.CREATING, stripe_invoice_id=None)
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

    def _line_up(self, snapshot: Snapshot) -> Snapshot:
        """Give it the lines that it should have, and no others."""
        self._enter(PushState.LINING)
        changes = self._changes(snapshot)
        if changes.remove:
            removed = [{"id": line.stripe_line_id, "behavior": "delete"} for line in changes.remove]
            snapshot = self._change_lines(snapshot, "remove_lines", removed)
        if changes.update:
            updated = [{"id": was.stripe_line_id, **_line(line)} for was, line in changes.update]
            snapshot = self._change_lines(snapshot, "update_lines", updated)
        if changes.add:
            snapshot = self._change_lines(snapshot, "add_lines", [_line(line) for line in changes.add])
        return snapshot

    def _changes(self, snapshot: Snapshot) -> LineChanges:
        return line_changes(self.wanted, snapshot, keep_manual_lines=self.terms.keep_manual_lines)

    def _change_lines(self, snapshot: Snapshot, change: str, lines: Sequence[Mapping[str, Any]]) -> Snapshot:
        for start in range(0, len(lines), _LINES_A_CALL):
            name = change if not start else f"{change}-{start // _LINES_A_CALL}"
            _, snapshot = self.send(
                name,
                {"lines": list(lines[start : start + _LINES_A_CALL])},
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
            raise StartOverError(f"{final.stripe_invoice_id} is still a draft after it was finalized")
        return final

    def _give_up(self, snapshot: Snapshot) -> None:
        """A draft of another customer, currency or month: it cannot be mended, so it makes room for a new one."""
        log.warning("a draft is deleted and made anew", extra={"stripe_invoice_id": snapshot.stripe_invoice_id})
        self.port.delete_draft(stripe_invoice_id=snapshot.stripe_invoice_id)
        self.version += 1
        self._enter(PushState.LOOKUP, version=self.version, failures=self.failures, stripe_invoice_id=None)

    def send(
        self, name: str, parameters: Mapping[str, Any], call: Callable[[StripeOperation], Written]
    ) -> tuple[Written, Snapshot]:
        """Record a write, send it, and record what came of it; Stripe's invoice as it is then."""
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
            # What was answered then need not be so any more.
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
            raise StartOverError(f"{written.stripe_object_id} is gone from Stripe")
        return written, snapshot

    def _answer(self, operation: StripeOperation, outcome: OperationOutcome | None, **details: str | None) -> None:
        with transaction(self.engine) as connection:
            answer_operation(connection, operation, outcome=outcome, now=self.clock(), **details)

    def adopt(self, snapshot: Snapshot) -> PushState:
        """Take over where Stripe has a finalized invoice; whether its amounts are right, reconciling asks."""
        state = state_at_stripe(snapshot.status)
        assert state is not None
        self._rest(
            state,
            stripe_invoice_id=snapshot.stripe_invoice_id,
            stripe_number=snapshot.number,
            stripe_url=snapshot.url,
            problem=None,
            attempts=0,
            failures=0,
        )
        return state

    def _later(self, state: PushState, problem: str) -> PushState:
        attempts = self.claimed.attempts + 1
        log.warning("a push is tried again", extra={"invoice_id": self.claimed.invoice_id, "problem": problem})
        due_at = self.clock() + wait_after(attempts)
        self._enter(
            state, problem=problem, attempts=attempts, failures=self.failures, due_at=due_at, lease_until=None
        )
        return state

    def _stuck(self, problem: str) -> PushState:
        log.error("a push needs a person", extra={"invoice_id": self.claimed.invoice_id, "problem": problem})
        self._rest(PushState.STUCK, problem=problem)
        return PushState.STUCK

    def _rest(self, state: PushState, **changes: object) -> None:
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
    """How long to wait after so many attempts that came to nothing."""
    return timedelta(seconds=min(2**attempts, 300))


def outcome_of(error: StripeError) -> OperationOutcome | None:
    """What is known of a write that failed so; None when it may yet have taken effect."""
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
