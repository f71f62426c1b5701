"""Which records are calls to a model, decided by each record alone.

Agents, chains, workflows and tools carry the sums of the calls below them: they are passed over, and so is all
that has nothing to do with models. What looks like a call and cannot be billed is left out, with the reason.
"""

from dataclasses import dataclass

from metering.translations.otlp.attributes import MAX_ID, MAX_NAME, first_flag, first_text
from metering.translations.otlp.names import (
    AGENT,
    CACHE_HIT,
    OPENINFERENCE_KIND,
    OPERATION,
    PROVIDER,
    PROVIDERS,
    REQUEST_MODEL,
    TRACELOOP_KIND,
    USAGE,
)
from metering.translations.otlp.parameters import parameters_of
from metering.translations.otlp.records import KINDS, Record
from metering.translations.otlp.rules import Rules

# The event that has all attributes of the span of a call. Events about messages and choices have no usage.
CALL_EVENTS = frozenset({"gen_ai.client.inference.operation.details"})

_CALLS = {
    "chat": "chat",
    "completion": "text_completion",
    "text_completion": "text_completion",
    "generate_content": "generate_content",
    "messages": "messages",
    "responses": "responses",
    "embedding": "embeddings",
    "embeddings": "embeddings",
    "rerank": "rerank",
    "moderation": "moderation",
    "image_generation": "image_generation",
    "speech": "speech",
    "transcription": "transcription",
}
_NO_CALLS = frozenset(
    {
        *("create_agent", "invoke_agent", "execute_tool", "invoke_workflow", "retrieval", "plan"),
        *("search_memory", "create_memory", "update_memory", "upsert_memory", "delete_memory"),
        *("create_memory_store", "delete_memory_store"),
    }
)
_OF_OPENINFERENCE = {"LLM": "chat", "EMBEDDING": "embeddings", "RERANKER": "rerank"}
_USAGE_NAMES = frozenset(name for names in USAGE.values() for name in names)
_AGENT_NAMES = frozenset(AGENT)
_UNKNOWN_PROVIDER = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A record of a call: what was asked of whom. `refused` says why it cannot be billed; None if it can."""

    record: Record
    operation: str
    provider: str
    model: str
    has_usage: bool
    refused: str | None = None


def call_of(record: Record, rules: Rules) -> Call | None:
    """The call that a record describes; None if it is passed over."""
    attributes = record.attributes
    if not attributes or (record.event_name is not None and record.event_name not in CALL_EVENTS):
        return None
    has_usage = not _USAGE_NAMES.isdisjoint(attributes)
    operation = _operation(record, has_usage=has_usage)
    if operation is None or not rules.takes_scope(record.scope) or first_flag(attributes, (CACHE_HIT,)):
        return None
    provider = (first_text(attributes, PROVIDER, most=MAX_ID) or _UNKNOWN_PROVIDER).lower()
    model = first_text(attributes, REQUEST_MODEL, most=MAX_NAME) or parameters_of(attributes).model_name
    refused = _refused(record, rules, operation, model)
    # What failed before it had a model, a usage or a kind that counts would be billed nothing.
    if refused is not None and not has_usage:
        return None
    return Call(
        record=record,
        operation=operation,
        provider=PROVIDERS.get(provider, provider),
        model=model or "",
        has_usage=has_usage,
        refused=refused,
    )


def _operation(record: Record, *, has_usage: bool) -> str | None:
    """What the call does, which may be a name that is not known; None if it is no call."""
    attributes = record.attributes
    kind = first_text(attributes, (OPENINFERENCE_KIND,), most=MAX_ID)
    if kind is not None:
        return _OF_OPENINFERENCE.get(kind.upper())
    if TRACELOOP_KIND in attributes:
        return None
    named = first_text(attributes, OPERATION, most=MAX_ID)
    if named is not None:
        named = named.lower()
        return None if named in _NO_CALLS else _CALLS.get(named, named)
    # Older instrumentations name no operation. An agent's sum has no model, or the agent's name.
    is_call = (
        has_usage and first_text(attributes, REQUEST_MODEL, most=MAX_NAME) and _AGENT_NAMES.isdisjoint(attributes)
    )
    return "chat" if is_call else None


def _refused(record: Record, rules: Rules, operation: str, model: str | None) -> str | None:
    if operation not in _CALLS.values():
        return f"gen_ai.operation.name: {operation[:60]!r} is not known as a call to a model"
    if model is None:
        return "gen_ai.request.model: missing, nor is there another name of the model"
    if record.event_name is None and not rules.takes_kind(record.kind):
        kind = KINDS.get(record.kind, str(record.kind))
        return f"kind: spans of the kind {kind} are not billed unless METERING_OTLP_SPAN_KINDS names it"
    return None
