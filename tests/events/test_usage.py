"""Usage: counters that are known or unknown, and what fills those that are unknown."""

from hypothesis import given
from hypothesis import strategies as st

from metering.events.usage import COUNTER_OF_KIND, COUNTERS, NESTED_KINDS, Usage, UsageKind

COUNT = st.none() | st.integers(0, 2**53 - 1)
USAGES = st.builds(Usage, **dict.fromkeys(COUNTERS, COUNT))


@given(USAGES, COUNT, COUNT, COUNT)
def test_only_what_is_unknown_is_filled(
    usage: Usage, input_tokens: int | None, output_tokens: int | None, reasoning: int | None
) -> None:
    filled = usage.filled(
        input_tokens=input_tokens, output_tokens=output_tokens, reasoning_output_tokens=reasoning
    )
    given_counts = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "reasoning_output_tokens": reasoning,
    }
    for name in COUNTERS:
        known = getattr(usage, name)
        assert getattr(filled, name) == (known if known is not None else given_counts.get(name))


@given(USAGES)
def test_the_known_counters_are_those_that_are_not_unknown(usage: Usage) -> None:
    assert usage.known() == {
        name: count for name, count in zip(COUNTERS, usage.counts(), strict=True) if count is not None
    }
    assert Usage(**usage.known()) == usage


@given(USAGES)
def test_each_kind_of_tokens_has_a_counter_of_its_own(usage: Usage) -> None:
    assert set(COUNTER_OF_KIND) == set(UsageKind) - {UsageKind.REQUEST}
    assert sorted(COUNTER_OF_KIND.values()) == sorted(COUNTERS)
    for kind, name in COUNTER_OF_KIND.items():
        assert usage.count(kind) == getattr(usage, name)


def test_every_nested_kind_has_one_parent() -> None:
    nested = [kind for kinds in NESTED_KINDS.values() for kind in kinds]
    assert len(nested) == len(set(nested))
    assert set(nested) | set(NESTED_KINDS) | {UsageKind.REQUEST} == set(UsageKind)
