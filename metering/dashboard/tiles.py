"""Tiles: one figure each, with what it is made of, and where its rows are."""

from dataclasses import dataclass
from decimal import Decimal

from metering.dashboard.values import change, exact_money, money


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A figure. `exact` is all of its digits; `flag` says in a word when somebody should look."""

    title: str
    value: str
    detail: str
    href: str | None = None
    exact: str | None = None
    flag: str | None = None


def money_tile(
    title: str, usd_cents: Decimal, detail: str, *, href: str | None = None, flag: str | None = None
) -> Tile:
    """An amount, as people read it and exactly."""
    return Tile(
        title=title, value=money(usd_cents), exact=exact_money(usd_cents), detail=detail, href=href, flag=flag
    )


def compared_tile(title: str, now: Decimal, before: Decimal, than: str, *, href: str | None = None) -> Tile:
    """An amount, and how it has moved."""
    return money_tile(title, now, f"{change(now, before)}; {than}: {money(before)}", href=href)
