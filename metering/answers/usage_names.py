"""The names that upstreams give to their usage, and what each one counts.

A *part* is what a name counts before it is known how the parts nest: `input` may or may not include the cache. How
they nest is decided in `usage.py`, after the parts of all usage objects of an answer are joined.
"""

Path = tuple[str, ...]

_DETAILS_OF_INPUT = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_DETAILS_OF_OUTPUT = ("completion_tokens_details", "output_tokens_details", "output_token_details")


def _within(groups: tuple[str, ...], *names: str) -> tuple[Path, ...]:
    return tuple((group, name) for group in groups for name in names)


def _top(*names: str) -> tuple[Path, ...]:
    return tuple((name,) for name in names)


# `fresh_input` never includes the cache and `candidates` never the `thoughts`; `whole_output` includes reasoning.
COUNTS: dict[str, tuple[Path, ...]] = {
    "input": (
        *_top("prompt_tokens", "promptTokens", "promptTokenCount", "prompt_token_count", "prompt_eval_count"),
        ("tokens", "input_tokens"),
        ("billed_units", "input_tokens"),
    ),
    "output": (
        *_top("completion_tokens", "completionTokens", "eval_count"),
        ("tokens", "output_tokens"),
        ("billed_units", "output_tokens"),
    ),
    "whole_output": _top("output_tokens", "outputTokens"),
    "candidates": _top("candidatesTokenCount", "candidates_token_count"),
    "thoughts": _top("thoughtsTokenCount", "thoughts_token_count"),
    "tool_input": _top("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
    "total": _top("total_tokens", "totalTokens", "totalTokenCount", "total_token_count"),
    "cache_read": (
        *_within(_DETAILS_OF_INPUT, "cached_tokens", "cache_read_tokens", "cache_read_input_tokens"),
        *_top("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_read_tokens"),
        *_top("cacheReadInputTokens", "cachedContentTokenCount", "cached_content_token_count"),
        *_top("cached_prompt_text_tokens", "input_cached_tokens"),
    ),
    "cache_miss": _top("prompt_cache_miss_tokens"),
    "cache_write": (
        *_within(_DETAILS_OF_INPUT, "cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens"),
        *_top("cache_creation_input_tokens", "cache_write_tokens", "cache_creation_tokens"),
        *_top("cacheWriteInputTokens", "cacheCreationInputTokens"),
    ),
    "cache_write_5m": (
        ("cache_creation", "ephemeral_5m_input_tokens"),
        ("prompt_tokens_details", "cache_creation_token_details", "ephemeral_5m_input_tokens"),
    ),
    "cache_write_1h": (
        ("cache_creation", "ephemeral_1h_input_tokens"),
        ("prompt_tokens_details", "cache_creation_token_details", "ephemeral_1h_input_tokens"),
    ),
    "reasoning": (
        *_within(_DETAILS_OF_OUTPUT, "reasoning_tokens", "thinking_tokens"),
        *_top("reasoning_tokens"),
    ),
    "citation": _top("citation_tokens"),
    "input_audio": _within(_DETAILS_OF_INPUT, "audio_tokens"),
    "input_image": _within(_DETAILS_OF_INPUT, "image_tokens"),
    "input_video": _within(_DETAILS_OF_INPUT, "video_tokens"),
    "output_audio": _within(_DETAILS_OF_OUTPUT, "audio_tokens"),
    "output_image": _within(_DETAILS_OF_OUTPUT, "image_tokens"),
    "output_video": _within(_DETAILS_OF_OUTPUT, "video_tokens"),
    "cache_read_audio": tuple((group, "cached_tokens_details", "audio_tokens") for group in _DETAILS_OF_INPUT),
    "cache_read_image": tuple((group, "cached_tokens_details", "image_tokens") for group in _DETAILS_OF_INPUT),
    "web_searches": (
        ("server_tool_use", "web_search_requests"),
        ("server_tool_use_details", "web_search_requests"),
        ("tool_calls_details", "search_web", "invocation"),
        ("server_side_tool_usage_details", "web_search_calls"),
        ("num_search_queries",),
    ),
    "storage_searches": (
        ("server_tool_use", "file_search_requests"),
        ("server_side_tool_usage_details", "file_search_calls"),
    ),
    "input_characters": _top("input_characters", "characters"),
    "input_document_pages": _top("pages_processed"),
    "input_annotated_document_pages": _top("annotated_pages_processed"),
    "input_text_messages": _top("input_text_messages"),
}
# With these beside it, `input_tokens` is the input without the cache (Anthropic, Bedrock); else it is all input.
BARE_INPUT = frozenset(_top("input_tokens", "inputTokens"))
CACHE_BESIDE_INPUT = frozenset(
    {
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    }
)

SECONDS: dict[str, tuple[Path, ...]] = {
    "input_audio_seconds": _top("prompt_audio_seconds", "input_audio_seconds"),
    "audio_seconds": _top("billable_audio_seconds", "audio_seconds", "seconds"),
}
USD = frozenset((("cost",), ("cost", "total_cost"), ("total_cost",), ("estimated_cost",)))
# xAI reports its cost in units of 10^-10 US dollars.
USD_TICKS = frozenset(_top("cost_in_usd_ticks"))
TICKS_PER_USD = 10_000_000_000

# Gemini lists its details as [{"modality": "AUDIO", "tokenCount": 7}].
MODALITY_LISTS: dict[str, str] = {
    "promptTokensDetails": "input_",
    "prompt_tokens_details": "input_",
    "candidatesTokensDetails": "output_",
    "candidates_tokens_details": "output_",
    "cacheTokensDetails": "cache_read_",
    "cache_tokens_details": "cache_read_",
}
MODALITIES: dict[str, str] = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}

# These providers report reasoning beside their output, also where no total shows it.
REASONING_BESIDE = frozenset({"x-ai", "xai", "grok", "perplexity"})
# These report citations and reasoning in no total.
OUTSIDE_TOTAL = frozenset({"perplexity"})
# The total shows which of these are reasoning that is reported nowhere else.
HIDDEN_REASONING = frozenset({"google", "gemini", "vertex", "vertex-ai", "google-vertex", "x-ai", "xai", "grok"})
