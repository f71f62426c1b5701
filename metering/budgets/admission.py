"""Admission: whether a hold fits all of its budgets. A group of holds is admitted in the order of arrival."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from metering.budgets.budget import Budget, BudgetAction, Span, Standing, standing_of
from metering.budgets.hold_price import HoldPrice
from metering.core.errors import MeteringError
from metering.core.money import EXACT, ZERO, cents_text


@dataclass(slots=True, kw_only=True)
class Account:
    """A budget while holds are admitted against it: its figures in the current window, in exact cents."""

    budget: Budget
    span: Span
    spent: Decimal
    held: Decimal
    balance: Decimal = ZERO
    newly_held: Decimal = ZERO

    @property
    def standing(self) -> Standing:
        """The figures as they are now."""
        return standing_of(self.budget, span=self.span, spent=self.spent, held=self.held, balance=self.balance)

    def hold(self, amount: Decimal) -> None:
        """Set an amount aside; below zero, give it back."""
        self.held = EXACT.add(self.held, amount)
        self.newly_held = EXACT.add(self.newly_held, amount)


class BudgetExhaustedError(MeteringError):
    """The hold does not fit a budget. `max_output_tokens_that_fit` is None where a hold was to be made longer."""

    def __init__(
        self, account: Account, *, needed: Decimal, max_output_tokens_that_fit: int | None = None
    ) -> None:
        standing = account.standing
        headroom = max(standing.headroom_usd_cents, ZERO)
        super().__init__(
            f"budget {standing.budget_id} has {cents_text(headroom)} cents left; {cents_text(needed)} are needed"
        )
        self.budget = account.budget
        self.standing = standing
        self.needed_usd_cents = needed
        self.max_output_tokens_that_fit = max_output_tokens_that_fit


def refusing(accounts: Iterable[Account], *, amount: Decimal) -> Account | None:
    """The budget with the least headroom among those that refuse this amount; None if it fits."""
    short = [
        account
        for account in accounts
        if account.budget.action is BudgetAction.REFUSE and account.standing.headroom_usd_cents < amount
    ]
    return min(short, key=lambda account: account.standing.headroom_usd_cents, default=None)


def admit(accounts: Sequence[Account], *, amount: Decimal, price: HoldPrice | None) -> None:
    """Hold `amount` in each of these budgets.

    Raises:
        BudgetExhaustedError: it does not fit one of them; nothing is held.
    """
    short = refusing(accounts, amount=amount)
    if short is not None:
        fits = None if price is None else price.output_tokens_within(short.standing.headroom_usd_cents)
        raise BudgetExhaustedError(short, needed=amount, max_output_tokens_that_fit=fits)
    for account in accounts:
        account.hold(amount)


def amount_without_price(accounts: Iterable[Account]) -> Decimal | None:
    """What is held for a stream whose model has no price: the most that its budgets say; None: it is refused."""
    flat = [account.budget.unknown_price_usd_cents for account in accounts]
    known = [each for each in flat if each is not None]
    return max(known) if known and len(known) == len(flat) else None
