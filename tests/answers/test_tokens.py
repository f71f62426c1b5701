"""Counting tokens: close to encoding the whole, however the upstream cuts its text."""

import random

import pytest

from metering.answers.inputs import count_input
from metering.answers.tokens import OutputCount, counter_for
from metering.events.events import UsageSource
from metering.lab.demo.upstream_answer import TEXT


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("longest_piece", [1, 4, 30, 2_000])
def test_pieces_of_any_size_count_as_the_whole_text_does(seed: int, longest_piece: int) -> None:
    text = TEXT * 3
    counter = counter_for(model="gpt-5.5-pro")
    count = OutputCount(counter=counter)
    chance = random.Random(seed)
    at = 0
    while at < len(text):
        size = chance.randint(1, longest_piece)
        count.add(lane=(False, 0, "content"), text=text[at : at + size])
        if chance.random() < 0.1:
            count.counts()
        at += size
    assert abs(count.counts()[0] - counter.count(text)) <= len(text) // 400


_ODD = (
    "Hello",
    "I'm",
    "foo.",
    "bar\n",
    "  x",
    "日本",
    "3.14",
    "(a)",
    "é",
    "'s",
    "\t",
    "a/b",
    "//",
    "\r\n",
    "🙂",
    " ",
    "x'",
    " 'll",
)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
def test_looking_often_at_a_text_with_words_changes_nothing(model: str) -> None:
    counter = counter_for(model=model)
    for seed in range(300):
        chance = random.Random(seed)
        text = "".join(chance.choice(_ODD) + chance.choice(("", " ", " ")) for _ in range(chance.randint(1, 60)))
        count, at = OutputCount(counter=counter), 0
        while at < len(text):
            size = chance.randint(1, 9)
            count.add(lane=(False, 0, "content"), text=text[at : at + size])
            at += size
            if chance.random() < 0.3:
                count.counts()
        assert count.counts()[0] == counter.count(text), repr(text)


def test_text_without_spaces_counts_within_a_token_in_four_hundred_characters() -> None:
    text = "".join(random.Random(7).choices("0123456789abcdef漢字", k=8_000))
    counter = counter_for(model="gpt-5.5-pro")
    count = OutputCount(counter=counter)
    for at in range(0, len(text), 3):
        count.add(lane=(False, 0, "content"), text=text[at : at + 3])
    assert abs(count.counts()[0] - counter.count(text)) <= len(text) // 400


def test_reasoning_is_part_of_the_output_and_counted_separately() -> None:
    count = OutputCount(counter=counter_for(model="gpt-5"))
    count.add(lane=(True, 0, "reasoning"), text="Let me count the crates.")
    count.add(lane=(False, 0, "content"), text="Seven.")
    output, reasoning = count.counts()
    assert 0 < reasoning < output


def test_any_number_of_parallel_texts_is_counted_in_bounded_memory() -> None:
    count = OutputCount(counter=counter_for(model="gpt-5"))
    for number in range(5_000):
        count.add(lane=(False, number, "content"), text=" word")
    assert count.counts() == (5_000, 0)


@pytest.mark.parametrize(
    ("model", "encoding", "source"),
    [
        ("gpt-5.5-pro", "o200k_base", UsageSource.GATEWAY_COUNT),
        ("gpt-4o-mini", "o200k_base", UsageSource.GATEWAY_COUNT),
        ("gpt-4-turbo", "cl100k_base", UsageSource.GATEWAY_COUNT),
        ("openai/gpt-4.1", "o200k_base", UsageSource.GATEWAY_COUNT),
        ("claude-opus-4.7", "o200k_base", UsageSource.ESTIMATE),
    ],
)
def test_a_model_is_counted_with_its_own_vocabulary_or_as_an_estimate(
    model: str, encoding: str, source: UsageSource
) -> None:
    counter = counter_for(model=model)
    assert (counter.encoding, counter.source) == (encoding, source)  # type: ignore[attr-defined]


def test_input_counts_messages_tools_and_formats() -> None:
    counter = counter_for(model="gpt-5")
    plain = {"messages": [{"role": "user", "content": "Count the crates."}]}
    counted = count_input(request=plain, counter=counter)
    assert counted.exact
    assert counted.tokens == 3 + 3 + counter.count("user") + counter.count("Count the crates.")
    with_tools = {**plain, "tools": [{"type": "function", "function": {"name": "count_crates"}}]}
    assert count_input(request=with_tools, counter=counter).tokens > counted.tokens


def test_input_with_an_image_is_not_called_exact() -> None:
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    request = {"messages": [{"role": "user", "content": parts}]}
    assert not count_input(request=request, counter=counter_for(model="gpt-5")).exact


@pytest.mark.parametrize(
    "messages", [None, 7, ["x"], [{"content": 5, "tool_calls": 3}], [{"content": [None, {"text": 1}]}]]
)
def test_input_of_an_unknown_shape_is_no_reason_to_fail(messages: object) -> None:
    assert count_input(request={"messages": messages}, counter=counter_for(model="gpt-5")).tokens >= 3


def test_a_very_long_text_is_counted() -> None:
    assert counter_for(model="gpt-5").count("hi " * 500_000) > 400_000
