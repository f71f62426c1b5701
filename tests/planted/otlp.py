"""Faults in what becomes of OTLP's spans and log records."""

from tests.planted.fault import Fault

_CALLS = "tests/translations/test_otlp_calls.py::"
_USAGE = "tests/translations/test_otlp_usage.py::"
_STREAMS = "tests/translations/test_otlp_streams.py::"
_READING = "tests/translations/test_otlp_reading.py::"

OTLP = (
    Fault(
        "of spans within each other the outermost is billed, too",
        "metering/translations/otlp/families.py",
        "billed = with_usage - above(with_usage, parents)",
        "billed = with_usage",
        (f"{_CALLS}test_of_a_family_of_spans_each_call_is_billed_once",),
    ),
    Fault(
        "a server's span is billed beside the client's below it",
        "metering/translations/otlp/rules.py",
        "in self.kinds",
        'in (*self.kinds, "server")',
        (f"{_CALLS}test_a_servers_span_above_a_clients_is_passed_over_in_silence",),
    ),
    Fault(
        "two spans of one answer are two streams",
        "metering/translations/otlp/streams.py",
        "_UNIQUE_ID = 20",
        "_UNIQUE_ID = 2000",
        (f"{_STREAMS}test_two_spans_of_one_answer_in_one_trace_are_one_stream_even_in_two_requests",),
    ),
    Fault(
        "each attempt has a request hash of its own",
        "metering/translations/otlp/streams.py",
        '"\\0".join((call.record.trace_id, call.operation',
        '"\\0".join((call.record.trace_id, call.record.span_id, call.operation',
        (f"{_STREAMS}test_attempts_of_one_trace_have_one_request_hash_and_other_models_and_traces_another",),
    ),
    Fault(
        "the providers' rules are believed where the conventions say otherwise",
        "metering/translations/otlp/names.py",
        '    ("output_tokens",): (\n',
        '    ("completion_tokens",): (\n',
        (f"{_USAGE}test_a_part_is_added_only_where_it_is_shown_to_stand_beside",),
    ),
    Fault(
        "a negative number of protobuf is a huge one",
        "metering/translations/otlp/protobuf.py",
        "found = at - _WRAP if at & _SIGN else at",
        "found = at",
        (f"{_READING}test_spans_are_read_as_the_library_writes_them",),
    ),
)
