"""Push due invoices: claim pushes with a lease and walk them in parallel."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine

from metering.access.actors import Author
from metering.access.store.audit_log import log_action
from metering.core.period import BillingPeriod
from metering.customers.store import lock_details, stripe_customer_id_of
from metering.db.engine import transaction, will_pass
from metering.months.queries.invoices import get_invoice
from metering.months.queries.line_rates import kept_line_rates
from metering.stripe.client.errors import StripeError, StripeUnauthorizedError
from metering.stripe.client.port import StripePort
from metering.stripe.push import AT_STRIPE, PushState, owner_of, wanted_invoice
from metering.stripe.push_invoice import MAX_FAILURES, Push, PushTerms, wait_after
from metering.stripe.queries.pushes import pushes_under_way
from metering.stripe.store.pushes import (
    ClaimedPush,
    LeaseLostError,
    claim_pushes,
    park_push,
    record_push,
    wake_month,
)

log = logging.getLogger(__name__)

# Parallel pushes in a process.
_THREADS = 8
# Without progress for this long, the rest is left to the workers and the next run.
_PUSH_PATIENCE = timedelta(minutes=2)
_POLL_SECONDS = 0.1

# Called with (activity, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pusher:
    """What every push of a process needs: database, Stripe, terms and clock."""

    engine: Engine
    port: StripePort
    terms: PushTerms
    clock: Callable[[], datetime]


def push_due(
    *, pusher: Pusher, limit: int, threads: int, period: str | None = None, only: str | None = None
) -> Mapping[PushState, int]:
    """Push up to `limit` due invoices, of months up to `period` and of one customer where given.

    Returns the number of pushes by the state that they reached.

    Raises:
        StripeUnauthorizedError: Stripe does not accept the key.
    """
    with transaction(pusher.engine) as connection:
        claimed = claim_pushes(connection, now=pusher.clock(), limit=limit, period=period, only=only)
    if not claimed:
        return {}
    with ThreadPoolExecutor(min(threads, len(claimed)), thread_name_prefix="push") as pool:
        states = [pool.submit(push_claimed, pusher, each) for each in claimed]
    return Counter(state for each in states if (state := each.result()) is not None)


def push_round(*, pusher: Pusher, period: str | None = None, only: str | None = None) -> Mapping[PushState, int]:
    """`push_due` with as many pushes as run in parallel in a process."""
    return push_due(pusher=pusher, limit=_THREADS, threads=_THREADS, period=period, only=only)


def push_month(
    *,
    pusher: Pusher,
    period: BillingPeriod,
    only: str | None,
    by: Author = "metering",
    progress: Progress = lambda *_: None,
) -> int:
    """Push until no push up to the month is in progress, or none finishes for two minutes.

    A push that is stuck or unlinked is tried again: a person who asks for it has removed the cause.

    Returns how many are left in progress.

    Raises:
        StripeUnauthorizedError: Stripe does not accept the key.
    """
    most = 0
    quiet_since = pusher.clock()
    with transaction(pusher.engine) as connection:
        woken = wake_month(connection, period=str(period), now=quiet_since, only=only)
        after = {"customer_id": only, "invoices": woken}
        log_action(
            connection, by=by, now=quiet_since, kind="invoices", action="push", subject=str(period), after=after
        )
    before = -1
    while True:
        with transaction(pusher.engine) as connection:
            left = pushes_under_way(connection, period=str(period), only=only)
        most = max(most, left.count)
        progress("pushing to Stripe", most - left.count, most)
        if left.count != before:
            quiet_since, before = pusher.clock(), left.count
        if not left.count or pusher.clock() - quiet_since > _PUSH_PATIENCE:
            return left.count
        if not push_round(pusher=pusher, period=str(period), only=only):
            time.sleep(_POLL_SECONDS)


def push_claimed(pusher: Pusher, claimed: ClaimedPush) -> PushState | None:
    """Walk a claimed push, or read Stripe for one that needs no writes; return the state that it reached.

    Returns None when another worker has taken the push over.

    Raises:
        StripeUnauthorizedError: Stripe does not accept the key.
    """
    try:
        if claimed.state in AT_STRIPE or claimed.state is PushState.STUCK:
            return _refresh(pusher, claimed)
        push = prepare_push(pusher, claimed)
        if push is None:
            return _unlinked(pusher, claimed)
        return push.walk()
    except LeaseLostError as error:
        log.warning(
            "push taken over by another worker", extra={"invoice_id": claimed.invoice_id, "error": str(error)}
        )
        return None
    except StripeUnauthorizedError as error:
        _record(pusher, claimed, problem=str(error), lease_until=None)
        raise
    except Exception as error:
        # Whatever it is, it is about this invoice: the others are pushed.
        if will_pass(error):
            raise
        log.exception("push failed unexpectedly", extra={"invoice_id": claimed.invoice_id})
        return _failed(pusher, claimed, f"{type(error).__name__}: the log of the worker has the details")


def prepare_push(pusher: Pusher, claimed: ClaimedPush) -> Push | None:
    """The walk for a claimed push; None while its customer has no Stripe id.

    A final invoice is compared with, and corrected at, the Stripe customer that it was written to.
    """
    with transaction(pusher.engine) as connection:
        stored = get_invoice(connection, customer_id=claimed.customer_id, invoice_id=claimed.invoice_id)
        linked = stripe_customer_id_of(connection, customer_id=claimed.customer_id)
        rates = kept_line_rates(connection, [(claimed.customer_id, claimed.invoice_id)])[claimed.invoice_id]
    stripe_customer_id = owner_of(claimed.state, pushed_to=claimed.stripe_customer_id, linked=linked)
    assert stored is not None
    if stripe_customer_id is None:
        return None
    return Push(
        engine=pusher.engine,
        port=pusher.port,
        terms=pusher.terms,
        clock=pusher.clock,
        claimed=claimed,
        stored=stored,
        wanted=wanted_invoice(
            invoice=stored.invoice,
            number=stored.number,
            environment=pusher.terms.environment,
            stripe_customer_id=stripe_customer_id,
            rates=rates,
        ),
        version=claimed.version,
        failures=claimed.failures,
    )


def _unlinked(pusher: Pusher, claimed: ClaimedPush) -> PushState:
    """Leave the push until its customer is linked, or due if that has happened meanwhile.

    Linking wakes unlinked pushes. Under the customer's lock, it comes either before this or after it.
    """
    problem = "the customer has no Stripe id; the invoice is pushed once the customer is linked"
    now = pusher.clock()
    with transaction(pusher.engine) as connection:
        customer = lock_details(connection, customer_id=claimed.customer_id)
        if customer is not None and customer.stripe_customer_id is not None:
            record_push(connection, claimed, now=now, lease_until=None)
            return claimed.state
        unlinked = {"state": PushState.UNLINKED.value, "problem": problem, "due_at": None}
        record_push(connection, claimed, now=now, lease_until=None, **unlinked)
    return PushState.UNLINKED


def _refresh(pusher: Pusher, claimed: ClaimedPush) -> PushState:
    """Read an invoice that an event or a repair woke, and adopt its state at Stripe.

    A stuck push stays stuck, unless a person has finalized the invoice at Stripe.
    """
    push = prepare_push(pusher, claimed)
    if push is None or claimed.stripe_invoice_id is None:
        return _park(pusher, claimed, "the invoice or its customer is no longer linked to Stripe")
    try:
        snapshot = pusher.port.get_invoice(stripe_invoice_id=claimed.stripe_invoice_id)
    except StripeUnauthorizedError:
        raise
    except StripeError as error:
        return _refresh_later(pusher, claimed, str(error))
    if snapshot is not None and snapshot.finalized:
        return push.adopt(snapshot)
    return _park(pusher, claimed, "the invoice is missing at Stripe, or a draft: reconcile")


def _refresh_later(pusher: Pusher, claimed: ClaimedPush, problem: str) -> PushState:
    attempts = claimed.attempts + 1
    log.warning(
        "invoice not read from Stripe, will retry", extra={"invoice_id": claimed.invoice_id, "problem": problem}
    )
    _record(pusher, claimed, attempts=attempts, due_at=pusher.clock() + wait_after(attempts), lease_until=None)
    return claimed.state


def _park(pusher: Pusher, claimed: ClaimedPush, problem: str) -> PushState:
    """Release a push until it is woken. A stuck push keeps the problem that it has."""
    found = {} if claimed.state is PushState.STUCK else {"problem": problem}
    with transaction(pusher.engine) as connection:
        park_push(connection, claimed, now=pusher.clock(), attempts=0, **found)
    return claimed.state


def _failed(pusher: Pusher, claimed: ClaimedPush, what: str) -> PushState:
    """Try a push again later; after three failures it needs attention. An invoice at Stripe keeps its state."""
    failures, attempts = claimed.failures + 1, claimed.attempts + 1
    known = claimed.state in AT_STRIPE or claimed.state is PushState.STUCK
    if failures >= MAX_FAILURES and not known:
        state, due_at = PushState.STUCK, None
    else:
        state = claimed.state if known else PushState.UNKNOWN
        due_at = pusher.clock() + wait_after(attempts)
    _record(
        pusher,
        claimed,
        state=state.value,
        problem=f"failed unexpectedly ({what})",
        attempts=attempts,
        failures=failures,
        due_at=due_at,
        lease_until=None,
    )
    return state


def _record(pusher: Pusher, claimed: ClaimedPush, **changes: object) -> None:
    with transaction(pusher.engine) as connection:
        record_push(connection, claimed, now=pusher.clock(), **changes)
