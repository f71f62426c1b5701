"""What LiteLLM's details of a call say of it; no LiteLLM is needed."""

from pathlib import Path
from typing import Any

import pytest

from metering.inlets.litellm_calls import Call, read_call
from metering.inlets.litellm_settings import LiteLLMConfigError, LiteLLMSettings

_SETTINGS = LiteLLMSettings(url="http://x", key="mk_x", source="/litellm/1", spool=Path("/tmp/x"))


def _read(metadata: dict[str, Any] | None = None, **details: Any) -> Call:
    parameters = {"metadata": metadata or {}, **details.pop("litellm_params", {})}
    known = {
        "custom_llm_provider": "openai",
        "model": "gpt-4o",
        "call_type": "acompletion",
        "messages": [{"role": "user", "content": "Go."}],
        "litellm_params": parameters,
        **details,
    }
    return read_call(known, _SETTINGS)


def test_who_pays_is_the_first_that_is_known_and_can_be_an_id() -> None:
    keys = {"user_api_key_alias": "alice", "user_api_key_hash": "f" * 64}
    team = {"user_api_key_team_id": "red"}
    assert _read({**keys, **team}, user="end").customer_id == "end"
    assert _read({**keys, **team, "user_api_key_end_user_id": "known"}, user="end").customer_id == "known"
    assert _read({**keys, **team}).customer_id == "red"
    assert _read({**keys, "user_api_key_team_id": "x" * 129}).customer_id == "alice"
    assert _read(keys, user="..").customer_id == "alice"
    assert _read({"user_api_key_hash": "f" * 64}, user="a\0b").customer_id == "f" * 64
    assert _read().customer_id == "unassigned"


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        ("gemini", "gemini/gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("bedrock", "anthropic.claude-v2", ("aws", "anthropic.claude-v2")),
        ("xai", "grok-4", ("x-ai", "grok-4")),
        ("someone", "model", ("someone", "model")),
    ],
)
def test_providers_have_the_names_of_the_rate_cards(provider: str, model: str, expected: tuple[str, str]) -> None:
    call = _read(custom_llm_provider=provider, model=model)
    assert (call.provider, call.model) == expected


def test_a_call_without_a_provider_is_no_stream() -> None:
    with pytest.raises(ValueError, match="provider"):
        _read(custom_llm_provider=None)


def test_attempts_at_one_request_have_one_hash_and_other_requests_another() -> None:
    body = {"model": "alias", "messages": [{"role": "user", "content": "Go."}], "stream": True}
    asked = {"litellm_params": {"proxy_server_request": {"body": body}}}
    first = _read(**asked)
    second = _read({"model_group": "other"}, **asked, custom_llm_provider="deepseek", model="deepseek-chat")
    other = _read(litellm_params={"proxy_server_request": {"body": {**body, "model": "other"}}})
    assert first.request_hash == second.request_hash != other.request_hash


def test_plain_input_is_counted_as_text() -> None:
    call = _read(call_type="aembedding", messages=["Go.", "Stop."])
    assert (call.request, call.input_tokens, call.operation) == (None, 4, "embeddings")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "METERING_LITELLM_INGEST_KEY is not set"),
        ({"METERING_INGEST_KEY": "mk_x", "METERING_LITELLM_CUSTOMER": "key_alias, nobody"}, "got nobody"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], said: str) -> None:
    with pytest.raises(LiteLLMConfigError, match=said):
        LiteLLMSettings.from_environment(environment)
