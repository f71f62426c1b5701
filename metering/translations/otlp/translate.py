"""OTLP requests to events: traces and logs, in protobuf and in JSON."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from metering.core.errors import MeteringError
from metering.events.events import Outcome
from metering.translations.otlp import json_body, protobuf
from metering.translations.otlp.calls import Call, call_of
from metering.translations.otlp.families import above, innermost
from metering.translations.otlp.records import Record
from metering.translations.otlp.rules import Rules
from metering.translations.otlp.streams import CannotBillError, events_of, outcome_of
from metering.translations.translated import LeftOut, Translated, TranslatedEvent

# Two events each, of the 10,000 that a request may have.
MAX_CALLS = 5_000

Read = Callable[..., list[Record]]


class TooManyCallsError(MeteringError):
    """The request has more calls to models than fit; nothing was stored."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count:,} calls to models in one request: send at most {MAX_CALLS:,} (max_export_batch_size of an "
            f"SDK, send_batch_max_size of a collector)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """What the key that posts is bound to: a customer, and a source; None if it is not."""

    customer_id: str | None = None
    source: str | None = None


def translate_traces(body: bytes, *, is_json: bool, rules: Rules, payer: Payer) -> Translated:
    """The events of an ExportTraceServiceRequest. Each span that is billed gives a stream-start and a stream-end.

    Raises:
        InvalidOtlpError: the body is none.
        TooManyFieldsError: it has too many fields.
        TooManyCallsError: it has more than 5,000 calls.
    """
    read: Read = json_body.read_traces if is_json else protobuf.read_traces
    records = read(body, names=rules.names)
    calls = [call for record in records if (call := call_of(record, rules)) is not None]
    return _translated(_without_families(calls, records), rules, payer)


def _without_families(calls: Sequence[Call], records: Sequence[Record]) -> list[Call]:
    """The calls without those that another one of the request, above or below, stands for."""
    parents = {
        record.key: record.key._replace(span_id=record.parent_id)
        for record in records
        if record.parent_id and record.parent_id != record.span_id
    }
    takable = [call for call in calls if call.refused is None]
    with_usage = {call.record.key for call in takable if call.has_usage}
    billed = innermost(
        calls={call.record.key: call.record.key in with_usage for call in takable},
        failed=frozenset(call.record.key for call in takable if outcome_of(call.record) is not Outcome.COMPLETED),
        parents=parents,
    )
    covered = above(with_usage, parents)
    return [
        call
        for call in calls
        if (call.record.key in billed if call.refused is None else call.record.key not in covered)
        or not call.record.span_id
    ]


def translate_logs(body: bytes, *, is_json: bool, rules: Rules, payer: Payer) -> Translated:
    """The events of an ExportLogsServiceRequest, likewise: of the event that has the attributes of a whole call.

    Raises:
        InvalidOtlpError: the body is none.
        TooManyFieldsError: it has too many fields.
        TooManyCallsError: it has more than 5,000 calls.
    """
    read: Read = json_body.read_logs if is_json else protobuf.read_logs
    records = read(body, names=rules.names)
    return _translated((call for each in records if (call := call_of(each, rules)) is not None), rules, payer)


def _translated(calls: Iterable[Call], rules: Rules, payer: Payer) -> Translated:
    events: list[TranslatedEvent] = []
    left_out: list[LeftOut] = []
    for call in calls:
        place = call.record.place
        try:
            if call.refused is not None:
                raise CannotBillError(call.refused)
            made = events_of(call, rules, customer_id=payer.customer_id, source=payer.source)
        except CannotBillError as error:
            left_out.append(LeftOut(record=place, id=call.record.span_id or None, detail=str(error)))
            continue
        events += (TranslatedEvent(record=place, event=event) for event in made)
    if len(events) > 2 * MAX_CALLS:
        raise TooManyCallsError(len(events) // 2)
    return Translated(events=events, left_out=left_out)
