"""How counters nest: a reading of counters that contradict each other, and the parts that are priced separately.

    input_tokens                          output_tokens
      cache_read_input_tokens               reasoning_output_tokens
        cache_read_input_audio_tokens *     citation_output_tokens
        cache_read_input_image_tokens *     output_audio_tokens, output_image_tokens, output_video_tokens
      cache_write_input_tokens
        cache_write_1h_input_tokens       audio_seconds
      input_audio_tokens (has * too)        input_audio_seconds
      input_image_tokens (has * too)      input_document_pages
      input_video_tokens                    input_annotated_document_pages

The tree is that of the price catalogue (genai_prices.data_units), so that its prices mean the same here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from msgspec import Struct, structs

from metering.events.usage import COUNTERS, Quantity, Usage, UsageKind

K = UsageKind


class Part(Struct, frozen=True, gc=False):
    """A part of the usage: `quantity` of `kind`, and the kinds whose rates apply where `kind` has none."""

    kind: UsageKind
    quantity: Quantity
    otherwise: Sequence[UsageKind] = ()


class Reading(Struct, frozen=True, gc=False):
    """Usage in which every nested counter fits its parent. `faults` says what did not; it is empty mostly."""

    usage: Usage
    faults: tuple[str, ...] = ()


def read_usage(usage: Usage) -> Reading:
    """The reading of the counters by which no token is lost.

    Nested counters that do not fit their parent stand beside it, as xAI counts reasoning and Anthropic counts
    cached input. Then the parent is the sum of both. A reading reads as itself.
    """
    if _fits_at_once(usage):
        return Reading(usage)
    faults: list[str] = []
    for fit in _FITS:
        usage = fit.applied_to(usage, faults)
    return Reading(usage, tuple(faults))


def _fits_at_once(usage: Usage) -> bool:
    """Whether only the five usual counters are known, and they fit: nearly always so, and quick to tell."""
    counts = usage.counts()
    entered, left, read, written, reasoning = counts[:_USUAL]
    return (
        counts[_USUAL:] == _UNKNOWN
        and (entered is None or (read or 0) + (written or 0) <= entered)
        and (left is None or (reasoning or 0) <= left)
    )


_USUAL = 5
_UNKNOWN = (None,) * (len(COUNTERS) - _USUAL)


_OF_INPUT, _OF_OUTPUT = (K.INPUT,), (K.OUTPUT,)


def parts_of(usage: Usage) -> list[Part]:
    """The usage in parts that do not overlap; none is 0. Nested counters have to fit their parents.

    A parent that is unknown is the sum of what is nested in it. If cached input and media together exceed the
    input, then what exceeds it is cached media.
    """
    counts = usage.counts()
    if counts[_USUAL:] == _UNKNOWN:
        entered, left, read, written, reasoning = counts[:_USUAL]
        parts: list[Part] = []
        if entered and (rest := entered - (read or 0) - (written or 0)):
            parts.append(Part(K.INPUT, rest))
        if read:
            parts.append(Part(K.CACHE_READ, read, _OF_INPUT))
        if written:
            parts.append(Part(K.CACHE_WRITE, written, _OF_INPUT))
        if left and (rest := left - (reasoning or 0)):
            parts.append(Part(K.OUTPUT, rest))
        if reasoning:
            parts.append(Part(K.REASONING, reasoning, _OF_OUTPUT))
        return parts
    every = (*_input_parts(usage), *_output_parts(usage), *_other_parts(usage))
    return [part for part in every if part.quantity]


def _other_parts(usage: Usage) -> Iterator[Part]:
    audio, input_audio = usage.audio_seconds, usage.input_audio_seconds or Decimal(0)
    yield Part(K.INPUT_AUDIO_SECONDS, input_audio, (K.AUDIO_SECONDS,))
    if audio is not None:
        # Where a card has only a price for input audio, the model hears and does not speak.
        yield Part(K.AUDIO_SECONDS, audio - input_audio, (K.INPUT_AUDIO_SECONDS,))
    pages, annotated = usage.input_document_pages, usage.input_annotated_document_pages or 0
    yield Part(K.INPUT_ANNOTATED_DOCUMENT_PAGES, annotated, (K.INPUT_DOCUMENT_PAGES,))
    yield Part(K.INPUT_DOCUMENT_PAGES, pages - annotated if pages is not None else 0)
    yield Part(K.INPUT_CHARACTERS, usage.input_characters or 0)
    yield Part(K.INPUT_TEXT_MESSAGES, usage.input_text_messages or 0)
    yield Part(K.WEB_SEARCHES, usage.web_searches or 0)
    yield Part(K.STORAGE_SEARCHES, usage.storage_searches or 0)


def input_size(usage: Usage) -> int:
    """The input tokens by which a card's rates are selected: as reported, or else what is known to be nested."""
    if usage.input_tokens is not None:
        return usage.input_tokens
    return sum(int(part.quantity) for part in _input_parts(usage))


