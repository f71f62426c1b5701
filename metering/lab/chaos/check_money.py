"""What must hold for money after chaos: proved from the history of the database, and nothing is left held."""

import time
from collections import Counter
from collections.abc import Callable, Mapping

import psycopg

from metering.lab.chaos import oracle
from metering.lab.chaos.clients import WRONGLY_REFUSED, Result
from metering.lab.chaos.report import MoneyChecks
from metering.lab.chaos.terms import GATEWAY_CUSTOMER
from metering.lab.money.proof import prove

_SHOWN = 10
_OPEN = "SELECT count(*) FROM holds WHERE state = 'open'"
_UNCHARGED = """
SELECT stream_id FROM unnest(%s::text[]) AS told (stream_id)
WHERE NOT EXISTS (SELECT FROM charges c WHERE c.customer_id = %s AND c.stream_id = told.stream_id)
"""
# What a run must reach, as it is counted.
WANTED = (
    *("asked", "refused", "admitted", "extended", "stopped", "settled", "expired", "released"),
    *("cut", "chats cut", "chats refused: budget_exhausted", "chats read to the end"),
    *("granted", "drawn", "restored", "voided"),
    *("overrun late_usage", "overrun counted_more", "overrun hold_expired", "overrun no_hold"),
    *("overrun failed_open", "overrun rerated"),
)


def wait_until_closed(database_url: str, *, within: float) -> None:
    """Return when no hold is open, or after so many seconds: the proof names those that are left."""
    deadline = time.monotonic() + within
    with psycopg.connect(database_url, autocommit=True) as connection:
        while connection.execute(_OPEN).fetchone() != (0,) and time.monotonic() < deadline:
            time.sleep(0.5)


def check_money(
    database_url: str, noted: Result, done: Mapping[str, int], say: Callable[[str], None]
) -> MoneyChecks:
    """Prove that every commit kept to the limits, that every cent beyond a hold has its reason, and the draws."""
    say("proving budgets, holds and grants from the history")
    began = time.monotonic()
    with psycopg.connect(database_url) as connection:
        proof = prove(connection, price=oracle.hold_price)
        uncharged = [row[0] for row in connection.execute(_UNCHARGED, (noted.chatted, GATEWAY_CUSTOMER))]
    say(f"{proof.counted['transactions']:,} transactions followed in {time.monotonic() - began:.0f} s")
    counted = (
        proof.counted + Counter(noted.counted) + Counter({f"desk: {name}": each for name, each in done.items()})
    )
    problems = list(proof.problems[:_SHOWN])
    if len(proof.problems) > _SHOWN:
        problems.append(f"and {len(proof.problems) - _SHOWN} more")
    if proof.open_holds:
        problems.append(f"{len(proof.open_holds)} holds are open at the end, such as {proof.open_holds[:_SHOWN]}")
    if uncharged:
        problems.append(f"{len(uncharged)} streams of the gateway are not charged, such as {uncharged[:_SHOWN]}")
    if counted[WRONGLY_REFUSED]:
        problems.append(f"{counted[WRONGLY_REFUSED]} holds were {WRONGLY_REFUSED}")
    if counted["answers with 500"]:
        problems.append(f"{counted['answers with 500']} requests of the clients were answered with 500")
    if counted["events rejected"]:
        problems.append(f"{counted['events rejected']} events of the clients were rejected")
    problems += [f"never reached: {name}" for name in WANTED if not counted[name]]
    return MoneyChecks(counted=dict(sorted(counted.items())), problems=problems)
