"""Deferred revenue: by cumulative difference, so that all entries sum to the price, in any order."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from metering.credits.revenue import Earned, after_draw, after_end, share_of

amounts = st.decimals(Decimal("0.000001"), Decimal(10**9), places=6)


class Sale:
    """A grant of `amount` sold for `paid`, and what has become of its price."""

    def __init__(self, paid: int, amount: Decimal | int) -> None:
        self.paid, self.amount = Decimal(paid), Decimal(amount)
        self.left, self.earned = self.amount, Earned()

    def draw(self, usd_cents: Decimal | int | str) -> int:
        """Draw, or (below zero) restore; returns what it earns."""
        drawn, before = Decimal(usd_cents), self.earned
        self.left -= drawn
        self.earned = after_draw(before, drawn, paid=self.paid, amount=self.amount, balance=self.left)
        return self.earned.recognised_cents - before.recognised_cents

    def end(self, usd_cents: Decimal | int | str) -> int:
        """Refund or expire; returns what it releases."""
        before = self.earned
        self.left -= Decimal(usd_cents)
        self.earned = after_end(before, paid=self.paid, amount=self.amount, balance=self.left)
        return self.earned.released_cents - before.released_cents


def test_the_last_draw_takes_the_rest_of_the_price() -> None:
    sale = Sale(1000, 3)
    assert [sale.draw(1) for _ in range(3)] == [333, 333, 334]


def test_a_grant_that_cost_nothing_releases_nothing() -> None:
    sale = Sale(0, 100)
    assert (sale.draw(50), sale.end(50)) == (0, 0)


def test_a_price_below_a_cent_per_draw_is_earned_by_the_draw_that_completes_the_cent() -> None:
    sale = Sale(1, 4)
    assert [sale.draw(1) for _ in range(4)] == [0, 0, 0, 1]


def test_a_draw_after_a_refund_takes_the_rest_too() -> None:
    sale = Sale(100, 3)
    assert (sale.draw(1), sale.end(1), sale.draw(1)) == (33, 33, 34)


def test_refunds_never_pay_back_more_than_the_price() -> None:
    """Double refund of a late settle: the second refund pays only for what was restored."""
    sale = Sale(1000, 10)
    assert sale.draw("0.4985") == 49
    assert sale.end("9.5015") == 951
    assert sale.draw("-0.4985") == -49
    assert sale.end("0.4985") == 49


def test_shares_are_exact_for_amounts_of_any_size() -> None:
    huge = Decimal("999999999999999.000000000000000000000001")
    assert share_of(Decimal(10**15 - 1), used=huge, amount=huge) == (10**15 - 1, 10**15 - 1)


@given(paid=st.integers(0, 10**12), amount=amounts, parts=st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_parts_of_any_size_earn_exactly_the_price(paid: int, amount: Decimal, parts: list[int]) -> None:
    sale, earned = Sale(paid, amount), 0
    for part in parts:
        step = sale.draw((sale.left * part / 1000).quantize(Decimal("1E-9")))
        assert step >= 0
        earned += step
    assert earned + sale.draw(sale.left) == paid


steps = st.lists(st.tuples(st.sampled_from(["draw", "restore", "end"]), st.integers(1, 9)), max_size=30)


@given(paid=st.integers(1, 30), amount=st.integers(1, 40), history=steps)
def test_no_order_of_draws_restores_and_refunds_loses_or_makes_a_cent(
    paid: int, amount: int, history: list[tuple[str, int]]
) -> None:
    sale, refunded, ended, restored = Sale(paid, amount), 0, 0, False
    for what, units in history:
        if what == "draw":
            sale.draw(min(units, sale.left))
        elif what == "restore":
            restored = True
            sale.draw(-min(units, sale.earned.drawn_usd_cents))
        else:
            taken = min(units, int(sale.left))
            refunded, ended = refunded + sale.end(taken), ended + taken
        earned, drawn = sale.earned, sale.earned.drawn_usd_cents
        assert 0 <= earned.recognised_cents <= earned.released_cents <= paid
        assert earned.released_cents - earned.recognised_cents == refunded
        assert abs(earned.recognised_cents - paid * drawn / amount) <= (1 if sale.left else 2)
        assert abs(refunded - Decimal(paid * ended) / amount) <= 2
        if not sale.left:
            assert earned.released_cents == paid
        if not ended or (not drawn and not restored):
            assert earned.released_cents == paid * int(amount - sale.left) // amount
