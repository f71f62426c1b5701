"""A request that does not fit its budget is refused before the upstream is asked, as the stock SDKs expect."""

from typing import Any

import anthropic
import openai
import pytest

from tests.gateway.asking import MESSAGES
from tests.gateway.holds.world import SLIDING, StartHeld
from tests.running_api import put

ASKED: Any = {"model": "chat-1", "messages": MESSAGES}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_request_over_the_budget_is_a_402_that_is_not_retried_and_has_no_stream(
    start_held: StartHeld, streaming: bool
) -> None:
    world = start_held(limit="50")
    with world.openai(max_retries=3) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**ASKED, max_tokens=51, stream=streaming)
    error = caught.value
    assert (error.status_code, error.code, error.type) == (402, "budget_exhausted", "insufficient_quota")
    assert "Budget exhausted: 50 cents are left, and this request needs 51" in error.message
    assert "It would fit with max_tokens of 50 or less. The budget resets at 20" in error.message
    body: Any = error.body
    assert body["details"]["left_usd_cents"] == "50"
    assert body["details"]["needed_usd_cents"] == "51"
    assert body["details"]["max_output_tokens_that_fit"] == 50
    assert world.holds("refused") == 1
    stream_id = error.response.headers["x-metering-stream-id"]
    assert world.api.client.get(f"/v1/streams/acme/{stream_id}").status_code == 404
    assert world.figures() == ("0", "0", 0)
    with world.openai() as client:
        assert client.chat.completions.create(**ASKED, max_tokens=50).choices[0].finish_reason
    [charge] = world.charges(1)
    assert world.figures() == (charge["cost_usd_cents"], "0", 0)


def test_the_limit_of_each_answer_counts_for_all_of_them(start_held: StartHeld) -> None:
    world = start_held(limit="50")
    with world.openai() as client:
        with pytest.raises(openai.APIStatusError, match="max_completion_tokens of 16 or less"):
            client.chat.completions.create(**ASKED, max_completion_tokens=17, n=3)
        prompts = ["One ring", "Two rings"]
        with pytest.raises(openai.APIStatusError, match="needs 52") as caught:
            client.completions.create(model="words-plain", prompt=prompts, max_tokens=13, best_of=2)
        assert caught.value.status_code == 402
        client.completions.create(model="words-plain", prompt=prompts, max_tokens=12, best_of=2)


def test_anthropics_client_raises_its_own_error_for_an_exhausted_budget(start_held: StartHeld) -> None:
    world = start_held(limit="50")
    with world.anthropic(max_retries=3) as client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="words-plain", max_tokens=60, messages=[{"role": "user", "content": "Hi"}])
    error = caught.value
    assert (error.status_code, error.type, error.error_code) == (402, "billing_error", "budget_exhausted")
    assert "It would fit with max_tokens of 50 or less." in str(error.api_message)
    assert world.holds("refused") == 1


def test_responses_and_embeddings_are_held_by_what_prices_them(start_held: StartHeld) -> None:
    world = start_held(limit="50")
    put(
        world.api,
        "/v1/rates/openai/embed-plain",
        rates=[{"kind": "input", "usd_per_million": "10000"}],
        effective_from="2026-01-01T00:00:00Z",
    )
    with world.openai() as client:
        with pytest.raises(openai.APIStatusError, match="max_output_tokens of 50 or less"):
            client.responses.create(model="words-plain", input="Hi", max_output_tokens=51)
        with pytest.raises(openai.APIStatusError, match="are left, and this request needs") as caught:
            client.embeddings.create(model="embed-plain", input="one ring " * 60, encoding_format="float")
        assert "max_" not in caught.value.message
        assert client.embeddings.create(model="embed-plain", input="one ring", encoding_format="float").data
    world.charges(1)
    assert world.figures()[1:] == ("0", 0)


def test_a_model_without_a_price_has_an_error_of_its_own(start_held: StartHeld) -> None:
    world = start_held(limit="50")
    with world.openai(max_retries=3) as client, pytest.raises(openai.UnprocessableEntityError) as caught:
        client.completions.create(model="nameless-plain", prompt="Hi", max_tokens=1)
    assert (caught.value.code, caught.value.param) == ("price_unknown", "model")
    assert "The gateway's operator can add a price" in caught.value.message
    assert not world.other.asked


def test_what_is_priced_afterwards_takes_what_the_budget_says_for_it(start_held: StartHeld) -> None:
    world = start_held(limit="50")
    with world.openai(max_retries=0) as client:
        with pytest.raises(openai.UnprocessableEntityError):
            client.images.generate(model="words-plain", prompt="Three rings")
        flat = {"flat_usd_cents": "30"}
        scope = {"customer_id": "acme"}
        put(world.api, "/v1/budgets/b", scope=scope, window="month", limit_usd_cents="200", unknown_price=flat)
        client.images.generate(model="words-plain", prompt="Three rings")
        assert world.figures()[1:] in (("30", 1), ("0", 0))
        speech = client.audio.speech.create(model="words-plain", input="Three rings", voice="alloy")
        assert speech.read()
        client.audio.transcriptions.create(model="words-plain", file=("a.mp3", b"sound", "audio/mpeg"))


def test_an_answer_in_one_piece_holds_its_worst_case_also_where_others_are_sliding(start_held: StartHeld) -> None:
    world = start_held(limit="50", holds=SLIDING)
    with world.openai() as client:
        with pytest.raises(openai.APIStatusError, match="needs 60"):
            client.chat.completions.create(**ASKED, max_tokens=60)
        assert client.chat.completions.create(**ASKED).usage
