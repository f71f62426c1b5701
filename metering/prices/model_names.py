"""Match model names: the name clauses of rate cards, and the spellings that gateways use."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from metering.core.errors import MeteringError

# A name clause as the genai-prices catalogue writes it: {"equals": "x"}, {"starts_with": "x"}, {"regex": "x"},
# {"or": [clause, ...]} and so on. It is plain data, so that it can be stored with the card.
NameClause = Mapping[str, Any]

# From a name in lower case to the part of a clause that it matches.
Matcher = Callable[[str], str | None]


class UnknownClauseError(MeteringError):
    """The catalogue has a kind of name clause that this version cannot read."""


_COMPACT_DATE = re.compile(r"-(20\d{2})(\d{2})(\d{2})(?=-|:|$)")


def matching_rule(clause: NameClause, name: str) -> str | None:
    """The part of a name clause that `name` matches, such as `starts_with gpt-5`; None if it does not match.

    `name` is in lower case; clauses compare in lower case.

    Raises:
        ValueError: the clause has an unknown operator.
    """
    return matcher(clause)(name)


def matcher(clause: NameClause) -> Matcher:
    """`matching_rule` for one clause and many names.

    Raises:
        ValueError: the clause has an unknown operator.
    """
    ((operator, operand),) = clause.items()
    match operator, operand:
        case "or", [*clauses]:
            return _any_of([matcher(inner) for inner in clauses])
        case "and", [*clauses]:
            return _all_of([matcher(inner) for inner in clauses])
        case _, str(text):
            return _simple(operator, text)
    raise ValueError(f"unknown name clause {operator!r}")


def names_in(clause: NameClause) -> Iterator[str]:
    """The names and parts of names in a clause, without its regular expressions."""
    ((operator, operand),) = clause.items()
    if isinstance(operand, list):
        for inner in operand:
            yield from names_in(inner)
    elif operator != "regex":
        yield operand


def _any_of(matchers: Sequence[Matcher]) -> Matcher:
    def rule_of(name: str) -> str | None:
        for each in matchers:
            if (rule := each(name)) is not None:
                return rule
        return None

    return rule_of


def _all_of(matchers: Sequence[Matcher]) -> Matcher:
    def rule_of(name: str) -> str | None:
        rules = [each(name) for each in matchers]
        return None if None in rules else " and ".join(rule for rule in rules if rule)

    return rule_of


def _simple(operator: str, operand: str) -> Matcher:
    text, rule = operand.lower(), f"{operator} {operand}"
    match operator:
        case "equals":
            return lambda name: rule if name == text else None
        case "starts_with":
            return lambda name: rule if name.startswith(text) else None
        case "ends_with":
            return lambda name: rule if name.endswith(text) else None
        case "contains":
            return lambda name: rule if text in name else None
        case "regex":
            pattern = re.compile(operand)
            return lambda name: rule if pattern.search(name) else None
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
