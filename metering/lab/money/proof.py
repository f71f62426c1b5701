"""The proof that a database's budgets, holds and grants did at every commit what the design says."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg

from metering.lab.money.drawing import Drawing
from metering.lab.money.entries import entries_of, read_started
from metering.lab.money.history import read_history
from metering.lab.money.holding import Holding, Price

_CUSTOMERS = """
SELECT DISTINCT columns ->> 'customer_id' FROM money_history.changes
WHERE relation IN ('holds', 'charges', 'budgets') AND operation = 'INSERT'
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is wrong, as sentences; what happened, by name; and the streams that still hold something."""

    problems: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    open_holds: Sequence[tuple[str, str]] = ()


def no_price(_model: str, _input_tokens: int, _output_tokens: int) -> None:
    """The amounts of holds are not to be checked."""


def prove(connection: psycopg.Connection, *, price: Price = no_price) -> Proof:
    """Follow the history from its beginning to its end."""
    customers = [row[0] for row in connection.execute(_CUSTOMERS)]
    drawing = Drawing()
    holding = Holding(read_started(connection, customers), price, drawing.balance)
    problems: list[str] = []
    counted: Counter[str] = Counter()
    for transaction in read_history(connection):
        entries = entries_of(transaction)
        counted["transactions"] += 1
        counted["entries"] += len(entries)
        problems += drawing.follow(transaction, entries)
        problems += holding.follow(transaction, entries)
    return Proof(problems, counted + drawing.counted + holding.counted, holding.open_holds)
