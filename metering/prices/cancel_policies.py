"""Cancel policies: what a stream that did not complete is billed for, which differs by provider."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.core.dates import histories, in_force
from metering.events.events import Outcome


class CancelPolicy(StrEnum):
    """What a stream that did not complete is billed for: the same as the provider bills.

    `DELIVERED`: the input, and the output until the stream stopped. `DRAIN`: the usage that the provider reports
    after the gateway has read its answer to the end; without a report, as `DELIVERED`. `ZERO`: nothing.
    """

    DELIVERED = "delivered"
    DRAIN = "drain"
    ZERO = "zero"

    def waives(self, outcome: Outcome) -> bool:
        """Whether a stream with this outcome costs nothing."""
        return self is CancelPolicy.ZERO and outcome is not Outcome.COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTerms:
    """A provider's policy from `effective_from` on; never changed.

    `version` numbers the provider's policies in the order in which they were set; 0 is the built-in policy.
    """

    provider: str
    policy: CancelPolicy
    version: int
    effective_from: datetime


_BUILT_IN = (CancelPolicy.DELIVERED, 0)


class CancelPolicyBook:
    """All cancel policies; finds the policy in force."""

    __slots__ = ("_histories",)

    def __init__(self, terms: Iterable[CancelTerms]) -> None:
        self._histories = histories(terms, key=lambda each: each.provider)

    def find(self, *, provider: str, at: datetime) -> tuple[CancelPolicy, int]:
        """The policy in force at `at`, and its version."""
        terms = in_force(self._histories.get(provider.strip().lower(), ()), at)
        return (terms.policy, terms.version) if terms is not None else _BUILT_IN
