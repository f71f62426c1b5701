"""Behaviours that differ in the usage they report: its place, its names, its nesting, and its truth."""

from typing import Any

from tests.gateway.hostile.behaviours import (
    DONE,
    PROMPT,
    TOKENS,
    WORDS,
    Behaviour,
    Expected,
    Step,
    Write,
    by_provider,
    counted,
    document,
    event,
    finish,
    openai_usage,
    usage_chunk,
    words,
)

_GOOD = openai_usage()
_RIGHT = by_provider()


def _at(name: str, *after_words: Step, before: tuple[Step, ...] = ()) -> Behaviour:
    """A usage that is right, at an odd place."""
    return Behaviour(f"place-{name}", [*before, *words(), *after_words], _RIGHT)


def _in_every_chunk() -> list[Step]:
    return [
        Write(event({**document({"content": word}), "usage": openai_usage(PROMPT, at + 1)}), 1)
        for at, word in enumerate(WORDS)
    ]


PLACES = [
    _at("own-chunk", finish(), usage_chunk(_GOOD), DONE),
    _at("choices-null", finish(), usage_chunk(_GOOD, choices=None), DONE),
    _at("no-choices", finish(), Write(event({"id": "x", "usage": _GOOD})), DONE),
    _at("finish-chunk", finish(usage=_GOOD), DONE),
    _at("x-groq", finish(x_groq={"id": "req", "usage": _GOOD}), DONE),
    _at("x-groq-own-chunk", finish(), Write(event({"choices": [], "x_groq": {"usage": _GOOD}})), DONE),
    _at("choice", finish(choice={"usage": _GOOD}), DONE),
    _at("delta", Write(event(document({"usage": _GOOD}, finish="stop"))), DONE),
    _at("after-done", finish(), DONE, usage_chunk(_GOOD)),
    _at("before-finish", usage_chunk(_GOOD), finish(), DONE),
    _at("twice", finish(usage=_GOOD), usage_chunk(_GOOD), DONE),
    _at("then-zero", finish(), usage_chunk(_GOOD), usage_chunk(openai_usage(0, 0)), DONE),
    _at("then-null", finish(), usage_chunk(_GOOD), usage_chunk(None), DONE),
    _at("then-empty", finish(), usage_chunk(_GOOD), usage_chunk({}), DONE),
    _at("without-done", finish(), usage_chunk(_GOOD)),
    _at("null-everywhere", finish(usage=None), usage_chunk(_GOOD), DONE).but(
        steps=[*words(usage=None), finish(usage=None), usage_chunk(_GOOD), DONE]
    ),
    _at("every-chunk", DONE).but(steps=[*_in_every_chunk(), finish(usage=_GOOD), DONE]),
    _at("zero-in-every-chunk").but(
        steps=[*words(usage=openai_usage(0, 0)), finish(usage=openai_usage(0, 0)), usage_chunk(_GOOD), DONE]
    ),
    _at(
        "first-and-last",
        finish(),
        usage_chunk({"completion_tokens": TOKENS}),
        DONE,
        before=(usage_chunk({"prompt_tokens": PROMPT, "completion_tokens": 1}),),
    ),
]


def _named(name: str, usage: dict[str, Any], model: str = "gpt-4o", **expected: Any) -> Behaviour:
    """A usage in a vendor's words."""
    steps = [*words(), finish(), usage_chunk(usage), DONE]
    return Behaviour(f"names-{name}", steps, by_provider(**expected), model=model)


