"""Records as their senders document them, which tests change."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from metering.translations.access_log import AccessLogRules, Dialect, translate_access_log
from metering.translations.completions import Sender
from metering.translations.litellm_payloads import LiteLLMRules, Payload, translate_litellm
from metering.translations.openmeter import translate_openmeter
from metering.translations.openmeter_types import OpenMeterTypes, declared_types
from metering.translations.translated import Translated

SENDER = Sender(received_at=datetime(2026, 11, 23, 15, 1, tzinfo=UTC))

# api/client/python/examples/sync/ingest.py of openmeterio/openmeter.
OPENMETER = {
    "id": "5c10fade-1c9e-4d6c-8275-c52c36731d3c",
    "source": "my-app",
    "specversion": "1.0",
    "type": "prompt",
    "subject": "customer-1",
    "time": "2026-11-23T15:00:00.123Z",
    "data": {"tokens": 100, "model": "gpt-4o", "type": "input"},
}
# developer.konghq.com/how-to/meter-llm-traffic: two events a request, and the fields that its meter reads.
KONG = {
    **OPENMETER,
    "id": "e5b2c3f0-request",
    "source": "kong-gateway",
    "type": "kong.llm_request",
    "data": {"tokens": "23", "model": "gpt-4o", "provider": "openai", "type": "request"},
}
# site/docs/capabilities/observability/accesslogs.md of envoyproxy/ai-gateway, as it stands there.
ENVOY = {
    ":authority": "api.router.tetrate.ai",
    "bytes_received": 105,
    "bytes_sent": 432,
    "connection_termination_details": None,
    "downstream_local_address": "127.0.0.1:1975",
    "downstream_remote_address": "127.0.0.1:64484",
    "duration": 1526,
    "gen_ai.provider.name": "default/tars/route/aigw-run/rule/0/ref/0",
    "gen_ai.request.model": "gpt-4o-mini",
    "gen_ai.request.model_override": None,
    "gen_ai.usage.input_tokens": 15,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.usage.total_tokens": 22,
    "method": "POST",
    "protocol": "HTTP/1.1",
    "requested_server_name": None,
    "response_code": 200,
    "response_code_details": "via_upstream",
    "response_flags": "-",
    "route_name": "httproute/default/aigw-run/rule/0/match/0/*",
    "start_time": "2025-08-30T16:51:37.894Z",
    "upstream_cluster": "httproute/default/aigw-run/rule/0",
    "upstream_host": "34.128.142.77:443",
    "upstream_local_address": "192.168.1.38:64485",
    "upstream_transport_failure_reason": None,
    "user-agent": "curl/8.7.1",
    "x-envoy-origin-path": "/v1/chat/completions",
    "x-envoy-upstream-service-time": "451",
    "x-forwarded-for": "192.168.1.38",
    "x-request-id": "83b63da3-45a9-4196-98b8-1a7f697d6d8d",
}
# docs/en/latest/plugins/http-logger.md of apache/apisix, with the consumer of apisix/utils/log-util.lua and the
# llm_summary of apisix/plugins/ai-proxy/base.lua; the counts are those of docs/en/latest/plugins/ai-proxy.md.
APISIX = {
    "upstream": "api.openai.com:443",
    "server": {"hostname": "7d8d831179d4", "version": "3.9.0"},
    "start_time": 1718291190508,
    "client_ip": "192.168.65.1",
    "consumer": {"username": "jack"},
    "response": {"status": 200, "headers": {"content-type": "application/json"}, "size": 617},
    "latency": 1200.0000476837,
    "upstream_latency": 1133,
    "apisix_latency": 67.000047683716,
    "request": {
        "url": "http://127.0.0.1:9080/anything",
        "querystring": {},
        "method": "POST",
        "uri": "/anything",
        "headers": {"accept": "*/*", "user-agent": "curl/8.6.0", "host": "127.0.0.1:9080"},
        "size": 85,
    },
    "service_id": "",
    "route_id": "http-logger-route",
    "llm_summary": {
        "request_model": "gpt-4",
        "model": "gpt-4",
        "duration": 2858,
        "prompt_tokens": 23,
        "completion_tokens": 8,
        "total_tokens": 31,
        "upstream_response_time": 2858,
        "stream": "false",
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "reasoning_tokens": 0,
    },
}
# helm/core/templates/configmap.yaml of alibaba/higress, with the ai_log of ai-statistics/README_EN.md.
HIGRESS = {
    "ai_log": '{"model":"gpt-4o","input_token":"100","output_token":"50","reasoning_tokens":"25",'
    '"cached_tokens":"80","input_token_details":"{\\"cached_tokens\\":80}","output_token_details":"{\\"reasoning_tokens\\":25}",'
    '"llm_service_duration":"2000","consumer":"consumer1","response_type":"stream","chat_id":"chatcmpl-9"}',
    "authority": "example.com",
    "bytes_received": "105",
    "bytes_sent": "432",
    "duration": "2002",
    "method": "POST",
    "path": "/v1/chat/completions",
    "protocol": "HTTP/1.1",
    "request_id": "0e4d7a0c-0e6f-9f4c-8c5b-2f3b1a0d9e11",
    "response_code": "200",
    "response_flags": "-",
    "route_name": "ai-route-openai.internal",
    "start_time": "2026-11-23T15:00:00.123Z",
    "trace_id": "-",
    "upstream_cluster": "outbound|443||llm-openai.internal.dns",
    "upstream_host": "162.159.140.245:443",
    "response_code_details": "via_upstream",
}
# What LiteLLM 1.108 has posted of a call, without what is not read.
LITELLM = {
    "id": "chatcmpl-1",
    "litellm_call_id": "70a1cdc2-fa3f-4aaa-9282-056e6fd6aa4c",
    "trace_id": "6d2a320c-f933-4a4d-9d59-d08bb76b3063",
    "call_type": "acompletion",
    "cache_hit": None,
    "stream": None,
    "status": "success",
    "custom_llm_provider": "openai",
    "startTime": 1795984307.960538,
    "endTime": 1795984308.968580,
    "model": "openai/gpt-4o",
    "metadata": {
        "user_api_key_hash": "f" * 64,
        "user_api_key_alias": "alice",
        "user_api_key_team_id": "red",
        "user_api_key_end_user_id": "acme",
        "usage_object": {
            "completion_tokens": 20,
            "prompt_tokens": 16,
            "total_tokens": 36,
            "completion_tokens_details": None,
            "prompt_tokens_details": None,
        },
    },
    "prompt_tokens": 16,
    "completion_tokens": 20,
    "response_cost": 0.00024,
    "request_tags": ["job:7", "User-Agent: OpenAI"],
    "end_user": "acme",
    "model_group": "alias",
    "model_id": "ec3b04ba",
    "model_parameters": {"stream": False, "user": "acme"},
    "messages": [{"role": "user", "content": "A SECRET"}],
    "response": {"model": "alias", "choices": [{"message": {"content": "ANOTHER SECRET"}}]},
    "error_str": None,
    "error_information": None,
}


def openmeter(*records: Any, types: OpenMeterTypes | None = None, sender: Sender = SENDER) -> Translated:
    return translate_openmeter(list(records), types=types or declared_types(), sender=sender)


def access_log(*lines: Any, dialect: Dialect, sender: Sender = SENDER, **rules: Any) -> Translated:
    return translate_access_log(lines, dialect=dialect, rules=AccessLogRules(**rules), sender=sender)


def litellm(*payloads: Mapping[str, Any], sender: Sender = SENDER, **rules: Any) -> Translated:
    read = [msgspec.convert(each, Payload) for each in payloads]
    return translate_litellm(read, rules=LiteLLMRules(**rules), sender=sender)


def datas(translated: Translated) -> list[dict[str, Any]]:
    """The `data` of the events."""
    return [dict(each.event["data"]) for each in translated.events]  # type: ignore[call-overload]


def only_pair(translated: Translated) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `data` of the one start and the one end, of the same stream, and nothing was left out."""
    assert list(translated.left_out) == []
    start, end = translated.events
    assert (start.event["type"], end.event["type"]) == ("stream-start", "stream-end")
    began, ended = datas(translated)
    assert began.pop("stream_id") == ended.pop("stream_id")
    return began, ended


def reason(translated: Translated) -> str:
    """Why the one record was left out."""
    assert list(translated.events) == []
    [left] = translated.left_out
    return left.detail
