"""Log lines as their gateways document them, as streams; and those that were cut."""

from typing import Any

import pytest

from metering.translations.access_log import Dialect, read_lines, read_providers
from metering.translations.access_log_apisix import APISIX
from metering.translations.access_log_envoy import ENVOY
from metering.translations.access_log_higress import HIGRESS
from metering.translations.completions import Sender
from tests.translations import records
from tests.translations.records import SENDER, access_log, datas, only_pair, reason

LINES: dict[str, tuple[Dialect, dict[str, Any]]] = {
    "envoy": (ENVOY, {**records.ENVOY, "x-tenant-id": "acme"}),
    "apisix": (APISIX, records.APISIX),
    "higress": (HIGRESS, records.HIGRESS),
}


def envoy(**changes: Any) -> dict[str, Any]:
    return {**LINES["envoy"][1], **{name.replace("__", "."): value for name, value in changes.items()}}


def apisix(line: dict[str, Any] | None = None, **summary: Any) -> dict[str, Any]:
    return {**records.APISIX, **(line or {}), "llm_summary": {**records.APISIX["llm_summary"], **summary}}


def test_a_line_of_envoy_ai_gateway_is_a_stream() -> None:
    translated = access_log(envoy(), dialect=ENVOY)
    start, end = (each.event for each in translated.events)
    assert (start["subject"], start["time"], end["time"]) == (
        "acme", "2025-08-30T16:51:37.894000Z", "2025-08-30T16:51:39.420000Z",
    )  # fmt: skip
    began, ended = only_pair(translated)
    assert began == {
        "provider": "tars", "model": "gpt-4o-mini", "streaming": True, "operation": "chat", "inlet": "access_log",
    }  # fmt: skip
    assert ended == {
        "outcome": "completed", "usage": {"input_tokens": 15, "output_tokens": 7}, "usage_source": "provider",
        "inlet": "access_log",
    }  # fmt: skip


def test_cached_and_reasoning_tokens_of_envoy_are_read_by_their_documented_names() -> None:
    line = envoy(
        gen_ai__usage__reasoning_tokens=3,
        llm_cached_input_token=5,
        llm_cache_creation_input_token="4",
        gen_ai__response__model="gpt-4o-mini-2024-07-18",
    )
    _, ended = only_pair(access_log(line, dialect=ENVOY))
    assert ended["usage"] == {
        "input_tokens": 15, "output_tokens": 7, "reasoning_output_tokens": 3, "cache_read_input_tokens": 5,
        "cache_write_input_tokens": 4,
    }  # fmt: skip
    assert ended["response_model"] == "gpt-4o-mini-2024-07-18"


def test_the_model_that_the_backend_was_asked_for_is_billed() -> None:
    began, _ = only_pair(access_log(envoy(gen_ai__request__model_override="gpt-4o"), dialect=ENVOY))
    assert began["model"] == "gpt-4o"


@pytest.mark.parametrize("name", ["default/tars", "tars", "default/tars/route/aigw-run/rule/0/ref/0", "TARS"])
def test_a_backend_is_a_provider_by_the_settings(name: str) -> None:
    began, _ = only_pair(access_log(envoy(), dialect=ENVOY, providers=read_providers(f"{name}=openrouter, x=y")))
    assert began["provider"] == "openrouter"


@pytest.mark.parametrize(
    ("flags", "status", "outcome", "error"),
    [
        ("-", 200, "completed", None),
        ("DI", 200, "completed", None),
        ("DC", 200, "cancelled", None),
        ("DR", 200, "cancelled", None),
        ("DC,UR", 200, "cancelled", None),
        ("-", 0, "cancelled", None),
        ("DownstreamConnectionTermination", 200, "cancelled", None),
        ("UR", 200, "failed", "UR"),
        ("UC", 200, "failed", "UC"),
        ("UPE", 200, "failed", "UPE"),
        ("SI", 200, "timed_out", "SI"),
        ("UT", 504, "timed_out", "UT"),
        ("UMSDR", 200, "timed_out", "UMSDR"),
        ("-", 504, "timed_out", "http_504"),
        ("-", 500, "failed", "http_500"),
    ],
)
def test_how_a_request_of_envoy_ended_is_known_by_its_flags_and_its_status(
    flags: str, status: int, outcome: str, error: str | None
) -> None:
    _, ended = only_pair(access_log(envoy(response_flags=flags, response_code=status), dialect=ENVOY))
    assert (ended["outcome"], ended.get("error_type")) == (outcome, error)


