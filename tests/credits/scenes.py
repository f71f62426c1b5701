"""Books whose customers have grants."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from metering.corrections.adjust_manually import adjust_manually
from metering.credits.create_grant import create_grant
from metering.credits.end_grant import find_grant
from metering.credits.grant import Funding, Grant
from metering.credits.terms import GrantTerms
from metering.db.engine import transaction
from metering.ledger.entries import ManualKind
from tests.builders import NOW, T0, Books, end, start
from tests.builders.books import ADD_CUSTOMER

# What a stream of the builders costs.
COST = Decimal("0.4985")


def give(
    books: Books, amount: str = "100", *, key: str = "k", at: datetime = T0, paid: int = 0, **terms: Any
) -> Grant:
    """A grant for acme."""
    with books.owner() as connection:
        connection.execute(ADD_CUSTOMER)
    return create_grant(
        engine=books.service.engine,
        idempotency_key=key,
        terms=GrantTerms(
            **{
                "customer_id": "acme",
                "amount_usd_cents": Decimal(amount),
                "paid_usd_cents": Decimal(paid),
                "funding": Funding.EXTERNAL if paid else Funding.NONE,
                "reason": "test",
                **terms,
            }
        ),
        by="finance",
        now=at,
    )


def use(books: Books, stream_id: str = "s", *, now: datetime = NOW, **event: Any) -> None:
    """A stream of acme, booked."""
    ends = {"output": event.pop("output")} if "output" in event else {}
    time = {"time": event["time"]} if "time" in event else {}
    books.receive([start(stream_id, **event), end(stream_id, **ends, **time)], at=now)
    books.finalize(now=now)


def credit(
    books: Books, usd_cents: str, *, stream_id: str | None = "s", now: datetime = NOW, key: str = "c"
) -> None:
    """A credit (below 0) or a correction."""
    adjust_manually(
        engine=books.service.engine,
        idempotency_key=key,
        customer_id="acme",
        stream_id=stream_id,
        kind=ManualKind.CREDIT if usd_cents.startswith("-") else ManualKind.CORRECTION,
        usd_cents=Decimal(usd_cents),
        reason="goodwill",
        booked_by="finance",
        now=now,
    )


def again(books: Books, made: Grant) -> Grant:
    """The grant as it is now."""
    with transaction(books.service.engine) as connection:
        found = find_grant(connection, made.grant_id)
    assert found is not None
    return found


def rows(books: Books, query: str) -> Sequence[tuple[Any, ...]]:
    """As the owner."""
    with books.owner() as connection:
        return connection.execute(query.encode()).fetchall()


def entries(books: Books) -> list[tuple[str, Decimal]]:
    """Kind and amount of all entries, in the order of booking."""
    return [
        (kind, amount)
        for kind, amount in rows(books, "SELECT kind, usd_cents FROM grant_entries ORDER BY entry_order")
    ]