_DETAILS = {"prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 4, "audio_tokens": 3}}
_REASONS = {"completion_tokens_details": {"reasoning_tokens": 500}}
_WITH_REASONING = {"output_tokens": TOKENS + 500, "reasoning_output_tokens": 500}

NAMES = [
    _named(
        "openai",
        openai_usage(PROMPT, TOKENS, **_DETAILS),
        cache_read_input_tokens=8,
        cache_write_input_tokens=4,
        input_audio_tokens=3,
    ),
    _named("floats", {"prompt_tokens": float(PROMPT), "completion_tokens": float(TOKENS)}),
    _named("strings", {"prompt_tokens": str(PROMPT), "completion_tokens": str(TOKENS)}),
    _named(
        "deepseek",
        openai_usage(prompt_cache_hit_tokens=8, prompt_cache_miss_tokens=PROMPT - 8),
        cache_read_input_tokens=8,
    ),
    _named("cached-top", openai_usage(cached_tokens=8), cache_read_input_tokens=8),
    _named(
        "cached-twice",
        openai_usage(cached_tokens=8, prompt_tokens_details={"cached_tokens": 8}),
        cache_read_input_tokens=8,
    ),
    _named(
        "litellm-cache",
        openai_usage(cache_read_input_tokens=8, cache_creation_input_tokens=2),
        cache_read_input_tokens=8,
        cache_write_input_tokens=2,
    ),
    _named(
        "anthropic",
        {"input_tokens": 5, "output_tokens": TOKENS, "cache_read_input_tokens": PROMPT - 5},
        "claude",
        cache_read_input_tokens=PROMPT - 5,
    ),
    _named(
        "anthropic-writes",
        {
            "input_tokens": 1,
            "output_tokens": TOKENS,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": PROMPT - 1,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": PROMPT - 1},
        },
        "claude",
        cache_read_input_tokens=0,
        cache_write_input_tokens=PROMPT - 1,
        cache_write_1h_input_tokens=PROMPT - 1,
    ),
    _named(
        "responses",
        {"input_tokens": PROMPT, "output_tokens": TOKENS, "input_tokens_details": {"cached_tokens": 8}},
        cache_read_input_tokens=8,
    ),
    _named(
        "bedrock",
        {"inputTokens": 5, "outputTokens": TOKENS, "cacheReadInputTokens": PROMPT - 5},
        "claude",
        cache_read_input_tokens=PROMPT - 5,
    ),
    _named("cohere", {"tokens": {"input_tokens": PROMPT, "output_tokens": TOKENS}}),
    _named("xai", openai_usage() | {"total_tokens": PROMPT + TOKENS + 500} | _REASONS, "grok", **_WITH_REASONING),
    _named(
        "xai-without-total",
        {"prompt_tokens": PROMPT, "completion_tokens": TOKENS} | _REASONS,
        "grok",
        **_WITH_REASONING,
    ),
    _named(
        "reasoning-beside", openai_usage() | {"total_tokens": PROMPT + TOKENS + 500} | _REASONS, **_WITH_REASONING
    ),
    _named("reasoning-within", openai_usage(PROMPT, TOKENS + 500) | _REASONS, **_WITH_REASONING),
    _named("xai-within-by-total", openai_usage(PROMPT, TOKENS + 500) | _REASONS, "grok", **_WITH_REASONING),
    _named("gemini-hidden", openai_usage() | {"total_tokens": PROMPT + TOKENS + 500}, "gemini", **_WITH_REASONING),
    _named(
        "cache-beside",
        openai_usage(5, TOKENS, prompt_tokens_details={"cached_tokens": PROMPT - 5}),
        "claude",
        cache_read_input_tokens=PROMPT - 5,
    ),
    _named("openrouter", openai_usage(cost=0.00014), upstream_cost_usd="0.00014"),
    _named("openrouter-tiny-cost", openai_usage(cost=1e-7), upstream_cost_usd="1E-7"),
    _named("unusable-detail", openai_usage(prompt_tokens_details=None, completion_tokens_details="none")),
    Behaviour(
        "names-gemini",
        [
            *words(),
            finish(),
            Write(
                event(
                    {
                        "usageMetadata": {
                            "promptTokenCount": PROMPT,
                            "candidatesTokenCount": TOKENS,
                            "thoughtsTokenCount": 500,
                            "totalTokenCount": PROMPT + TOKENS + 500,
                            "cachedContentTokenCount": 8,
                        }
                    }
                )
            ),
            DONE,
        ],
        by_provider(cache_read_input_tokens=8, **_WITH_REASONING),
        model="gemini",
    ),
]


def _doubtful(name: str, usage: Any, expected: Expected | None = None) -> Behaviour:
    """A usage that contradicts the answer."""
    steps = [*words(), finish(), usage_chunk(usage), DONE]
    return Behaviour(f"doubt-{name}", steps, expected or Expected(usage=counted()))


DOUBTS = [
    _doubtful("all-zero", openai_usage(0, 0)),
    _doubtful("zero-output", openai_usage(PROMPT, 0)),
    _doubtful(
        "zero-output-and-cache",
        openai_usage(PROMPT, 0, cached_tokens=8),
        Expected(usage=counted(cache_read_input_tokens=8)),
    ),
    _doubtful("zero-input", openai_usage(0, TOKENS)),
    _doubtful("only-prompt", {"prompt_tokens": PROMPT}),
    _doubtful("only-completion", {"completion_tokens": TOKENS}),
    _doubtful("only-total", {"total_tokens": PROMPT + TOKENS}),
    _doubtful("too-large", openai_usage(PROMPT, 2**60)),
    _doubtful("negative", openai_usage(PROMPT, -TOKENS)),
    _doubtful("fraction", openai_usage() | {"completion_tokens": 1.5}),
    _doubtful("boolean", openai_usage() | {"completion_tokens": True}),
    _doubtful("word", openai_usage() | {"completion_tokens": "many"}),
    _doubtful("null-fields", {"prompt_tokens": None, "completion_tokens": None}),
    _doubtful("list", [_GOOD]),
    _doubtful("string", "17/20"),
    _doubtful("empty", {}),
    Behaviour("doubt-none-at-all", [*words(), finish(), DONE], Expected(usage=counted())),
    Behaviour(
        "doubt-early-only",
        [usage_chunk(openai_usage(PROMPT, 1, cached_tokens=8)), *words(), finish(), DONE],
        Expected(usage=counted(cache_read_input_tokens=8)),
    ),
    Behaviour(
        "doubt-nan",
        [
            *words(),
            finish(),
            Write(b'data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":NaN}}\n\n' % PROMPT),
            DONE,
        ],
        Expected(usage=counted()),
    ),
]

BEHAVIOURS = [*PLACES, *NAMES, *DOUBTS]
