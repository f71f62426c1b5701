"""What each stream of a client is to go through: a pure function of the seed and its number.

What becomes of it depends on what is left of its budgets at the moment: the client notes it (`clients.py`), and
`cost_of` says what the stream then costs.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from random import Random
from typing import Any

from metering.lab.chaos import oracle
from metering.lab.chaos.terms import (
    KEYS,
    LAPSED_CUSTOMER,
    OVERAGE_CUSTOMER,
    ROOMY_CUSTOMER,
    SHARED_CUSTOMERS,
    TEAMS,
)
from metering.lab.chaos.traffic import PROVIDER, Life, Story, tell

# The gateways of a run have lower numbers.
_CLIENTS = 1_000
_SLICE, _LEASE_SECONDS, _SHORT_LEASE_SECONDS = 400, 30, 1
_RAISED_SHARE = 0.03


class Plan(StrEnum):
    """How a client goes about a stream."""

    WORST_CASE = "a hold for the worst case"
    SLIDING = "a sliding hold"
    SHORT = "a hold for less than is delivered"
    UNHELD = "no hold"
    LAPSED = "the hold expires before the stream begins"
    RELEASED = "the hold is released"
    LATE = "the provider counts more after the charge is booked"
    LESS = "the provider counts less after the charge is booked, which grants paid"


_WEIGHTS = {
    Plan.WORST_CASE: 40,
    Plan.SLIDING: 40,
    Plan.SHORT: 5,
    Plan.UNHELD: 4,
    Plan.LAPSED: 0.3,
    Plan.RELEASED: 5,
    Plan.LATE: 2,
    Plan.LESS: 2,
}
_OF_ONE_CUSTOMER = {
    Plan.LAPSED: LAPSED_CUSTOMER,
    Plan.LATE: ROOMY_CUSTOMER,
    Plan.LESS: OVERAGE_CUSTOMER,
}
_CORRECTED = (Plan.LATE, Plan.LESS)


@dataclass(frozen=True, slots=True)
class Fate:
    """A stream of a client, and how the client goes about it."""

    story: Story
    plan: Plan

    @property
    def hold(self) -> dict[str, Any] | None:
        """The body of its request for a hold."""
        story = self.story
        if self.plan is Plan.UNHELD:
            return None
        most = max(story.delivered, default=0)
        if self.plan is Plan.SHORT:
            most //= 2
        asked: dict[str, Any] = {
            "customer_id": story.customer_id,
            "stream_id": story.stream_id,
            "provider": PROVIDER,
            "model": story.model,
            "input_tokens": story.input,
            "api_key_id": story.api_key_id,
            "tags": story.tags,
            "max_output_tokens": most,
            "lease_seconds": _SHORT_LEASE_SECONDS if self.plan is Plan.LAPSED else _LEASE_SECONDS,
        }
        if self.plan is Plan.SLIDING:
            asked |= {"mode": "sliding", "slice_output_tokens": _SLICE, "max_output_tokens": None}
        return asked


def fate_of(*, seed: int, number: int) -> Fate:
    """The fate of the stream with this number; the first ones go through every plan."""
    random = Random(f"fate {seed}/{number}")
    plans = list(_WEIGHTS)
    (drawn,) = random.choices(plans, list(_WEIGHTS.values()))
    is_early = number < len(plans)
    plan = plans[number] if is_early else drawn
    story = tell(seed=seed, gateway=_CLIENTS, number=number, customers=1)
    customer_id = ROOMY_CUSTOMER if is_early else random.choice(SHARED_CUSTOMERS)
    life = story.life
    if plan in (Plan.SHORT, *_CORRECTED):
        life = Life.CORRECTED if plan in _CORRECTED else Life.COMPLETED
    delivered = story.delivered or (random.randrange(2, 4_000),)
    output = delivered[-1] // 2 if plan is Plan.LESS else max(story.output, delivered[-1]) + 1
    return Fate(
        replace(
            story,
            customer_id=_OF_ONE_CUSTOMER.get(plan, customer_id),
            model="raised" if is_early or random.random() < _RAISED_SHARE else story.model,
            life=life,
            delivered=() if life is Life.FAILED else delivered,
            output=0 if life is Life.FAILED else output,
            api_key_id=random.choice((None, *KEYS)),
            team=random.choice((None, *TEAMS)),
        ),
        plan,
    )


# What became of a stream: nothing came of it, it was played to its end, or it was cut after so many counts.
REFUSED, RELEASED, PLAYED = "refused", "released", "played"
Outcome = str | int


def cost_of(fate: Fate, outcome: Outcome) -> Fraction | None:
    """What a stream costs in the end in US cents; None if there is no stream."""
    if outcome in (REFUSED, RELEASED):
        return None
    return oracle.cost(fate.story, cut_after=outcome if isinstance(outcome, int) else None)
