"""Lines of gateways' access logs: what all dialects have in common.

A log line is written when a request is over. It knows the tokens that the upstream has reported until then, and
not what a stream had delivered when it was cut: upstreams report their usage at the end. A line that reports no
completion, such as that of a health check, is passed over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from metering.answers.json_reading import read_json
from metering.answers.usage import counters, usage_parts
from metering.events.events import Inlet, Outcome, UsageSource
from metering.translations.completions import Completion, Sender, identifier, stream_id_of, time_later, usage_of
from metering.translations.fields import id_of, text_at
from metering.translations.translated import LeftOut, Translated, TranslatedEvent

Line = Mapping[str, Any]

_SOURCE = "/access-log"
_MAX_PROVIDERS = 1_000
# Where dialects have the id of a request.
_IDS = ("request_id", "x-request-id", "apisix_request_id")
# Hosts of providers, as far as their name does not show them.
_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "generativelanguage.googleapis.com": "google",
    "openrouter.ai": "openrouter",
}
_HOSTS_ENDING = {
    ".openai.azure.com": "azure",
    ".amazonaws.com": "aws",
    "-aiplatform.googleapis.com": "google",
}
# The ends of paths, as OpenAI and Anthropic have them.
_OPERATIONS = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/embeddings": "embeddings",
    "/messages": "messages",
    "/moderations": "moderation",
    "/rerank": "rerank",
    "/responses": "responses",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogRules:
    """Settings: the fields in which the customer stands, in the order in which they are tried, and providers.

    `providers` has the provider of an upstream, by its name in the log: a host, a backend, a cluster or a route.
    """

    customer: tuple[str, ...] = ()
    providers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What a dialect reads of a line. `usage` has OpenAI's names.

    `upstreams` is what the settings may call the upstream, best first. `backend` is its name, which is taken for
    the provider's where nothing else is known.
    """

    model: str | None
    usage: Mapping[str, object]
    started_at: datetime | None
    took: timedelta | None
    outcome: Outcome
    error_type: str | None = None
    ended_at: datetime | None = None
    request_id: str | None = None
    provider: str | None = None
    upstreams: Sequence[str] = ()
    backend: str | None = None
    path: str = ""
    streaming: bool = True
    response_model: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A gateway's log: how a line is read (None: it reports no completion), and where each thing stands.

    `opened` makes objects of texts that hold one.
    """

    name: str
    read: Callable[[Line], Logged | None]
    customer: tuple[str, ...]
    model_field: str
    time_field: str
    provider_field: str
    usage_field: str
    opened: Callable[[Line], Line] = lambda line: line


class _UnusableError(ValueError):
    """A line that reports a completion, but lacks a part of it; the message says which field, and the fix."""


def translate_access_log(
    lines: Sequence[Any], *, dialect: Dialect, rules: AccessLogRules, sender: Sender
) -> Translated:
    """The completions that log lines report."""
    events: list[TranslatedEvent] = []
    left_out: list[LeftOut] = []
    for record, line in enumerate(lines):
        try:
            if not isinstance(line, dict):
                raise _UnusableError("expected a log line as a JSON object")
            line = dialect.opened(line)
            logged = dialect.read(line)
            if logged is not None:
                events += _completion(line, logged, dialect, rules, sender).events(record)
        except _UnusableError as error:
            left_out.append(LeftOut(record=record, id=id_of(line, *_IDS), detail=str(error)))
    return Translated(events=events, left_out=left_out)


def _completion(line: Line, logged: Logged, dialect: Dialect, rules: AccessLogRules, sender: Sender) -> Completion:
    if logged.model is None:
        raise _UnusableError(f"{dialect.model_field}: missing: log the model")
    customer_id = sender.customer_id or _customer(line, rules.customer or dialect.customer)
    if customer_id is None:
        tried = ", ".join(rules.customer or dialect.customer)
        raise _UnusableError(
            f"{tried}: no customer: log one of these fields, set METERING_ACCESS_LOG_CUSTOMER, "
            "or post with a key that is bound to a customer"
        )
    provider = logged.provider or _provider(logged, rules.providers)
    if provider is None:
        raise _UnusableError(
            f"{dialect.provider_field}: no provider is known by it: log it, or set METERING_ACCESS_LOG_PROVIDERS"
        )
    if logged.started_at is None:
        raise _UnusableError(f"{dialect.time_field}: expected the time of the request")
    usage, _ = usage_of(counters(usage_parts({"usage": dict(logged.usage)}), provider=provider))
    if usage is None and logged.outcome is Outcome.COMPLETED:
        raise _UnusableError(
            f"{dialect.usage_field}: no tokens: the stream was cut, or the upstream reports no usage; "
            "have the gateway ask for it (stream_options.include_usage)"
        )
    return Completion(
        customer_id=customer_id,
        stream_id=_stream_id(line, logged, dialect.name),
        source=sender.source or f"{_SOURCE}/{dialect.name}",
        inlet=Inlet.ACCESS_LOG,
        provider=provider,
        model=logged.model,
        started_at=logged.started_at,
        ended_at=_ended_at(logged, logged.started_at),
        outcome=logged.outcome,
        usage=usage,
        usage_source=UsageSource.PROVIDER,
        streaming=logged.streaming,
        operation=_operation(logged.path),
        response_model=logged.response_model,
        response_id=logged.response_id,
        error_type=logged.error_type,
    )


def _ended_at(logged: Logged, started_at: datetime) -> datetime:
    if logged.ended_at is not None:
        return logged.ended_at
    return time_later(started_at, logged.took or timedelta(0)) or started_at


def _stream_id(line: Line, logged: Logged, dialect: str) -> str:
    """By the request's id and its time, because clients may choose the id; else by the whole line."""
    if logged.request_id is not None:
        return stream_id_of(Inlet.ACCESS_LOG, logged.request_id, dialect, logged.started_at)
    return stream_id_of(Inlet.ACCESS_LOG, "", dialect, sorted(_plain(line)))


