"""Usage is found wherever it stands, joined in any order, and nested as the contract nests it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.answers.usage import counters, join_parts, usage_parts
from metering.events.usage import COUNTERS


def _read(usage: dict[str, Any], provider: str = "openai") -> dict[str, Any]:
    return counters(usage_parts({"usage": usage}), provider=provider)


_XAI = {
    "prompt_tokens": 10120,
    "completion_tokens": 1499,
    "prompt_tokens_details": {"cached_tokens": 128},
    "completion_tokens_details": {"reasoning_tokens": 2809},
}


@pytest.mark.parametrize("total", [{"total_tokens": 14428}, {}])
def test_xai_reports_reasoning_beside_its_output(total: dict[str, int]) -> None:
    read = _read({**_XAI, **total}, "x-ai")
    assert read == {
        "input_tokens": 10120,
        "output_tokens": 4308,
        "cache_read_input_tokens": 128,
        "reasoning_output_tokens": 2809,
    }


@pytest.mark.parametrize(
    ("provider", "usage", "expected"),
    [
        ("openai", {"prompt_tokens": 9, "completion_tokens": 50, "total_tokens": 59,
                    "completion_tokens_details": {"reasoning_tokens": 40}}, (9, 50)),
        ("openai", {"prompt_tokens": 9, "completion_tokens": 50,
                    "completion_tokens_details": {"reasoning_tokens": 40}}, (9, 50)),
        ("openai", {"prompt_tokens": 9, "completion_tokens": 50, "total_tokens": 99,
                    "completion_tokens_details": {"reasoning_tokens": 40}}, (9, 90)),
        ("openai", {"prompt_tokens": 9, "completion_tokens": 5,
                    "completion_tokens_details": {"reasoning_tokens": 40}}, (9, 45)),
        ("x-ai", {"input_tokens": 9, "output_tokens": 50,
                  "output_tokens_details": {"reasoning_tokens": 40}}, (9, 50)),
        ("google", {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 54}, (9, 45)),
        ("openai", {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 54}, (9, 5)),
        ("perplexity", {"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196,
                        "citation_tokens": 20016, "reasoning_tokens": 73997}, (33, 101176)),
        ("anthropic", {"prompt_tokens": 19, "completion_tokens": 100, "total_tokens": 119,
                       "prompt_tokens_details": {"cached_tokens": 39000}}, (39019, 100)),
        ("anthropic", {"prompt_tokens": 19, "completion_tokens": 100, "total_tokens": 129,
                       "prompt_tokens_details": {"cached_tokens": 10}}, (29, 100)),
        ("anthropic", {"input_tokens": 19, "output_tokens": 100, "cache_read_input_tokens": 5,
                       "cache_creation_input_tokens": 7}, (31, 100)),
        ("deepseek", {"prompt_tokens": 36100, "completion_tokens": 1200, "prompt_cache_hit_tokens": 21600,
                      "prompt_cache_miss_tokens": 14500}, (36100, 1200)),
        ("deepseek", {"completion_tokens": 1200, "prompt_cache_hit_tokens": 21600,
                      "prompt_cache_miss_tokens": 14500}, (36100, 1200)),
        ("aws", {"inputTokens": 5, "outputTokens": 2, "cacheReadInputTokens": 10}, (15, 2)),
    ],
)  # fmt: skip
def test_what_includes_what_follows_from_total_provider_and_names(
    provider: str, usage: dict[str, Any], expected: tuple[int, int]
) -> None:
    read = _read(usage, provider)
    assert (read["input_tokens"], read["output_tokens"]) == expected


def test_every_counter_of_the_contract_is_read() -> None:
    details = {"audio_tokens": 3, "image_tokens": 4, "video_tokens": 5}
    read = _read(
        {
            "prompt_tokens": 100,
            "completion_tokens": 200,
            "prompt_tokens_details": {
                **details,
                "cached_tokens": 20,
                "cached_tokens_details": {"audio_tokens": 1, "image_tokens": 2},
            },
            "completion_tokens_details": {**details, "reasoning_tokens": 9},
            "cache_creation": {"ephemeral_5m_input_tokens": 6, "ephemeral_1h_input_tokens": 7},
            "citation_tokens": 8,
            "server_tool_use": {"web_search_requests": 2, "file_search_requests": 1},
            "prompt_audio_seconds": 12.3456,
            "seconds": 7,
            "input_characters": 400,
            "pages_processed": 3,
            "annotated_pages_processed": 1,
            "input_text_messages": 2,
            "cost": 0.00014,
        }
    )
    assert set(read) == {*COUNTERS, "upstream_cost_usd"}
    assert read == {
        "input_tokens": 100,
        "output_tokens": 200,
        "cache_read_input_tokens": 20,
        "cache_write_input_tokens": 13,
        "cache_write_1h_input_tokens": 7,
        "cache_read_input_audio_tokens": 1,
        "cache_read_input_image_tokens": 2,
        "input_audio_tokens": 3,
        "input_image_tokens": 4,
        "input_video_tokens": 5,
        "output_audio_tokens": 3,
        "output_image_tokens": 4,
        "output_video_tokens": 5,
        "reasoning_output_tokens": 9,
        "citation_output_tokens": 8,
        "web_searches": 2,
        "storage_searches": 1,
        "input_audio_seconds": Decimal("12.346"),
        "audio_seconds": Decimal("7.000"),
        "input_characters": 400,
        "input_document_pages": 3,
        "input_annotated_document_pages": 1,
        "input_text_messages": 2,
        "upstream_cost_usd": Decimal("0.00014"),
    }


def test_geminis_own_names_are_read() -> None:
    usage = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 4,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "totalTokenCount": 64,
        "cachedContentTokenCount": 3,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 6}, {"modality": "IMAGE", "tokenCount": 4}],
        "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 2}, "odd"],
    }
    assert counters(usage_parts({"usageMetadata": usage}), provider="google") == {
        "input_tokens": 14,
        "output_tokens": 50,
        "reasoning_output_tokens": 30,
        "cache_read_input_tokens": 3,
        "input_image_tokens": 4,
        "output_audio_tokens": 2,
    }


@pytest.mark.parametrize("value", [None, -1, 2**60, 1.5, True, "many", "1e3", [], {}, float("nan"), float("inf")])
def test_a_count_that_is_no_count_is_unknown(value: object) -> None:
    assert _read({"prompt_tokens": value, "completion_tokens": 7}) == {"output_tokens": 7}
    assert "upstream_cost_usd" not in _read({"prompt_tokens": 7, "cost": value}) or value in (1.5, 2**60, "1e3")


@pytest.mark.parametrize(
    "usage", [None, [], "17/20", 7, {"prompt_tokens_details": [1]}, {"cost": {"total_cost": []}}]
)
def test_a_usage_of_an_unknown_shape_reports_nothing(usage: object) -> None:
    assert usage_parts({"usage": usage, "choices": "none"}) == {}


def test_a_split_usage_is_joined() -> None:
    first = usage_parts(
        {
            "usage": {
                "prompt_tokens": 20019,
                "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 19500},
            }
        }
    )
    last = usage_parts({"choices": None, "usage": {"completion_tokens": 37}})
    assert counters(join_parts(first, last), provider="anthropic") == {
        "input_tokens": 20019,
        "output_tokens": 37,
        "cache_read_input_tokens": 19500,
    }


_COUNT = st.one_of(st.none(), st.integers(0, 10_000), st.floats(0, 10_000), st.text(max_size=3))
_GROUP = st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens"]), _COUNT
)
_USAGE = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "cost",
                     "cache_read_input_tokens", "cache_creation_input_tokens", "prompt_cache_hit_tokens"]),
    _COUNT,
)  # fmt: skip
_USAGES = st.lists(
    st.builds(lambda top, groups: {**top, **groups}, _USAGE, st.dictionaries(
        st.sampled_from(["prompt_tokens_details", "completion_tokens_details"]), _GROUP)),
    max_size=5,
)  # fmt: skip


@given(_USAGES, st.randoms(), st.sampled_from(["openai", "x-ai", "anthropic", "google"]))
def test_the_join_does_not_depend_on_the_order_or_on_repeats(
    usages: list[Any], random: Any, provider: str
) -> None:
    def joined(each: list[Any]) -> dict[str, Any]:
        parts: Any = {}
        for usage in each:
            parts = join_parts(parts, usage_parts({"usage": usage}))
        return counters(parts, provider=provider)

    shuffled = [*usages, *usages[:2]]
    random.shuffle(shuffled)
    assert joined(shuffled) == joined(usages)


@given(_USAGES)
def test_what_is_joined_never_falls(usages: list[Any]) -> None:
    parts: Any = {}
    for usage in usages:
        more = join_parts(parts, usage_parts({"usage": usage}))
        assert all(more[name] >= amount for name, amount in parts.items())
        parts = more


@given(_USAGES, st.sampled_from(["openai", "x-ai", "anthropic", "google", "perplexity"]))
def test_nested_counters_fit_where_both_are_known(usages: list[Any], provider: str) -> None:
    for usage in usages:
        read = _read(usage, provider)
        if "output_tokens" in read:
            assert read.get("reasoning_output_tokens", 0) <= read["output_tokens"]
        if "input_tokens" in read:
            cache = read.get("cache_read_input_tokens", 0) + read.get("cache_write_input_tokens", 0)
            assert cache <= read["input_tokens"]
