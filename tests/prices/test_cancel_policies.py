"""Cancel policies: what they waive, and which is in force for a provider."""

from datetime import UTC, datetime, timedelta

import pytest

from metering.events.events import Outcome
from metering.prices.cancel_policies import CancelPolicy, CancelPolicyBook, CancelTerms

T0 = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize("outcome", Outcome)
def test_only_zero_waives_and_never_what_completed(outcome: Outcome) -> None:
    assert CancelPolicy.ZERO.waives(outcome) == (outcome is not Outcome.COMPLETED)
    assert not CancelPolicy.DELIVERED.waives(outcome)
    assert not CancelPolicy.DRAIN.waives(outcome)


def test_a_policy_is_its_providers_from_its_moment_until_the_next() -> None:
    def terms(policy: CancelPolicy, version: int, days: int, provider: str = "openai") -> CancelTerms:
        since = T0 + timedelta(days=days)
        return CancelTerms(provider=provider, policy=policy, version=version, effective_from=since)

    # Set later, for an earlier moment: versions count the setting, moments decide.
    book = CancelPolicyBook([terms(CancelPolicy.ZERO, 1, 5), terms(CancelPolicy.DRAIN, 2, 0)])
    assert book.find(provider="OpenAI", at=T0) == (CancelPolicy.DRAIN, 2)
    assert book.find(provider="openai", at=T0 + timedelta(days=5)) == (CancelPolicy.ZERO, 1)
    assert book.find(provider="openai", at=T0 - timedelta(seconds=1)) == (CancelPolicy.DELIVERED, 0)
    assert book.find(provider="anthropic", at=T0) == (CancelPolicy.DELIVERED, 0)