def _plain(line: Line) -> Iterator[str]:
    """The plain values of a line and of the objects in it."""
    for name, value in line.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        yield from (repr((name, *each)) for each in inner if not isinstance(each[1], dict | list))


def _customer(line: Line, fields: Sequence[str]) -> str | None:
    found = (identifier(value) for name in fields if (value := text_at(line, name)) is not None)
    return next((customer for customer in found if customer is not None), None)


def _provider(logged: Logged, providers: Mapping[str, str]) -> str | None:
    """The provider of the first upstream that is known: by the settings, by its host, or by the backend's name."""
    for name in logged.upstreams:
        if name.lower() in providers:
            return providers[name.lower()]
    for name in logged.upstreams:
        host = name.lower()
        ending = next((end for end in _HOSTS_ENDING if host.endswith(end)), None)
        if host in _HOSTS or ending is not None:
            return _HOSTS.get(host) or _HOSTS_ENDING[ending or ""]
    return identifier(logged.backend)


def _operation(path: str) -> str:
    path = path.partition("?")[0].rstrip("/")
    return next((name for end, name in _OPERATIONS.items() if path.endswith(end)), "chat")


def outcome_of_status(status: int | None) -> Outcome:
    """How a request ended, by its HTTP status; a client that has left is 499, as nginx has it."""
    if status is None or 200 <= status < 300:
        return Outcome.COMPLETED
    return {499: Outcome.CANCELLED, 408: Outcome.TIMED_OUT, 504: Outcome.TIMED_OUT}.get(status, Outcome.FAILED)


def openai_usage(
    *, input_: int | None, output: int | None, cached: int | None, written: int | None, reasoning: int | None
) -> dict[str, object]:
    """A usage object with OpenAI's names, of the counts that are known."""
    known = {"prompt_tokens": input_, "completion_tokens": output}
    usage: dict[str, object] = {name: count for name, count in known.items() if count is not None}
    if cached is not None or written is not None:
        details = {"cached_tokens": cached, "cache_creation_tokens": written}
        usage["prompt_tokens_details"] = {name: count for name, count in details.items() if count is not None}
    if reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage


def read_lines(body: bytes) -> list[Any]:
    """The lines of a body: an array, one object, or one a line. A line that is no JSON stands as its text.

    >>> read_lines(b'{"a": 1}\\nno JSON')
    [{'a': 1}, 'no JSON']
    """
    try:
        found = read_json(body)
        return found if isinstance(found, list) else [found]
    except ValueError:
        return list(_each_line(body))


def _each_line(body: bytes) -> Iterator[Any]:
    for line in body.split(b"\n"):
        if line.strip():
            try:
                yield read_json(line)
            except ValueError:
                yield line.decode(errors="replace")


def read_providers(text: str) -> dict[str, str]:
    """Providers of upstreams, written as `upstream=provider` and separated by commas.

    Raises:
        ValueError: a part is none; the message shows it.

    >>> read_providers("default/tars=openrouter, llm-aliyun=alibaba")
    {'default/tars': 'openrouter', 'llm-aliyun': 'alibaba'}
    """
    found: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        upstream, equals, provider = part.rpartition("=")
        if not equals or not upstream.strip() or identifier(provider.strip()) is None:
            raise ValueError(f"expected upstream=provider, got {part!r}")
        found[upstream.strip().lower()] = provider.strip()
    if len(found) > _MAX_PROVIDERS:
        raise ValueError(f"expected at most {_MAX_PROVIDERS} upstreams, got {len(found)}")
    return found
