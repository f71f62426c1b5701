"""LiteLLM's payloads, as it posts them, as streams."""

import json
from typing import Any

import pytest

from metering.translations.completions import Sender
from metering.translations.litellm_payloads import read_payloads
from tests.translations.records import LITELLM, SENDER, datas, litellm, only_pair, reason

METADATA: dict[str, Any] = LITELLM["metadata"]  # type: ignore[assignment]


def of(usage: Any = None, **changes: Any) -> dict[str, Any]:
    """The payload, with another usage or other fields."""
    metadata = METADATA if usage is None else {**METADATA, "usage_object": usage}
    return {**LITELLM, "metadata": metadata, **changes}


def failed(**changes: Any) -> dict[str, Any]:
    error = {"error_class": "InternalServerError", "error_code": "500"}
    told = {"status": "failure", "id": LITELLM["litellm_call_id"], "error_information": error}
    return of({}, prompt_tokens=0, completion_tokens=0, **{**told, **changes})


# What LiteLLM posts of a stream whose upstream reports no usage: its own count.
COUNTED = {
    "completion_tokens": 20,
    "prompt_tokens": 16,
    "total_tokens": 36,
    "completion_tokens_details": {"audio_tokens": None, "reasoning_tokens": 0, "text_tokens": 20},
    "prompt_tokens_details": {"cached_tokens": 0},
}


def test_a_payload_is_an_attempt_with_the_providers_usage() -> None:
    began, ended = only_pair(litellm(LITELLM))
    assert began == {
        "provider": "openai", "model": "gpt-4o", "streaming": False, "operation": "chat", "api_key_id": "alice",
        "request_hash": f"litellm:{LITELLM['litellm_call_id']}", "tags": {"model_group": "alias", "job": "7"},
        "inlet": "litellm",
    }  # fmt: skip
    assert ended == {
        "outcome": "completed", "usage": {"input_tokens": 16, "output_tokens": 20}, "usage_source": "provider",
        "response_id": "chatcmpl-1", "inlet": "litellm",
    }  # fmt: skip
    times = [each.event["time"] for each in litellm(LITELLM).events]
    assert times == ["2026-11-29T20:31:47.960538Z", "2026-11-29T20:31:48.968580Z"]


def test_details_of_the_usage_are_read() -> None:
    usage = {
        **COUNTED, "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 1, "cache_creation_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 4}, "cost": 0.00125,
    }  # fmt: skip
    _, ended = only_pair(litellm(of(usage, stream=True)))
    assert ended["usage"] == {
        "input_tokens": 16, "output_tokens": 20, "cache_read_input_tokens": 3, "cache_write_input_tokens": 2,
        "reasoning_output_tokens": 5, "input_audio_tokens": 1, "output_audio_tokens": 4,
        "upstream_cost_usd": "0.00125",
    }  # fmt: skip
    assert ended["usage_source"] == "provider"


def test_what_may_be_litellms_own_count_is_an_estimate() -> None:
    began, ended = only_pair(litellm(of(COUNTED, stream=True)))
    assert began["streaming"] is True
    assert ended["usage"] == {"input_tokens": 16, "output_tokens": 20}
    assert ended["usage_source"] == "estimate"


def test_a_client_that_has_left_has_cancelled() -> None:
    left = {
        "error_code": "499",
        "error_message": "Client disconnected the request",
        "error_class": "ClientDisconnected",
    }
    _, ended = only_pair(
        litellm(of(COUNTED, stream=True, error_information=left, error_str="Client disconnected"))
    )
    assert (ended["outcome"], ended["usage_source"], "error_type" in ended) == ("cancelled", "estimate", False)


@pytest.mark.parametrize(
    ("error", "outcome"), [("InternalServerError", "failed"), ("Timeout", "timed_out"), (None, "failed")]
)
def test_a_failure_is_an_attempt_without_usage(error: str | None, outcome: str) -> None:
    _, ended = only_pair(litellm(failed(error_information={"error_class": error} if error else None)))
    assert (ended["outcome"], ended.get("error_type"), "usage" in ended) == (outcome, error, False)


