"""What people see of a row's values: headings in words, dollars, times to the minute, states in colour.

Rows are as `--json` prints them: amounts in cents (`…_cents`), times in ISO 8601. Their names tell which is which.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from metering.core.money import dollars_text
from metering.server.terminal.layout import Laid

# Words that a name alone does not give.
_HEADINGS = {
    "usd_cents": "Exact",
    "exact_usd_cents": "Exact",
    "cost_usd_cents": "Final",
    "accrued_usd_cents": "Accrued",
    "prepaid_usd_cents": "Prepaid",
    "carried_in_usd_cents": "Carried from previous",
    "remainder_usd_cents": "Carried to next",
    "new_usd_cents": "New",
    "would_cost_usd_cents": "Would cost",
    "cents": "Amount",
    "stream_count": "Streams",
    "accruing_stream_count": "Accruing",
    "input_tokens": "Input",
    "cache_read_input_tokens": "Cached",
    "output_tokens": "Output",
    "reasoning_output_tokens": "Reasoning",
    "usd_per_million": "USD per million",
    "of": "Watches",
    "why": "Reason",
    "what": "What",
    "from": "From",
    "at": "At",
    "stripe_url": "Stripe page",
    "lsn": "LSN",
}
_ABBREVIATIONS = {"api": "API", "id": "ID", "url": "URL", "usd": "USD"}
# Things whose id is their name to people.
_NAMED_BY_ID = {"customer", "stream", "invoice", "stripe_customer", "stripe_invoice"}
_TIMES = {"at", "since", "effective_from", "start"}
_STATES = {"state", "status", "result", "outcome", "enabled", "repaired", "checked"}
# Values that are shown as words: no command takes them.
_WORDY_NAMES = {"unit", "of"}
_MIDNIGHT = " 00:00"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_GREEN, _YELLOW, _RED, _DIM = "32", "33", "31", "2"
_WORDS_OF_COLOUR = {
    _GREEN: "ok final finalized paid active completed delivered closed pushed yes",
    _YELLOW: "open ended deferred pending orphaned unpriced unmeasured misdated unlinked cancelled abandoned"
    " timed_out warning note",
    _RED: "FAILED WRONG failed stuck conflicting refused expired unknown uncollectible void no",
    _DIM: "revoked default skipped",
}
_COLOURS = {word: code for code, words in _WORDS_OF_COLOUR.items() for word in words.split()}


def dollars(cents: Decimal) -> str:
    """Cents as dollars, with every digit."""
    return dollars_text(cents)


def dollars_or_none(cents: str | None) -> str | None:
    """The same of an amount as JSON has it; None if it is unknown."""
    return None if cents is None else dollars(Decimal(cents))


def moment(value: str | datetime) -> str:
    """A time in UTC, to the minute.

    >>> moment("2026-11-28T18:52:21+00:00")
    '2026-11-28 18:52'
    """
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    at = at.astimezone(UTC)
    return "the beginning" if at == _BEGINNING else at.strftime("%Y-%m-%d %H:%M")


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a kind are shown."""

    text: Callable[[Any], str]
    right: bool = False
    coloured: bool = False
    unit: str = ""


def _words(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(map(_words, value))
        case dict():
            return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    return str(value)


_MONEY = Kind(lambda value: dollars(Decimal(value)), right=True)
_TIME = Kind(moment, unit=" (UTC)")
_STATE = Kind(lambda value: _words(value).replace("_", " "), coloured=True)
_NUMBER = Kind(_words, right=True)
# Numbers that are written as text, since JSON has no exact ones.
_PLAIN_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_WORDY = Kind(lambda value: "cents" if value == "usd_cents" else _words(value).replace("_", " "))
_TEXT = Kind(_words)


def kind_of(name: str, values: Sequence[Any]) -> Kind:
    """The kind of the values that rows have under a name."""
    if name == "cents" or name.endswith("_cents"):
        return _MONEY
    if name in _TIMES or name.endswith("_at"):
        return _TIME
    if name in _STATES:
        return _STATE
    if name in _WORDY_NAMES:
        return _WORDY
    return _NUMBER if all(map(_is_number, values)) else _TEXT


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _PLAIN_NUMBER.fullmatch(value) is not None
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def heading_of(name: str) -> str:
    """The name of a value in words.

    >>> heading_of("billed_cents"), heading_of("customer_id"), heading_of("created_at"), heading_of("alert_id")
    ('Billed', 'Customer', 'Created', 'Alert ID')
    """
    if name in _HEADINGS:
        return _HEADINGS[name]
    short = re.sub(r"(?<=.)(_usd_cents|_cents|_at)$", "", name)
    if short.endswith("_id") and short.removesuffix("_id") in _NAMED_BY_ID:
        short = short.removesuffix("_id")
    first, *rest = (_ABBREVIATIONS.get(word, word) for word in short.split("_"))
    return " ".join([first if first.isupper() else first.capitalize(), *rest])


@dataclass(frozen=True, slots=True)
class Shown:
    """A column for people; `values` are as in the rows."""

    name: str
    laid: Laid
    coloured: bool


def shown_columns(rows: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """The columns of rows, without those in which no row has a value."""
    found = []
    for name in rows[0]:
        present = [row[name] for row in rows if row[name] not in (None, "")]
        if not present:
            continue
        kind = kind_of(name, present)
        texts = ["" if row[name] in (None, "") else printable(kind.text(row[name])) for row in rows]
        if kind is _MONEY:
            texts = aligned(texts)
        if kind is _TIME and all(text.endswith(_MIDNIGHT) for text in texts if text):
            texts = [text.removesuffix(_MIDNIGHT) for text in texts]
        found.append(Shown(name, Laid(heading_of(name) + kind.unit, texts, kind.right), kind.coloured))
    return found


def aligned(texts: Sequence[str]) -> list[str]:
    """Amounts with spaces behind them, so that their points stand below each other."""
    after = [len(text.partition(".")[2]) for text in texts]
    most = max(after)
    return [text + " " * (most - count) if text else text for text, count in zip(texts, after, strict=True)]


def printable(text: str) -> str:
    """The text without anything that a terminal would obey: ids and names are whatever was posted.

    >>> printable("a\\x1b[2J")
    'a\\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def colour_of(state: str) -> str | None:
    """The code of a state's colour on a terminal; None for a state that is neither good nor bad."""
    return _COLOURS.get(state.replace(" ", "_"))
