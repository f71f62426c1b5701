"""Admit holds: a group of requests, in the order of arrival, in one transaction.

Whoever is admitted fits at the commit: what is spent and held changes only under the locks of the customers.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection

from metering.budgets.accounts import accounts_of, open_accounts
from metering.budgets.admission import Account, BudgetExhaustedError, admit, amount_without_price
from metering.budgets.expire_holds import expire_holds_of
from metering.budgets.hold_price import HoldPrice, PriceUnknownError, price_hold
from metering.budgets.holds import Hold, HoldRequest, HoldState, StreamKey, expiry_of
from metering.budgets.queries.streams import final_streams
from metering.budgets.refusals import refusals_of
from metering.budgets.store.budgets import open_budgets
from metering.budgets.store.holds import adding_holds, holds_of, removing_holds
from metering.budgets.store.refusals import add_refusals
from metering.core.errors import MeteringError
from metering.core.money import ZERO
from metering.db.together import ask_three
from metering.prices.price_book import PriceBook

Admission = Hold | MeteringError


class HoldDiffersError(MeteringError):
    """The stream has a hold that was made for another request."""

    def __init__(self, request: HoldRequest) -> None:
        super().__init__(
            f"stream_id: stream {request.stream_id!r} of customer {request.customer_id!r} has a hold for another"
            " request; repeat that request unchanged, or give the new stream an id of its own"
        )


class StreamFinalError(MeteringError):
    """The stream has its charge already, so there is nothing to hold."""

    def __init__(self, request: HoldRequest) -> None:
        super().__init__(
            f"stream_id: stream {request.stream_id!r} of customer {request.customer_id!r} is final; give the new"
            " stream an id of its own"
        )


def admit_holds(
    connection: Connection, requests: Sequence[HoldRequest], *, prices: PriceBook, now: datetime
) -> list[Admission]:
    """Make a hold for each request that fits, and say why for each of the others, in their order.

    A repeated request gets the hold that it has; one whose hold expired or was released is admitted anew. What
    budgets refuse is counted (`refusals.py`). The customers of the requests are locked (`store.locks`).
    """
    group = _Group(connection, requests, prices, now)
    answers = [group.answer(request) for request in requests]
    refused = [number for number, answer in enumerate(answers) if isinstance(answer, BudgetExhaustedError)]
    if refused and expire_holds_of(connection, {requests[each].customer_id for each in refused}, now=now):
        # Money of streams that never began may have been in the way.
        group.write()
        group.read_accounts()
        for number in refused:
            answers[number] = group.answer(requests[number])
    group.write()
    add_refusals(connection, refusals_of(zip(requests, answers, strict=True), now=now))
    return answers


class _Group:
    """The requests of one transaction, and what it has made for them."""

    def __init__(
        self, connection: Connection, requests: Sequence[HoldRequest], prices: PriceBook, now: datetime
    ) -> None:
        self._connection, self._prices, self._now = connection, prices, now
        keys = {request.key for request in requests}
        self._customers = {customer_id for customer_id, _ in keys}
        self._made: list[Hold] = []
        self._replaced: list[StreamKey] = []
        opened = open_budgets(self._customers, at=now)
        self._holds, self._final, found = ask_three(connection, holds_of(keys), final_streams(keys), opened)
        self._accounts = accounts_of(connection, found, now=now)

    def read_accounts(self) -> None:
        self._accounts = open_accounts(self._connection, self._customers, now=self._now)

    def answer(self, request: HoldRequest) -> Admission:
        """The hold of a request, or why it has none."""
        hold = self._holds.get(request.key)
        if hold is not None and hold.request != request:
            return HoldDiffersError(request)
        if hold is not None and hold.state in (HoldState.OPEN, HoldState.SETTLED):
            return hold
        if request.key in self._final:
            return StreamFinalError(request)
        try:
            made = self._make(request)
        except MeteringError as error:
            return error
        if hold is not None:
            self._replaced.append(request.key)
        self._holds[request.key] = made
        self._made.append(made)
        return made

    def _make(self, request: HoldRequest) -> Hold:
        accounts = self._accounts.covering(
            customer_id=request.customer_id, api_key_id=request.api_key_id, tags=request.tags
        )
        amount, price = self._priced(request, accounts)
        admit(accounts, amount=amount, price=price)
        return Hold(
            request=request,
            held_usd_cents=amount,
            covers_output_tokens=request.covered_output_tokens,
            state=HoldState.OPEN,
            is_stopped=False,
            made_at=self._now,
            expires_at=expiry_of(request, now=self._now),
            budget_ids=tuple(account.budget.budget_id for account in accounts),
            standings=tuple(account.standing for account in accounts),
        )

    def _priced(self, request: HoldRequest, accounts: Sequence[Account]) -> tuple[Decimal, HoldPrice | None]:
        try:
            price = price_hold(request, prices=self._prices, at=self._now)
        except PriceUnknownError as error:
            if error.has_rate and not accounts:
                return ZERO, None
            flat = amount_without_price(accounts)
            if flat is None:
                raise
            return flat, None
        return price.amount(request.covered_output_tokens), price

    def write(self) -> None:
        """Store what was made so far."""
        self._accounts.write(self._connection, *removing_holds(self._replaced), *adding_holds(self._made))
        self._made, self._replaced = [], []
