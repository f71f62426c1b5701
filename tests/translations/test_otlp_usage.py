"""The usage that spans report, under all its names, and what stands beside what."""

from typing import Any

import pytest

from metering.translations.otlp.usage import usage_of
from tests.builders.otlp import data_of, span, translated, without

I, O, T = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.total_tokens"  # noqa: E741
READ, WRITE = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
REASONING = "gen_ai.usage.reasoning.output_tokens"

NAMES: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "the conventions": (
        {
            I: 100,
            O: 50,
            READ: 30,
            WRITE: 20,
            REASONING: 10,
            "gen_ai.usage.audio.input_tokens": 5,
            "gen_ai.usage.image.input_tokens": 4,
            "gen_ai.usage.video.input_tokens": 3,
            "gen_ai.usage.text.input_tokens": 88,
            "gen_ai.usage.audio.output_tokens": 2,
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_input_tokens": 30,
            "cache_write_input_tokens": 20,
            "reasoning_output_tokens": 10,
            "input_audio_tokens": 5,
            "input_image_tokens": 4,
            "input_video_tokens": 3,
            "output_audio_tokens": 2,
        },
    ),
    "their old names": (
        {"gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 9},
        {"input_tokens": 7, "output_tokens": 9},
    ),
    "OpenLLMetry": (
        {
            "llm.usage.prompt_tokens": 7,
            "llm.usage.completion_tokens": 9,
            "llm.usage.total_tokens": 16,
            "llm.usage.reasoning_tokens": 4,
            "gen_ai.usage.cache_read_input_tokens": 3,
            "gen_ai.usage.cache_creation_input_tokens": 2,
        },
        {
            "input_tokens": 7,
            "output_tokens": 9,
            "cache_read_input_tokens": 3,
            "cache_write_input_tokens": 2,
            "reasoning_output_tokens": 4,
        },
    ),
    "OpenInference": (
        {
            "llm.token_count.prompt": 100,
            "llm.token_count.completion": 50,
            "llm.token_count.total": 150,
            "llm.token_count.prompt_details.cache_read": 30,
            "llm.token_count.prompt_details.cache_write": 20,
            "llm.token_count.prompt_details.audio": 5,
            "llm.token_count.completion_details.reasoning": 10,
            "llm.token_count.completion_details.audio": 2,
        },
        {
            "input_tokens": 100,
            "output_tokens": 50,
            "cache_read_input_tokens": 30,
            "cache_write_input_tokens": 20,
            "input_audio_tokens": 5,
            "reasoning_output_tokens": 10,
            "output_audio_tokens": 2,
        },
    ),
    "both, which agree": ({I: 7, "gen_ai.usage.prompt_tokens": 7, O: 9}, {"input_tokens": 7, "output_tokens": 9}),
    "an embedding": ({I: 7}, {"input_tokens": 7}),
    "numbers as text, and doubles": ({I: "7", O: 9.0}, {"input_tokens": 7, "output_tokens": 9}),
    "what is no count": ({I: -7, O: "many", READ: 2**60, WRITE: True, T: 1.5}, {}),
}


@pytest.mark.parametrize(("attributes", "expected"), NAMES.values(), ids=NAMES)
def test_every_name_of_a_counter_is_read(attributes: dict[str, Any], expected: dict[str, int]) -> None:
    assert usage_of(attributes, provider="openai") == expected


BESIDE: dict[str, tuple[str, dict[str, int], dict[str, int]]] = {
    "the conventions are believed: the cache is in the input": (
        "anthropic",
        {I: 100, O: 5, READ: 80},
        {"input_tokens": 100, "output_tokens": 5, "cache_read_input_tokens": 80},
    ),
    "a cache that does not fit into the input stands beside it": (
        "anthropic",
        {I: 10, O: 5, READ: 80, WRITE: 7},
        {"input_tokens": 97, "output_tokens": 5, "cache_read_input_tokens": 80, "cache_write_input_tokens": 7},
    ),
    "a total shows that the cache stands beside the input": (
        "aws",
        {I: 100, O: 5, READ: 80, T: 185},
        {"input_tokens": 180, "output_tokens": 5, "cache_read_input_tokens": 80},
    ),
    "a total shows that it does not": (
        "aws",
        {I: 100, O: 5, READ: 80, T: 105},
        {"input_tokens": 100, "output_tokens": 5, "cache_read_input_tokens": 80},
    ),
    "reasoning is in the output": (
        "x-ai",
        {I: 10, O: 50, REASONING: 40},
        {"input_tokens": 10, "output_tokens": 50, "reasoning_output_tokens": 40},
    ),
    "unless the total shows that it is beside": (
        "x-ai",
        {I: 10, O: 50, REASONING: 40, T: 100},
        {"input_tokens": 10, "output_tokens": 90, "reasoning_output_tokens": 40},
    ),
    "or its size does": (
        "openai",
        {I: 10, O: 50, REASONING: 60},
        {"input_tokens": 10, "output_tokens": 110, "reasoning_output_tokens": 60},
    ),
    "Gemini's thoughts show in the total alone": (
        "google",
        {I: 10, O: 50, T: 100},
        {"input_tokens": 10, "output_tokens": 90, "reasoning_output_tokens": 40},
    ),
}


@pytest.mark.parametrize(("provider", "attributes", "expected"), BESIDE.values(), ids=BESIDE)
def test_a_part_is_added_only_where_it_is_shown_to_stand_beside(
    provider: str, attributes: dict[str, Any], expected: dict[str, int]
) -> None:
    assert usage_of(attributes, provider=provider) == expected


def test_a_usage_is_the_providers_and_without_one_there_is_no_source() -> None:
    _, end = data_of(translated(span()))
    assert (end["usage"], end["usage_source"]) == ({"input_tokens": 812, "output_tokens": 37}, "provider")
    _, end = data_of(translated(span(without("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"))))
    assert {"usage", "usage_source"}.isdisjoint(end)
