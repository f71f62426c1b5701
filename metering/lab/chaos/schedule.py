"""The faults of a run: which kinds there are, and when each happens. A pure function of the seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class FaultKind(StrEnum):
    """What is done to the product while it works."""

    KILL_API = "kill -9 of the API"
    KILL_WORKER = "kill -9 of the worker"
    KILL_BEAT = "kill -9 of beat"
    KILL_UP = "kill -9 of the supervisor"
    KILL_POSTGRES = "kill -9 of PostgreSQL"
    KILL_BACKEND = "kill -9 of one PostgreSQL backend"
    KILL_VALKEY = "kill -9 of Valkey"
    KILL_GATEWAY = "kill -9 of a gateway"
    KILL_STRIPE = "kill -9 of the local Stripe"
    STOP_API = "SIGSTOP of the API"
    STOP_WORKER = "SIGSTOP of the worker"
    STOP_BEAT = "SIGSTOP of beat"
    STOP_POSTGRES = "SIGSTOP of PostgreSQL and its backends"
    STOP_VALKEY = "SIGSTOP of Valkey"
    STOP_GATEWAY = "SIGSTOP of a gateway"
    WIPE_VALKEY = "Valkey emptied"
    CUT_DATABASE = "connections to PostgreSQL cut and refused"
    CUT_VALKEY = "connections to Valkey cut and refused"
    CUT_API = "gateways' connections cut and refused"
    SILENT_DATABASE = "link to PostgreSQL silent"
    SILENT_VALKEY = "link to Valkey silent"
    SILENT_API = "gateways' link silent"
    HALF_OPEN_DATABASE = "connections to PostgreSQL half-open, new ones work"
    HALF_OPEN_API = "gateways' connections half-open, new ones work"
    SLOW_DATABASE = "link to PostgreSQL slow"
    FULL_DISK = "PostgreSQL's disk full"
    SECOND_WORKER = "a second worker"
    SECOND_BEAT = "a second beat"
    STRIPE_THROTTLES = "Stripe answers 429"
    STRIPE_LOSES_REPLIES = "Stripe works and loses its answers"
    STRIPE_LOSES_REQUESTS = "Stripe loses requests"
    STRIPE_FAILS = "Stripe works and answers 500"
    CLOSE_MONTH = "month closed"
    FORCE_MONTH = "month closed by force"


# These happen at fixed parts of a run, because a reconciliation needs invoices.
_FIXED = {FaultKind.CLOSE_MONTH: 0.3, FaultKind.FORCE_MONTH: 0.4}
_STRIPE = frozenset(kind for kind in FaultKind if kind.name.startswith("STRIPE_"))
_STRIPE_FROM = 0.45
# The last faults end well before the run does.
_UNTIL = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault, `at` seconds after the start, for `seconds` if it lasts; `pick` chooses among several targets."""

    at: float
    kind: FaultKind
    seconds: float
    pick: int


def schedule(
    *, seed: int, seconds: float, count: int, longest: float, without: Sequence[FaultKind] = ()
) -> Sequence[Fault]:
    """The faults of a run of `seconds`, in order of time.

    Every kind but those in `without` is in it at least once, so there can be more than `count`. A fault lasts from
    a fifth of a second to `longest` seconds.
    """
    random = Random(f"chaos {seed}")
    kinds = [kind for kind in FaultKind if kind not in without and kind not in _FIXED]
    # A reconciliation takes as long as several other faults.
    weights = [1 if kind in _STRIPE else 4 for kind in kinds]
    chosen = [*kinds, *random.choices(kinds, weights, k=max(0, count - len(kinds)))]
    faults = [_fault(kind, random, seconds=seconds, longest=longest) for kind in chosen]
    faults += [
        Fault(at=part * seconds, kind=kind, seconds=0.0, pick=0)
        for kind, part in _FIXED.items()
        if kind not in without
    ]
    return sorted(faults, key=lambda fault: fault.at)


def _fault(kind: FaultKind, random: Random, *, seconds: float, longest: float) -> Fault:
    begin = _STRIPE_FROM if kind in _STRIPE else 0.0
    return Fault(
        at=random.uniform(begin, _UNTIL) * seconds,
        kind=kind,
        # Short ones are more frequent, as they are in life.
        seconds=0.2 + (max(longest, 0.2) - 0.2) * random.random() ** 2,
        pick=random.randrange(1 << 16),
    )
