"""The two events of a call: its stream-start at the begin of the span, and its stream-end at the end of it.

What a log record says of a call becomes the same facts as what its span says, whichever comes first, so that both
may be sent. A span and a log record of one call, and two spans of one answer within a trace, are one stream.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from metering.events.events import Inlet, Outcome, StreamEnd, StreamStart, UsageSource
from metering.translations.otlp.attributes import (
    MAX_ID,
    MAX_NAME,
    MAX_NOTE,
    first_flag,
    first_id,
    first_integer,
    first_text,
    first_texts,
    storable,
)
from metering.translations.otlp.calls import Call
from metering.translations.otlp.names import (
    ERROR_TYPE,
    FINISH_REASONS,
    FIRST_CHUNK,
    MAX_TOKENS,
    REQUEST_TIER,
    RESPONSE_ID,
    RESPONSE_MODEL,
    RESPONSE_TIER,
    SERVICE_NAME,
    STREAMING,
)
from metering.translations.otlp.parameters import parameters_of
from metering.translations.otlp.records import STATUS_ERROR, Record
from metering.translations.otlp.rules import Rules
from metering.translations.otlp.usage import usage_of

Event = Mapping[str, object]

MAX_TAGS = 16
_MAX_REASONS = 128
# An id of this many characters is unique. Some servers number their answers, or have a thousand ids in all.
_UNIQUE_ID = 20
_TRACE_ID, _SPAN_ID = re.compile(r"(?!0+$)[0-9a-f]{32}"), re.compile(r"(?!0+$)[0-9a-f]{16}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CANCELLED = re.compile(r"cancel|abort|generatorexit|disconnect|^499$", re.IGNORECASE)
_TIMED_OUT = re.compile(r"time_?d?_?-?out|deadline", re.IGNORECASE)
# The type of an exception at the begin of a status: `openai.NotFoundError: Error code: 404`.
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]{2,99}(?=:|$)")


class CannotBillError(Exception):
    """The call has no stream id, no time or no customer; the message says what is missing."""


def events_of(call: Call, rules: Rules, *, customer_id: str | None, source: str | None) -> tuple[Event, Event]:
    """The stream-start and the stream-end of a call. A `customer_id` and a `source` are those that the key has.

    Raises:
        CannotBillError: something is missing that no event can be without.
    """
    record = call.record
    customer = customer_id or _customer(record, rules)
    stream_id = stream_id_of(record)
    if not record.started_ns and not record.ended_ns:
        raise CannotBillError("the time is missing: the span has not ended, or the record has no timestamp")
    ended_at = _time(record.ended_ns or record.started_ns)
    started_at = min(_time(record.started_ns or record.ended_ns), ended_at)
    service = first_text(record.resource, (SERVICE_NAME,), most=MAX_NAME - len("/otlp/"))
    common = {
        "specversion": "1.0",
        "source": source or f"/otlp/{service or 'unknown'}",
        "subject": customer,
    }
    start, end = _start(call, rules), _end(call)
    return (
        {**common, "type": StreamStart.EVENT_TYPE, "id": f"{stream_id}:start", "time": started_at}
        | {"data": {"stream_id": stream_id, **start}},
        {**common, "type": StreamEnd.EVENT_TYPE, "id": f"{stream_id}:end", "time": ended_at}
        | {"data": {"stream_id": stream_id, **end}},
    )


def stream_id_of(record: Record) -> str:
    """The trace's id, with the id of the answer if that is unique, else with the span's.

    Raises:
        CannotBillError: the record has neither.
    """
    answer = first_text(record.attributes, RESPONSE_ID, most=MAX_NOTE) or ""
    has_trace = _TRACE_ID.fullmatch(record.trace_id) is not None
    if len(answer) >= _UNIQUE_ID:
        digest = blake2b(answer.encode(), digest_size=8 if has_trace else 16).hexdigest()
        return f"{record.trace_id}-{digest}" if has_trace else f"answer-{digest}"
    if not has_trace or _SPAN_ID.fullmatch(record.span_id) is None:
        raise CannotBillError("the ids of the trace and of the span are missing, or are not 32 and 16 hex digits")
    return f"{record.trace_id}-{record.span_id}"


def outcome_of(record: Record) -> Outcome:
    """How a call ended, as far as its span shows."""
    error = error_type_of(record)
    if error is None:
        return Outcome.COMPLETED
    if _CANCELLED.search(error):
        return Outcome.CANCELLED
    return Outcome.TIMED_OUT if _TIMED_OUT.search(error) else Outcome.FAILED


def error_type_of(record: Record) -> str | None:
    """The error that a call ended in; None if it ended in none."""
    named = first_text(record.attributes, (ERROR_TYPE,), most=MAX_NOTE)
    if named is not None or record.status != STATUS_ERROR:
        return named
    in_status = _EXCEPTION.match(record.status_message)
    raised = storable(record.exception or "", most=MAX_NOTE)
    return raised or (in_status[0] if in_status else "_OTHER")


def _customer(record: Record, rules: Rules) -> str:
    for attributes in (record.attributes, record.resource):
        customer = first_id(attributes, rules.customer)
        if customer is not None:
            if len(customer) > MAX_ID:
                raise CannotBillError(f"the customer's id has more than {MAX_ID} characters")
            return customer
    names = ", ".join(rules.customer)
    raise CannotBillError(f"no customer: none of {names} is set, of the span or the resource, nor has the key one")


def _start(call: Call, rules: Rules) -> dict[str, object]:
    record = call.record
    asked = parameters_of(record.attributes)
    streaming = first_flag(record.attributes, STREAMING)
    if streaming is None:
        streaming = asked.streams or FIRST_CHUNK in record.attributes
    limit = first_integer(record.attributes, MAX_TOKENS)
    tags = {name[:MAX_ID]: _either(record, (name,), most=MAX_NOTE) for name in rules.tags[:MAX_TAGS]}
    return _known(
        provider=call.provider,
        model=call.model,
        streaming=streaming,
        operation=call.operation,
        max_output_tokens=asked.limit if limit is None else limit,
        service_tier=first_text(record.attributes, REQUEST_TIER, most=MAX_NOTE) or asked.tier,
        api_key_id=_either(record, rules.api_key_id, most=MAX_ID),
        request_hash=_request_hash(call),
        tags={name: value for name, value in tags.items() if value is not None} or None,
        inlet=str(Inlet.OTLP),
    )


def _end(call: Call) -> dict[str, object]:
    record = call.record
    usage = usage_of(record.attributes, provider=call.provider)
    return _known(
        outcome=str(outcome_of(record)),
        usage=usage or None,
        usage_source=str(UsageSource.PROVIDER) if usage else None,
        finish_reasons=first_texts(record.attributes, FINISH_REASONS, most=_MAX_REASONS, each=MAX_ID) or None,
        response_model=first_text(record.attributes, RESPONSE_MODEL, most=MAX_NAME),
        response_id=first_text(record.attributes, RESPONSE_ID, most=MAX_NOTE),
        service_tier=first_text(record.attributes, RESPONSE_TIER, most=MAX_NOTE),
        error_type=error_type_of(record),
        inlet=str(Inlet.OTLP),
    )


def _request_hash(call: Call) -> str | None:
    """Equal for all attempts of a request: calls of one trace that ask the same of one model."""
    if not call.record.trace_id:
        return None
    request = "\0".join((call.record.trace_id, call.operation, call.provider, call.model))
    return f"otlp:{blake2b(request.encode(), digest_size=16).hexdigest()}"


def _either(record: Record, names: tuple[str, ...], *, most: int) -> str | None:
    """As the span says, or else its resource."""
    return first_text(record.attributes, names, most=most) or first_text(record.resource, names, most=most)


def _time(nanoseconds: int) -> str:
    """Cut to microseconds."""
    return (_EPOCH + timedelta(microseconds=nanoseconds // 1000)).isoformat()


def _known(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
