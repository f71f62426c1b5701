"""Match model names: the name clauses of rate cards, and the spellings that gateways use."""

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from metering.core.errors import MeteringError

# A name clause as the genai-prices catalogue writes it: {"equals": "x"}, {"starts_with": "x"}, {"regex": "x"},
# {"or": [clause, ...]} and so on. It is plain data, so that it can be stored with the card.
NameClause = Mapping[str, Any]


class UnknownClauseError(MeteringError):
    """The catalogue has a kind of name clause that this version cannot read."""


_COMPACT_DATE = re.compile(r"-(20\d{2})(\d{2})(\d{2})(?=-|:|$)")


def matching_rule(clause: NameClause, name: str) -> str | None:
    """The part of a name clause that `name` matches, such as `starts_with gpt-5`; None if it does not match.

    `name` is in lower case; clauses compare in lower case.

    Raises:
        ValueError: the clause has an unknown operator.
    """
    ((operator, operand),) = clause.items()
    match operator, operand:
        case "or", [*clauses]:
            return next((rule for inner in clauses if (rule := matching_rule(inner, name))), None)
        case "and", [*clauses]:
            rules = [matching_rule(inner, name) for inner in clauses]
            return None if None in rules else " and ".join(rule for rule in rules if rule)
        case _, str(text):
            return f"{operator} {text}" if _satisfies(operator, text, name) else None
    raise ValueError(f"unknown name clause {operator!r}")


def names_in(clause: NameClause) -> Iterator[str]:
    """The names and parts of names in a clause, without its regular expressions."""
    ((operator, operand),) = clause.items()
    if isinstance(operand, list):
        for inner in operand:
            yield from names_in(inner)
    elif operator != "regex":
        yield operand


def _satisfies(operator: str, text: str, name: str) -> bool:
    match operator:
        case "equals":
            return name == text.lower()
        case "starts_with":
            return name.startswith(text.lower())
        case "ends_with":
            return name.endswith(text.lower())
        case "contains":
            return text.lower() in name
        case "regex":
            return re.search(text, name) is not None
    raise ValueError(f"unknown name clause {operator!r}")


def spellings(name: str) -> Iterator[str]:
    """A model's name as it is written, then with a compact date expanded: `-20260131` to `-2026-01-31`.

    LiteLLM and OpenRouter write compact dates, the catalogue mostly dates with dashes (genai_prices.types,
    `_normalize_compact_dated_ref`).
    """
    yield name
    dashed = _COMPACT_DATE.sub(_dashed, name)
    if dashed != name:
        yield dashed


def _dashed(found: re.Match[str]) -> str:
    year, month, day = (int(part) for part in found.groups())
    try:
        date(year, month, day)
    except ValueError:
        return found[0]
    return f"-{year:04d}-{month:02d}-{day:02d}"
