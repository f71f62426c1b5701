"""Logs of Apache APISIX, as its plugin http-logger posts them, of requests through ai-proxy.

The entry: `get_full_log` in apisix/utils/log-util.lua of apache/apisix, and docs/en/latest/plugins/http-logger.md.
`llm_summary`, with `logging.summaries`: apisix/plugins/ai-proxy/base.lua. The variables of own formats, such as
`$llm_prompt_tokens`: docs/en/latest/plugins/ai-proxy.md. They begin as '0' (apisix/cli/ngx_tpl.lua), so two zeros
are an unknown usage. Of Anthropic's messages, the input is without the cache
(apisix/plugins/ai-protocols/anthropic-messages.lua).
"""

from datetime import datetime, timedelta

from metering.answers.usage import read_count
from metering.events.events import Outcome
from metering.translations.access_log import (
    Dialect,
    Line,
    Logged,
    openai_usage,
    outcome_of_status,
)
from metering.translations.completions import duration_of, identifier, time_after_epoch, time_later, time_of
from metering.translations.fields import first_count, first_name, first_text, value_at

_MILLISECOND, _SECOND = timedelta(milliseconds=1), timedelta(seconds=1)

_REQUEST_IDS = (
    "request_id",
    "apisix_request_id",
    "response.headers.x-request-id",
    "request.headers.x-request-id",
)


def _usage(line: Line, path: str) -> dict[str, object]:
    entered = first_count(line, "llm_summary.prompt_tokens", "llm_prompt_tokens", "prompt_tokens")
    left = first_count(line, "llm_summary.completion_tokens", "llm_completion_tokens", "completion_tokens")
    if not entered and not left:
        return {}
    cached = first_count(line, "llm_summary.cache_read_input_tokens", "llm_cache_read_input_tokens")
    written = first_count(line, "llm_summary.cache_creation_input_tokens", "llm_cache_creation_input_tokens")
    reasoning = first_count(line, "llm_summary.reasoning_tokens", "llm_reasoning_tokens")
    if path.partition("?")[0].rstrip("/").endswith("/messages") and entered is not None:
        entered += (cached or 0) + (written or 0)
    return openai_usage(input_=entered, output=left, cached=cached, written=written, reasoning=reasoning)


def _times(line: Line) -> tuple[datetime | None, datetime | None, timedelta | None]:
    """When a request began and ended, and how long it took: by the whole entry, or by an own format's fields."""
    began = time_after_epoch(value_at(line, "start_time"), unit=_MILLISECOND)
    if began is not None:
        return began, None, duration_of(value_at(line, "latency"), unit=_MILLISECOND)
    ended = time_of(first_text(line, "@timestamp", "time_iso8601", "timestamp"))
    took = duration_of(value_at(line, "request_time"), unit=_SECOND) or timedelta(0)
    began = None if ended is None else time_later(ended, -took)
    return began or ended, ended, took


def _read(line: Line) -> Logged | None:
    path = first_text(line, "request.uri", "uri", "request_uri") or ""
    usage = _usage(line, path)
    model = first_name(line, "llm_summary.model", "llm_model", "llm_summary.request_model", "request_llm_model")
    status = read_count(value_at(line, "response.status") or value_at(line, "status"))
    if not usage and (model is None or ((status or 0) >= 400 and status != 499)):
        return None
    began, ended, took = _times(line)
    outcome = outcome_of_status(status)
    streams = first_text(line, "llm_summary.stream", "llm_stream", "request_type")
    return Logged(
        model=model,
        usage=usage,
        started_at=began,
        ended_at=ended,
        took=took,
        outcome=outcome,
        error_type=f"http_{status}" if outcome in (Outcome.FAILED, Outcome.TIMED_OUT) else None,
        request_id=first_text(line, *_REQUEST_IDS),
        provider=identifier(first_text(line, "llm_provider", "provider")),
        upstreams=[name for name in (first_text(line, "route_id"), _host(line)) if name is not None],
        path=path,
        streaming=streams not in ("false", "ai_chat"),
    )


def _host(line: Line) -> str | None:
    """The upstream's host, without its port; of several that were tried, the last."""
    upstream = first_text(line, "upstream_host", "upstream", "upstream_addr")
    return None if upstream is None else upstream.rpartition(",")[2].strip().partition(":")[0] or None


APISIX = Dialect(
    name="apisix",
    read=_read,
    customer=("customer_id", "consumer.username", "consumer_name"),
    model_field="llm_summary.model",
    time_field="start_time",
    provider_field="llm_provider",
    usage_field="llm_summary.prompt_tokens, llm_summary.completion_tokens",
)
