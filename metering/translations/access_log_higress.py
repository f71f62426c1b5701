"""Access logs of Higress, with what its plugin ai-statistics writes into `ai_log`.

The format: `accessLogFormat` in helm/core/templates/configmap.yaml of alibaba/higress. The fields of `ai_log`:
plugins/wasm-go/extensions/ai-statistics/README_EN.md and main.go; counts are text. Prompts and answers, which the
plugin can log, too, are not read.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from metering.answers.json_reading import decode_object
from metering.translations.access_log import (
    Dialect,
    Line,
    Logged,
    openai_usage,
)
from metering.translations.access_log_envoy import is_refusal, outcome_of
from metering.translations.completions import duration_of, time_of
from metering.translations.fields import first_count, first_name, first_text, note_of, text_at

_MILLISECOND = timedelta(milliseconds=1)
_LOG = "ai_log"
_SERVICE = "llm-"


def _object(value: object) -> Mapping[str, Any]:
    """An object, or the one that a text holds; empty where there is none."""
    if isinstance(value, str):
        value = decode_object(value.encode(errors="replace"))
    return value if isinstance(value, dict) else {}


def _opened(line: Line) -> Line:
    return {**line, _LOG: _object(line.get(_LOG))}


def _upstreams(cluster: str | None) -> tuple[str, ...]:
    """What an upstream may be called in the settings: its cluster, its service, and the name of its provider.

    >>> _upstreams("outbound|443||llm-aliyun.internal.dns")
    ('outbound|443||llm-aliyun.internal.dns', 'llm-aliyun.internal.dns', 'llm-aliyun', 'aliyun')
    """
    if cluster is None:
        return ()
    service = cluster.rpartition("|")[2]
    name = service.partition(".")[0]
    return tuple(dict.fromkeys((cluster, service, name, name.removeprefix(_SERVICE))))


def _read(line: Line) -> Logged | None:
    log: Mapping[str, Any] = line[_LOG]
    entered, left = _object(log.get("input_token_details")), _object(log.get("output_token_details"))
    usage = openai_usage(
        input_=first_count(log, "input_token"),
        output=first_count(log, "output_token"),
        cached=first_count({**entered, **log}, "cached_tokens"),
        written=first_count(entered, "cache_creation_input_tokens"),
        reasoning=first_count({**left, **log}, "reasoning_tokens"),
    )
    model = first_name(log, "model")
    if (model in (None, "unknown") and not usage) or is_refusal(line, usage):
        return None
    outcome, error_type = outcome_of(line)
    upstreams = _upstreams(text_at(line, "upstream_cluster"))
    return Logged(
        model=model,
        usage=usage,
        started_at=time_of(text_at(line, "start_time")),
        took=duration_of(text_at(line, "duration"), unit=_MILLISECOND),
        outcome=outcome,
        error_type=error_type,
        request_id=first_text(line, "request_id", "x-request-id"),
        upstreams=upstreams,
        backend=upstreams[-1] if upstreams else None,
        path=text_at(line, "path") or "",
        streaming=log.get("response_type") != "normal",
        response_id=note_of(log.get("chat_id")),
    )


HIGRESS = Dialect(
    name="higress",
    read=_read,
    customer=("customer_id", "consumer", "ai_log.consumer"),
    model_field="ai_log.model",
    time_field="start_time",
    provider_field="upstream_cluster",
    usage_field="ai_log.input_token, ai_log.output_token",
    opened=_opened,
)
