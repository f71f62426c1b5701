"""The usage that a stream ends with: the provider's where it can be believed, else what the gateway counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from metering.answers.usage import Amount
from metering.events.events import UsageSource
from metering.events.usage import Usage

_COST = "upstream_cost_usd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The gateway's own count. `source` tells a count from an estimate. None: it has not counted that.

    `no_output`: the answer has no output tokens, whatever it is.
    """

    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int
    source: UsageSource
    has_unreadable: bool = False
    no_output: bool = False
    input_characters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndUsage:
    """`counters` is None if there is nothing to bill; `disbelieved` if the provider's report is not used as is."""

    counters: Mapping[str, Amount] | None
    source: UsageSource | None
    disbelieved: bool = False

    def as_usage(self) -> Usage | None:
        """The counters, without the upstream's cost."""
        if self.counters is None:
            return None
        counts: dict[str, Any] = {name: value for name, value in self.counters.items() if name != _COST}
        return Usage(**counts)

    @property
    def upstream_cost_usd(self) -> Decimal | None:
        """What the upstream says that it cost; it stands beside a usage only."""
        return None if self.counters is None or _COST not in self.counters else Decimal(self.counters[_COST])


def end_usage(*, reported: Mapping[str, Amount], is_current: bool, counted: Counted, completed: bool) -> EndUsage:
    """Choose between the provider's report and the gateway's count.

    A report is believed if it has input and output, and no output followed it (`is_current`). One without output
    is believed only where the gateway saw none either, or has counted nothing. Of any other report, the parts that
    can be right are used, and output is the larger of both counts, because a provider's running count never falls.
    """
    input_tokens, output_tokens = reported.get("input_tokens", 0), reported.get("output_tokens", 0)
    entered, left = counted.input_tokens, counted.output_tokens
    if not completed and not input_tokens and not output_tokens and not left:
        return EndUsage(counters=None, source=None)
    if counted.no_output and input_tokens:
        return EndUsage(counters={"output_tokens": 0, **reported}, source=UsageSource.PROVIDER)
    if reported and entered is None and left is None:
        return EndUsage(counters=reported, source=UsageSource.PROVIDER)
    output_is_right = is_current if output_tokens else "output_tokens" in reported and not left
    if input_tokens and output_is_right:
        return EndUsage(counters=reported, source=UsageSource.PROVIDER)
    mixed: dict[str, Amount] = dict(reported)
    if counted.input_characters is not None:
        mixed.setdefault("input_characters", counted.input_characters)
    cache = reported.get("cache_read_input_tokens", 0) + reported.get("cache_write_input_tokens", 0)
    if not input_tokens and (entered is not None or cache):
        mixed["input_tokens"] = max(entered or 0, cache)
    if not output_is_right and (left is not None or output_tokens):
        mixed["output_tokens"] = max(left or 0, output_tokens)
        reasoning = max(counted.reasoning_tokens, reported.get("reasoning_output_tokens", 0))
        if reasoning:
            mixed["reasoning_output_tokens"] = reasoning
    if not mixed:
        return EndUsage(counters=None, source=None)
    # The provider's own numbers, with the tokens that followed them counted here, are no estimate.
    is_provider_and_more = bool(input_tokens and output_tokens) and not counted.has_unreadable
    return EndUsage(
        counters=mixed,
        source=UsageSource.GATEWAY_COUNT if is_provider_and_more else counted.source,
        disbelieved=bool(reported),
    )
