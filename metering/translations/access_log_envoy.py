"""Access logs of Envoy: those of Envoy AI Gateway, and what Higress has in common with them.

The fields of Envoy AI Gateway: site/docs/capabilities/observability/accesslogs.md and
examples/access-log/basic.yaml of envoyproxy/ai-gateway. The metadata of cached tokens: `LLMRequestCosts` in
api/v1beta1/ai_gateway_route.go; `gen_ai.usage.cache_…` are the names of OpenTelemetry. Its input includes cached
tokens: api/v1beta1/shared_types.go prices `input_tokens - cached_input_tokens`. The name of a backend:
internal/internalapi/internalapi.go, `namespace/name/route/…`. Response flags: %RESPONSE_FLAGS% in Envoy's
"Access logging", and envoy/data/accesslog/v3/accesslog.proto.
"""

from datetime import timedelta

from metering.answers.usage import read_count
from metering.events.events import Outcome
from metering.translations.access_log import (
    Dialect,
    Line,
    Logged,
    openai_usage,
    outcome_of_status,
)
from metering.translations.completions import duration_of, time_of
from metering.translations.fields import first_count, first_name, first_text, note_of, text_at

_MILLISECOND = timedelta(milliseconds=1)

# The client went away: its connection ended, or it reset its stream.
_CANCELLED = frozenset({"DC", "DR", "DownstreamConnectionTermination", "DownstreamRemoteReset"})
# Upstream, idle, maximal and request time-outs.
_TIMED_OUT = frozenset(
    {"UT", "SI", "DT", "UMSDR", "UpstreamRequestTimeout", "StreamIdleTimeout", "DurationTimeout"}
    | {"UpstreamMaxStreamDurationReached"}
)
# These say how an answer was made, and not that it failed: a delay was injected, it came from a cache.
_HARMLESS = frozenset({"DI", "RFCF", "DelayInjected", "ResponseFromCacheFilter"})

_INPUT = ("gen_ai.usage.input_tokens", "llm_input_token")
_OUTPUT = ("gen_ai.usage.output_tokens", "llm_output_token")


def outcome_of(line: Line) -> tuple[Outcome, str | None]:
    """How a request ended, by its response flags and else by its status; and the type of its error."""
    flags = [flag for flag in (text_at(line, "response_flags") or "").split(",") if flag not in ("", "-")]
    telling = [flag for flag in flags if flag not in _HARMLESS]
    status = read_count(text_at(line, "response_code"))
    if not _CANCELLED.isdisjoint(telling) or status == 0:
        # No response was begun, which generally means that the client has left (%RESPONSE_CODE%).
        return Outcome.CANCELLED, None
    if not _TIMED_OUT.isdisjoint(telling):
        return Outcome.TIMED_OUT, note_of(",".join(telling))
    if telling:
        return Outcome.FAILED, note_of(",".join(telling))
    outcome = outcome_of_status(status)
    return outcome, f"http_{status}" if outcome in (Outcome.FAILED, Outcome.TIMED_OUT) else None


def is_refusal(line: Line, usage: object) -> bool:
    """Whether an error was answered and nothing was used: such as a 429, which is no completion."""
    return not usage and (read_count(text_at(line, "response_code")) or 0) >= 400


def _backends(name: str | None) -> tuple[str, ...]:
    """What a backend may be called in the settings: in full, with its namespace, and by its name.

    >>> _backends("default/tars/route/aigw-run/rule/0/ref/0")
    ('default/tars/route/aigw-run/rule/0/ref/0', 'default/tars', 'tars')
    """
    if name is None:
        return ()
    parts = name.split("/")
    return (name,) if len(parts) < 2 else tuple(dict.fromkeys((name, "/".join(parts[:2]), parts[1])))


def _read(line: Line) -> Logged | None:
    usage = openai_usage(
        input_=first_count(line, *_INPUT),
        output=first_count(line, *_OUTPUT),
        cached=first_count(line, "gen_ai.usage.cache_read.input_tokens", "llm_cached_input_token"),
        written=first_count(line, "gen_ai.usage.cache_creation.input_tokens", "llm_cache_creation_input_token"),
        reasoning=first_count(line, "gen_ai.usage.reasoning_tokens", "llm_reasoning_token"),
    )
    model = first_name(line, "gen_ai.request.model_override", "gen_ai.request.model")
    if (model is None and not usage) or is_refusal(line, usage):
        return None
    outcome, error_type = outcome_of(line)
    upstreams = _backends(first_text(line, "gen_ai.provider.name", "gen_ai.system"))
    return Logged(
        model=model,
        usage=usage,
        started_at=time_of(text_at(line, "start_time")),
        took=duration_of(text_at(line, "duration"), unit=_MILLISECOND),
        outcome=outcome,
        error_type=error_type,
        request_id=first_text(line, "x-request-id", "request_id"),
        upstreams=upstreams,
        backend=upstreams[-1] if upstreams else None,
        path=first_text(line, "x-envoy-origin-path", "request.path", "path") or "",
        response_model=first_name(line, "gen_ai.response.model"),
    )


ENVOY = Dialect(
    name="envoy",
    read=_read,
    customer=("customer_id", "x-customer-id", "x-tenant-id", "x-user-id", "user.id"),
    model_field="gen_ai.request.model",
    time_field="start_time",
    provider_field="gen_ai.provider.name",
    usage_field="gen_ai.usage.input_tokens, gen_ai.usage.output_tokens",
)
