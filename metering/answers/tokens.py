"""Token counts: the vocabulary of a model, and the tokens of an answer as it streams.

The vocabularies are 75 MB and come with the extras `gateway` and `count`. Without them, tokens are estimated.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

try:
    import bpe_openai
except ImportError:
    bpe_openai = None

from metering.answers.json_reading import repaired
from metering.events.events import UsageSource

# The longest prefix decides. Other models are counted approximately, with o200k_base.
_ENCODINGS = {
    "gpt-3.5": "cl100k_base",
    "gpt-35": "cl100k_base",
    "gpt-4": "cl100k_base",
    "gpt-4o": "o200k_base",
    "gpt-4.1": "o200k_base",
    "gpt-4.5": "o200k_base",
    "gpt-5": "o200k_base",
    "gpt-oss": "o200k_base",
    "chatgpt-4o": "o200k_base",
    "o1": "o200k_base",
    "o3": "o200k_base",
    "o4": "o200k_base",
}
_FALLBACK = "o200k_base"

# The encoder refuses more than 200,000 tokens at once, and a character has four tokens at most.
_SLICE_CHARACTERS = 40_000
_BYTES_PER_TOKEN = 4


class TokenCounter(Protocol):
    """Counts the tokens of a text; `source` tells a count from an estimate."""

    @property
    def source(self) -> UsageSource: ...

    def count(self, text: str) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BpeCounter:
    """A counter with one of OpenAI's vocabularies, which are in the package: no network."""

    encoding: str
    source: UsageSource

    def count(self, text: str) -> int:
        encoding = _load(self.encoding)
        text = repaired(text)
        slices = range(0, len(text), _SLICE_CHARACTERS)
        return sum(len(encoding.encode_ordinary(text[at : at + _SLICE_CHARACTERS])) for at in slices)


@dataclass(frozen=True, slots=True)
class LengthCounter:
    """Estimates a token per four bytes of UTF-8, where no vocabulary is installed."""

    source: UsageSource = UsageSource.ESTIMATE

    def count(self, text: str) -> int:
        return -(-len(repaired(text).encode()) // _BYTES_PER_TOKEN)


def counter_for(*, model: str) -> TokenCounter:
    """A counter with the model's own vocabulary if it is OpenAI's and installed, else one that estimates."""
    if bpe_openai is None:
        return LengthCounter()
    name = model.removeprefix("openai/").lower()
    prefixes = [prefix for prefix in _ENCODINGS if name.startswith(prefix)]
    if not prefixes:
        return BpeCounter(encoding=_FALLBACK, source=UsageSource.ESTIMATE)
    return BpeCounter(encoding=_ENCODINGS[max(prefixes, key=len)], source=UsageSource.GATEWAY_COUNT)


def warm_up() -> None:
    """Load the most used vocabulary, which takes half a second, before the first request."""
    if bpe_openai is not None:
        _load(_FALLBACK)


@cache
def _load(name: str) -> Any:
    return bpe_openai.get_encoding(name)


# The tail of a lane keeps about this many characters; the text before it is counted once and dropped.
_TAIL_CHARACTERS = 400
# More parallel texts than a real answer has; further ones share one lane.
_MAX_LANES = 1_024


@dataclass(slots=True)
class _Lane:
    counted_tokens: int = 0
    tail: str = ""
    tail_tokens: int = 0
    tail_changed: bool = False


@dataclass(slots=True, kw_only=True)
class OutputCount:
    """Counts the tokens of an answer while it streams; each choice, field and tool call is a separate text.

    Upstreams cut text anywhere, so that encoding each piece by itself would count too much. The tail of each text
    is encoded as a whole, and the text before it is counted once. A look at the count encodes at most 800
    characters per text, and the count is off by at most one token in 400 characters.
    """

    counter: TokenCounter
    _lanes: dict[tuple[object, ...], _Lane] = field(default_factory=dict)

    def add(self, *, lane: tuple[object, ...], text: str) -> None:
        """Append to the text of a lane, whose first element is True for reasoning."""
        if lane not in self._lanes and len(self._lanes) >= _MAX_LANES:
            lane = (lane[0], "rest")
        state = self._lanes.setdefault(lane, _Lane())
        state.tail += text
        state.tail_changed = True
        if len(state.tail) > 2 * _TAIL_CHARACTERS:
            cut = _word_start(state.tail, len(state.tail) - _TAIL_CHARACTERS)
            state.counted_tokens += self.counter.count(state.tail[:cut])
            state.tail = state.tail[cut:]

    def counts(self) -> tuple[int, int]:
        """All output tokens so far, and those of visible reasoning among them."""
        output = reasoning = 0
        for key, lane in self._lanes.items():
            if lane.tail_changed:
                self._count_tail(lane)
            tokens = lane.counted_tokens + lane.tail_tokens
            output += tokens
            if key[0]:
                reasoning += tokens
        return output, reasoning

    def _count_tail(self, lane: _Lane) -> None:
        lane.tail_tokens = self.counter.count(lane.tail)
        lane.tail_changed = False


def _word_start(text: str, near: int) -> int:
    """The last start of a word before `near`, which no token spans; else `near`."""
    at = text.rfind(" ", 1, near)
    while at > 1 and text[at - 1].isspace():
        at -= 1
    return at if at > 0 else near