def test_attempts_at_one_request_are_streams_with_one_hash() -> None:
    translated = litellm(failed(startTime=1795984300.1), failed(startTime=1795984301.1), LITELLM)
    found = datas(translated)
    assert len({data["stream_id"] for data in found}) == 3
    assert len({data["request_hash"] for data in found if "request_hash" in data}) == 1


def test_an_answer_of_the_cache_and_calls_without_a_model_are_no_streams() -> None:
    passed = litellm(
        of(cache_hit=True, id="chatcmpl-1_cache_hit1795984307.9"),
        of({}, prompt_tokens=0, completion_tokens=0, call_type="afile_retrieve"),
        failed(custom_llm_provider=None, model=""),
    )
    assert (list(passed.events), list(passed.left_out)) == ([], [])


@pytest.mark.parametrize("call_type", ["aretrieve_batch", "retrieve_batch"])
def test_a_batch_that_is_read_again_and_again_is_no_stream(call_type: str) -> None:
    assert "each time the batch is read" in reason(litellm(of(COUNTED, call_type=call_type)))
    made = {**LITELLM, "call_type": "acreate_batch", "metadata": {}, "prompt_tokens": 0, "completion_tokens": 0}
    assert litellm(made).events == litellm(made).left_out == []


def test_a_realtime_session_is_one_stream() -> None:
    began, ended = only_pair(litellm(of(COUNTED, call_type="_arealtime")))
    assert (began["operation"], ended["usage_source"]) == ("realtime", "provider")


def test_who_pays_is_found_by_the_rule_of_the_callback() -> None:
    def customer(metadata: dict[str, Any], sender: Sender = SENDER, **rules: Any) -> Any:
        payload = {**of(end_user=metadata.pop("end_user", None)), "metadata": {**metadata, **usage}}
        return litellm(payload, sender=sender, **rules).events[0].event["subject"]

    usage = {"usage_object": METADATA["usage_object"]}
    team, alias = {"user_api_key_team_id": "red"}, {"user_api_key_alias": "alice"}
    assert customer({**team, **alias, "end_user": "acme"}) == "acme"
    assert customer({**team, **alias, "user_api_key_end_user_id": "x" * 129}) == "red"
    assert customer({**team, **alias}, payers=("key_alias", "team")) == "alice"
    assert customer({}) == "unassigned"
    assert customer({}, default_customer="nobody") == "nobody"
    assert customer({**team}, Sender(received_at=SENDER.received_at, customer_id="bound")) == "bound"


def test_providers_have_the_names_of_the_rate_cards() -> None:
    began, _ = only_pair(litellm(of(custom_llm_provider="gemini", model="gemini/gemini-2.5-pro")))
    assert (began["provider"], began["model"]) == ("google", "gemini-2.5-pro")


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (of({"prompt_tokens": 0, "completion_tokens": 0}), "metadata.usage_object: LiteLLM knows no tokens"),
        (of(custom_llm_provider=None), "custom_llm_provider, model: missing"),
        (of(startTime=None), "startTime: expected seconds since 1970, got None"),
        (of(id=None, litellm_call_id=None), "litellm_call_id, id: missing"),
    ],
)
def test_what_is_missing_is_named_with_the_fix(payload: dict[str, Any], said: str) -> None:
    assert said in reason(litellm(payload))


def test_payloads_are_read_from_an_array_from_lines_and_alone_without_their_texts() -> None:
    one = json.dumps(LITELLM)
    for body in (one, f"[{one}, {one}]", f"{one}\n{one}\n"):
        read = read_payloads(body.encode())
        assert read[0] is not None
        assert (len(read) in (1, 2), read[0].id) == (True, "chatcmpl-1")
        assert "SECRET" not in repr(read)


def test_json_as_python_writes_it_is_read() -> None:
    odd = json.dumps({**LITELLM, "response_cost": float("nan"), "messages": "\ud800"})
    for body in (f"[{odd}, 3]", f"{odd}\n{odd}"):
        [first, second] = read_payloads(body.encode())
        assert first is not None
        assert (first.id, second is None) == ("chatcmpl-1", body[0] == "[")
    assert litellm(LITELLM).events
    with pytest.raises(ValueError, match="JSON"):
        read_payloads(b"[" * 200_000)
