"""The usage that an upstream reports: found anywhere, joined over the whole answer, and nested as ours is.

Three steps, all pure: `usage_parts` reads a document, `join_parts` joins what was read (in any order), and
`counters` decides what includes what, and gives the counters of `metering.events.usage`.
"""

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import combinations
from typing import Any

from metering.answers.usage_names import (
    BARE_INPUT,
    CACHE_BESIDE_INPUT,
    COUNTS,
    HIDDEN_REASONING,
    MODALITIES,
    MODALITY_LISTS,
    OUTSIDE_TOTAL,
    REASONING_BESIDE,
    SECONDS,
    TICKS_PER_USD,
    USD,
    USD_TICKS,
    Path,
)

# A count, or an exact decimal for seconds and US dollars.
Amount = int | Decimal
Parts = Mapping[str, Amount]

MAX_COUNT = 9_007_199_254_740_991
_MAX_DECIMAL = Decimal(1_000_000_000)
_THOUSANDTH = Decimal("0.001")
_PICODOLLAR = Decimal("0.000000000001")

_USAGE_NAMES = frozenset({"usage", "usageMetadata", "usage_metadata", "usage_info"})
_HOLDERS = frozenset({"x_groq", "message", "response", "result"})

# Counters that go into the usage under another name than their part.
_COUNTER_OF_PART = {
    "reasoning": "reasoning_output_tokens",
    "citation": "citation_output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_write_input_tokens",
    "cache_write_1h": "cache_write_1h_input_tokens",
    "cache_read_audio": "cache_read_input_audio_tokens",
    "cache_read_image": "cache_read_input_image_tokens",
    "input_audio": "input_audio_tokens",
    "input_image": "input_image_tokens",
    "input_video": "input_video_tokens",
    "output_audio": "output_audio_tokens",
    "output_image": "output_image_tokens",
    "output_video": "output_video_tokens",
}
_AS_NAMED = (
    "web_searches",
    "storage_searches",
    "input_audio_seconds",
    "audio_seconds",
    "input_characters",
    "input_document_pages",
    "input_annotated_document_pages",
    "input_text_messages",
    "upstream_cost_usd",
)