def test_a_stream_that_was_cut_before_its_usage_has_none() -> None:
    line = envoy(response_flags="DC", gen_ai__usage__input_tokens=None, gen_ai__usage__output_tokens="-")
    _, ended = only_pair(access_log(line, dialect=ENVOY))
    assert (ended["outcome"], "usage" in ended, "usage_source" in ended) == ("cancelled", False, False)


def test_an_entry_of_apisix_is_a_stream() -> None:
    translated = access_log(records.APISIX, dialect=APISIX)
    start, end = (each.event for each in translated.events)
    assert (start["subject"], start["time"], end["time"]) == (
        "jack", "2024-06-13T15:06:30.508000Z", "2024-06-13T15:06:31.708000Z",
    )  # fmt: skip
    began, ended = only_pair(translated)
    assert (began["provider"], began["model"], began["streaming"]) == ("openai", "gpt-4", False)
    assert ended["usage"] == {
        "input_tokens": 23, "output_tokens": 8, "cache_read_input_tokens": 0, "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 0,
    }  # fmt: skip


def test_an_own_format_of_apisix_is_read_by_its_variables() -> None:
    line = {
        "@timestamp": "2026-11-23T15:00:02+00:00", "request_time": "1.5", "status": "200", "route_id": "r1",
        "llm_model": "gpt-4o", "llm_prompt_tokens": "812", "llm_completion_tokens": "37", "llm_provider": "azure",
        "consumer_name": "jack", "request_type": "ai_stream", "request_id": "5c5e0b95f8d303cb81e4dc456a4b12d9",
    }  # fmt: skip
    translated = access_log(line, dialect=APISIX)
    assert [each.event["time"] for each in translated.events] == [
        "2026-11-23T15:00:00.500000Z",
        "2026-11-23T15:00:02Z",
    ]
    began, ended = only_pair(translated)
    assert (began["provider"], began["streaming"]) == ("azure", True)
    assert ended["usage"] == {"input_tokens": 812, "output_tokens": 37}


def test_the_input_of_anthropics_messages_is_without_the_cache_in_apisix() -> None:
    line = apisix(
        {"upstream": "api.anthropic.com:443", "request": {"uri": "/v1/messages?beta=true"}},
        prompt_tokens=12, cache_read_input_tokens=800, cache_creation_input_tokens=100,
    )  # fmt: skip
    began, ended = only_pair(access_log(line, dialect=APISIX))
    assert (began["provider"], began["operation"], ended["usage"]["input_tokens"]) == (
        "anthropic",
        "messages",
        912,
    )


def test_a_route_of_apisix_is_a_provider_by_the_settings_only() -> None:
    line = apisix({"upstream": "10.0.0.7:8000"})
    assert "llm_provider: no provider is known by it" in reason(access_log(line, dialect=APISIX))
    began, _ = only_pair(access_log(line, dialect=APISIX, providers={"http-logger-route": "groq"}))
    assert began["provider"] == "groq"


def test_zeros_of_apisix_are_no_usage() -> None:
    said = reason(access_log(apisix(prompt_tokens="0", completion_tokens="0"), dialect=APISIX))
    assert "llm_summary.prompt_tokens, llm_summary.completion_tokens: no tokens: the stream was cut, or" in said


def test_a_line_of_higress_is_a_stream() -> None:
    translated = access_log(records.HIGRESS, dialect=HIGRESS)
    assert translated.events[0].event["subject"] == "consumer1"
    began, ended = only_pair(translated)
    assert (began["provider"], began["model"], began["operation"]) == ("openai", "gpt-4o", "chat")
    assert ended["usage"] == {
        "input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 80, "reasoning_output_tokens": 25,
    }  # fmt: skip
    assert ended["response_id"] == "chatcmpl-9"


def test_prompts_in_a_log_reach_no_event() -> None:
    log = {"model": "gpt-4o", "input_token": 1, "output_token": 2, "question": "A SECRET", "answer": "SECRET"}
    translated = access_log({**records.HIGRESS, "ai_log": log, "consumer": "a"}, dialect=HIGRESS)
    assert "SECRET" not in repr(translated)


