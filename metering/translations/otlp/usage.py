"""The usage that a span reports, in the contract's counters.

The conventions say that input includes cached input, and output includes reasoning. They are taken at their word,
unless the total or the sizes show that a part stands beside (decision 56): then it is added, and no token is lost.
"""

from collections.abc import Mapping
from typing import Any

from metering.answers.usage import Amount, counters, usage_parts
from metering.translations.otlp.names import USAGE
from metering.translations.otlp.records import Attributes


def usage_of(attributes: Attributes, *, provider: str) -> Mapping[str, Amount]:
    """The counters that the attributes report; empty without any."""
    usage: dict[str, Any] = {}
    for path, names in USAGE.items():
        value = next((attributes[name] for name in names if name in attributes), None)
        if value is not None:
            *groups, name = path
            inner = usage
            for group in groups:
                inner = inner.setdefault(group, {})
            inner[name] = value
    return counters(usage_parts({"usage": usage}), provider=provider) if usage else {}