def usage_objects(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All usage objects of a chunk or a whole completion, wherever the upstream puts them."""
    found: list[Mapping[str, Any]] = [
        document[name] for name in _USAGE_NAMES.intersection(document) if isinstance(document[name], dict)
    ]
    for holder in _HOLDERS.intersection(document):
        inner = document[holder]
        if isinstance(inner, dict):
            found += [inner[name] for name in _USAGE_NAMES if isinstance(inner.get(name), dict)]
    choices = document.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            for place in (choice, choice.get("delta"), choice.get("message")):
                if isinstance(place, dict) and isinstance(place.get("usage"), dict):
                    found.append(place["usage"])
    if "eval_count" in document or "prompt_eval_count" in document:
        found.append(document)
    return found


def usage_parts(document: Mapping[str, Any]) -> Parts:
    """The parts that a document reports, joined over all its usage objects; empty without any."""
    joined: Parts = {}
    for usage in usage_objects(document):
        joined = join_parts(joined, _read(usage))
    return joined


def join_parts(one: Parts, other: Parts) -> Parts:
    """The larger of each part: a later 0, or a part that is missing, takes nothing away."""
    if not one:
        return other
    return {**one, **{name: max(amount, one.get(name, amount)) for name, amount in other.items()}}


def counters(parts: Parts, *, provider: str) -> dict[str, Amount]:
    """The counters of `metering.events.usage`, of which input includes the cache and output the reasoning."""
    known = _with_sums(parts)
    _nest(known, provider.lower())
    found: dict[str, Amount] = {}
    for part, counter in (("input", "input_tokens"), ("output", "output_tokens"), *_COUNTER_OF_PART.items()):
        if part in known:
            found[counter] = known[part]
    found.update({name: known[name] for name in _AS_NAMED if name in known})
    return found


def _with_sums(parts: Parts) -> dict[str, Amount]:
    """The parts, with input, output and cache writes made of the names that count them piecewise."""
    known = dict(parts)
    pieces = known.get("cache_write_5m", 0) + known.get("cache_write_1h", 0)
    if pieces:
        known["cache_write"] = max(known.get("cache_write", 0), pieces)
    cache = known.get("cache_read", 0) + known.get("cache_write", 0)
    if "fresh_input" in known:
        known["input"] = max(known.get("input", 0), known["fresh_input"] + cache)
    if "cache_miss" in known:
        known["input"] = max(known.get("input", 0), known["cache_miss"] + known.get("cache_read", 0))
    if known.get("tool_input") and "input" in known:
        known["input"] += known["tool_input"]
    if "whole_output" in known:
        known["output"] = max(known.get("output", 0), known["whole_output"])
    if "candidates" in known or "thoughts" in known:
        thoughts = known.get("thoughts", 0)
        known["output"] = max(known.get("output", 0), known.get("candidates", 0) + thoughts)
        if "thoughts" in known:
            known["reasoning"] = max(known.get("reasoning", 0), thoughts)
    return known


def _nest(known: dict[str, Amount], provider: str) -> None:
    """Add the parts that the upstream reports beside input or output, and not within."""
    if "input" not in known and "output" not in known:
        return
    beside: set[str] | None
    if provider in OUTSIDE_TOTAL:
        beside = {name for name in ("reasoning", "citation") if name in known}
    else:
        beside = _shown_by_total(known, provider)
        if beside is None:
            is_whole = "whole_output" in known or provider not in REASONING_BESIDE
            beside = set() if is_whole else {"reasoning"}
    if known.get("reasoning", 0) > known.get("output", 0) and "thoughts" not in known:
        beside.add("reasoning")
    if "fresh_input" not in known and _cache(known) > known.get("input", 0):
        beside |= {"cache_read", "cache_write"}
    for name in ("cache_read", "cache_write"):
        if name in beside and "input" in known:
            known["input"] += known.get(name, 0)
    for name in ("reasoning", "citation"):
        if name in beside and "output" in known:
            known["output"] += known.get(name, 0)


def _shown_by_total(known: dict[str, Amount], provider: str) -> set[str] | None:
    """What stands beside input and output by the reported total; None if the total does not show it."""
    if not all(name in known for name in ("input", "output", "total")):
        return None
    rest = known["total"] - known["input"] - known["output"]
    if rest < 0:
        return None
    if rest == 0:
        return set()
    candidates = [name for name in ("reasoning", "cache_read", "cache_write", "citation") if known.get(name)]
    for size in range(1, len(candidates) + 1):
        for chosen in combinations(candidates, size):
            if sum(known[name] for name in chosen) == rest:
                return set(chosen)
    if provider in HIDDEN_REASONING and "fresh_input" not in known and not known.get("reasoning"):
        known["reasoning"] = rest
        return {"reasoning"}
    return {"reasoning"} if 0 < known.get("reasoning", 0) <= rest else None


def _cache(known: Mapping[str, Amount]) -> Amount:
    return known.get("cache_read", 0) + known.get("cache_write", 0)


_PART_OF_PATH = {path: part for part, paths in COUNTS.items() for path in paths}
_SECONDS_OF_PATH = {path: part for part, paths in SECONDS.items() for path in paths}
_GROUPS = frozenset(
    path[:depth] for path in (*_PART_OF_PATH, *_SECONDS_OF_PATH, *USD) for depth in range(1, len(path))
)


def _read(usage: Mapping[str, Any]) -> Parts:
    parts: dict[str, Amount] = {}
    has_input = any(path[0] in usage for path in COUNTS["input"])
    bare_input = "input" if has_input or CACHE_BESIDE_INPUT.isdisjoint(usage) else "fresh_input"
    for path, value in _values(usage, ()):
        if path in BARE_INPUT:
            _note(parts, bare_input, read_count(value))
        elif path in _PART_OF_PATH:
            _note(parts, _PART_OF_PATH[path], read_count(value))
        elif path in _SECONDS_OF_PATH:
            _note(parts, _SECONDS_OF_PATH[path], _decimal(value, _THOUSANDTH))
        elif path in USD:
            _note(parts, "upstream_cost_usd", _decimal(value, _PICODOLLAR))
        elif path in USD_TICKS and (ticks := read_count(value)) is not None:
            _note(parts, "upstream_cost_usd", Decimal(ticks) / TICKS_PER_USD)
    for name, prefix in MODALITY_LISTS.items():
        _note_modalities(parts, usage.get(name), prefix)
    return parts


def _values(group: Mapping[str, Any], above: Path) -> Iterator[tuple[Path, object]]:
    """The values of a usage object by their paths, of the groups that can hold a known name."""
    for name, value in group.items():
        path = (*above, name)
        if isinstance(value, dict):
            if path in _GROUPS:
                yield from _values(value, path)
        else:
            yield path, value


def _note(parts: dict[str, Amount], part: str, amount: Amount | None) -> None:
    if amount is not None and amount >= parts.get(part, 0):
        parts[part] = amount


def _note_modalities(parts: dict[str, Amount], details: object, prefix: str) -> None:
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        modality = MODALITIES.get(str(detail.get("modality")).upper())
        count = read_count(detail.get("tokenCount", detail.get("token_count")))
        if modality is not None and count is not None:
            parts[prefix + modality] = parts.get(prefix + modality, 0) + count


def read_count(value: object) -> int | None:
    """A whole number within the contract's bounds, also where it is written as 40.0 or "40"; else None."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 16:
        value = int(value)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None


def _decimal(value: object, step: Decimal) -> Decimal | None:
    """An amount to the given step, as the upstream wrote it; None if it is no usable number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
        return amount.quantize(step).normalize() + 0 if 0 <= amount <= _MAX_DECIMAL else None
    except InvalidOperation:
        return None