@pytest.mark.parametrize(
    ("dialect", "line"),
    [
        (ENVOY, {"method": "GET", "x-envoy-origin-path": "/health", "response_code": 200}),
        (ENVOY, {**records.ENVOY, "gen_ai.request.model": "-", "gen_ai.usage.input_tokens": "-",
                 "gen_ai.usage.output_tokens": None}),
        (ENVOY, {**records.ENVOY, "response_code": 429, "gen_ai.usage.input_tokens": None,
                 "gen_ai.usage.output_tokens": None}),
        (APISIX, {name: value for name, value in records.APISIX.items() if name != "llm_summary"}),
        (APISIX, apisix({"response": {"status": 503}}, prompt_tokens=0, completion_tokens=0)),
        (HIGRESS, {**records.HIGRESS, "ai_log": "-"}),
    ],
)  # fmt: skip
def test_lines_that_tell_of_no_completion_are_passed_over(dialect: Dialect, line: dict[str, Any]) -> None:
    translated = access_log(line, dialect=dialect)
    assert (list(translated.events), list(translated.left_out)) == ([], [])


@pytest.mark.parametrize(
    ("dialect", "line", "said"),
    [
        (
            ENVOY,
            records.ENVOY,
            "customer_id, x-customer-id, x-tenant-id, x-user-id, user.id: no customer: log one of",
        ),
        (ENVOY, envoy(gen_ai__request__model=None), "gen_ai.request.model: missing: log the model"),
        (ENVOY, envoy(gen_ai__provider__name=None), "gen_ai.provider.name: no provider is known by it"),
        (ENVOY, envoy(start_time="soon"), "start_time: expected the time of the request"),
        (ENVOY, envoy(gen_ai__usage__input_tokens=None, gen_ai__usage__output_tokens=None), "no tokens"),
        (APISIX, apisix({"consumer": None}), "customer_id, consumer.username, consumer_name: no customer"),
        (HIGRESS, "no JSON", "expected a log line as a JSON object"),
    ],
)
def test_what_is_missing_is_named_with_the_fix(dialect: Dialect, line: Any, said: str) -> None:
    assert said in reason(access_log(line, dialect=dialect))


@pytest.mark.parametrize("name", LINES)
def test_the_customer_is_that_of_the_key_or_of_the_first_declared_field(name: str) -> None:
    dialect, line = LINES[name]
    bound = Sender(received_at=SENDER.received_at, customer_id="bound")
    fields = ("nothing", "who.pays")
    line = {**line, "who": {"pays": "umbrella"}}
    assert access_log(line, dialect=dialect, customer=fields).events[0].event["subject"] == "umbrella"
    assert access_log(line, dialect=dialect, sender=bound, customer=fields).events[0].event["subject"] == "bound"


@pytest.mark.parametrize("name", LINES)
def test_the_same_line_is_the_same_stream_and_another_request_another(name: str) -> None:
    dialect, line = LINES[name]
    later = {**line, "start_time": "2026-11-23T16:00:00Z" if name != "apisix" else 1718291190509}
    named = [datas(access_log(each, dialect=dialect))[0]["stream_id"] for each in (line, dict(line), later)]
    assert named[0] == named[1] != named[2]


def test_without_an_id_the_whole_line_tells_requests_apart() -> None:
    lines = [envoy(**{"x-request-id": None}), envoy(**{"x-request-id": None, "bytes_sent": 433})]
    named = [datas(access_log(each, dialect=ENVOY))[0]["stream_id"] for each in lines]
    assert named[0] != named[1]
    assert all(each.startswith("access_log:") for each in named)


def test_a_body_is_an_array_a_line_or_lines() -> None:
    assert read_lines(b'[{"a": 1}, {"a": 2}]') == [{"a": 1}, {"a": 2}]
    assert read_lines(b'{"a": 1}') == [{"a": 1}]
    assert read_lines(b'{"a": 1}\r\n\n{"a": NaN}\nrubbish\n')[2] == "rubbish"


@pytest.mark.parametrize("text", ["tars", "=openai", "tars=", "tars=.."])
def test_a_wrong_setting_of_providers_is_shown(text: str) -> None:
    with pytest.raises(ValueError, match="expected upstream=provider, got"):
        read_providers(text)