def _input_parts(usage: Usage) -> list[Part]:
    cached_audio = usage.cache_read_input_audio_tokens or 0
    cached_image = usage.cache_read_input_image_tokens or 0
    read = _at_least(usage.cache_read_input_tokens, cached_audio + cached_image)
    written_1h = usage.cache_write_1h_input_tokens or 0
    written = _at_least(usage.cache_write_input_tokens, written_1h)
    audio = _at_least(usage.input_audio_tokens, cached_audio)
    image = _at_least(usage.input_image_tokens, cached_image)
    video = usage.input_video_tokens or 0
    media = {K.INPUT_AUDIO: audio - cached_audio, K.INPUT_IMAGE: image - cached_image, K.INPUT_VIDEO: video}
    cached = {K.INPUT_AUDIO: cached_audio, K.INPUT_IMAGE: cached_image}
    rest = 0
    if usage.input_tokens is not None:
        rest = usage.input_tokens - read - written - sum(media.values())
        for kind, count in media.items() if rest < 0 else ():
            # This much of the media was cached, or the whole would be less than its parts.
            both = min(-rest, count)
            media[kind], rest = count - both, rest + both
            if kind in cached:
                cached[kind] += min(both, read - sum(cached.values()))
    return [
        Part(K.INPUT, rest),
        Part(K.CACHE_READ, read - sum(cached.values()), (K.INPUT,)),
        Part(K.CACHE_READ_AUDIO, cached[K.INPUT_AUDIO], (K.CACHE_READ, K.INPUT_AUDIO, K.INPUT)),
        Part(K.CACHE_READ_IMAGE, cached[K.INPUT_IMAGE], (K.CACHE_READ, K.INPUT_IMAGE, K.INPUT)),
        Part(K.CACHE_WRITE, written - written_1h, (K.INPUT,)),
        Part(K.CACHE_WRITE_1H, written_1h, (K.CACHE_WRITE, K.INPUT)),
        *(Part(kind, count, (K.INPUT,)) for kind, count in media.items()),
    ]


def _output_parts(usage: Usage) -> list[Part]:
    reasoning, citation = usage.reasoning_output_tokens or 0, usage.citation_output_tokens or 0
    media = [
        # Media costs several times the text, so that the rate of text is never the right one.
        Part(K.OUTPUT_AUDIO, usage.output_audio_tokens or 0),
        Part(K.OUTPUT_IMAGE, usage.output_image_tokens or 0),
        Part(K.OUTPUT_VIDEO, usage.output_video_tokens or 0),
    ]
    rest = 0
    if usage.output_tokens is not None:
        rest = usage.output_tokens - reasoning - citation - sum(int(part.quantity) for part in media)
    return [
        Part(K.OUTPUT, rest),
        Part(K.REASONING, reasoning, (K.OUTPUT,)),
        Part(K.CITATION, citation, (K.OUTPUT,)),
        *media,
    ]


def _at_least(count: int | None, nested: int) -> int:
    return nested if count is None else count


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """`together` have to fit their `parent`; if they do not, those of them that are `beside` are added to it."""

    parent: str
    together: tuple[str, ...]
    beside: tuple[str, ...]

    def applied_to(self, usage: Usage, faults: list[str]) -> Usage:
        count = getattr(usage, self.parent)
        if count is None or sum(_count(usage, name) for name in self.together) <= count:
            return usage
        whole = count + sum(_count(usage, name) for name in self.beside)
        nested = " + ".join(f"{name} {_count(usage, name)}" for name in self.together if _count(usage, name))
        faults.append(f"{nested} exceeds {self.parent} {count}: read as {self.parent} {whole}")
        return structs.replace(usage, **{self.parent: whole})


def _count(usage: Usage, name: str) -> Quantity:
    count: Quantity | None = getattr(usage, name)
    return sum(getattr(usage, inner) or 0 for inner in _INNER.get(name, ())) if count is None else count


def _fit(parent: str, *together: str, beside: tuple[str, ...] | None = None) -> _Fit:
    return _Fit(parent=parent, together=together, beside=together if beside is None else beside)


_CACHED_MEDIA = ("cache_read_input_audio_tokens", "cache_read_input_image_tokens")
_OUTPUT_MEDIA = ("output_audio_tokens", "output_image_tokens", "output_video_tokens")
_THOUGHT = ("reasoning_output_tokens", "citation_output_tokens")
# What is known to be in a counter that is unknown.
_INNER = {
    "cache_write_input_tokens": ("cache_write_1h_input_tokens",),
    "cache_read_input_tokens": _CACHED_MEDIA,
    "input_audio_tokens": ("cache_read_input_audio_tokens",),
    "input_image_tokens": ("cache_read_input_image_tokens",),
}
# Inner parents first. Cached input and input media may overlap, so each of the two has to fit by itself.
_FITS = (
    *(_fit(parent, *nested) for parent, nested in _INNER.items()),
    _fit("input_tokens", "input_audio_tokens", "input_image_tokens", "input_video_tokens"),
    _fit("input_tokens", "cache_read_input_tokens", "cache_write_input_tokens"),
    _fit("output_tokens", *_OUTPUT_MEDIA),
    _fit("output_tokens", *_THOUGHT, *_OUTPUT_MEDIA, beside=_THOUGHT),
    _fit("audio_seconds", "input_audio_seconds"),
    _fit("input_document_pages", "input_annotated_document_pages"),
)
