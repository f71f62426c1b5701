"""Faults in the ways in for other gateways."""

from tests.planted.fault import Fault

_OPENMETER = "tests/translations/test_openmeter.py::"
_LOGS = "tests/translations/test_access_log.py::"
_LITELLM = "tests/translations/test_litellm_payloads.py::"
_POSTED = "tests/inlets/test_posted_records.py::"

INLETS = (
    Fault(
        "each event of a completion that is shared is a whole stream",
        "metering/translations/openmeter.py",
        '    if side == "output_tokens":\n',
        '    if side == "never":\n',
        (f"{_OPENMETER}test_events_that_name_their_completion_are_one_stream_in_any_order",),
    ),
    Fault(
        "the source of an event does not tell it from another",
        "metering/translations/openmeter.py",
        'text_at(document, "source"), side)',
        "side)",
        (f"{_OPENMETER}test_the_same_event_is_the_same_stream_and_any_other_is_another",),
    ),
    Fault(
        "a client that has left a gateway has completed",
        "metering/translations/access_log_envoy.py",
        "if not _CANCELLED.isdisjoint(telling) or status == 0:",
        "if status == 0:",
        (f"{_LOGS}test_how_a_request_of_envoy_ended_is_known_by_its_flags_and_its_status",),
    ),
    Fault(
        "tokens that APISIX does not know are none",
        "metering/translations/access_log_apisix.py",
        "if not entered and not left:",
        "if entered is None and left is None:",
        (f"{_LOGS}test_zeros_of_apisix_are_no_usage",),
    ),
    Fault(
        "what LiteLLM has counted itself is called the provider's",
        "metering/translations/litellm_payloads.py",
        "is_whole = outcome is Outcome.COMPLETED and payload.stream is not True",
        "is_whole = outcome is Outcome.COMPLETED",
        (f"{_LITELLM}test_what_may_be_litellms_own_count_is_an_estimate",),
    ),
    Fault(
        "an answer of LiteLLM's cache is billed",
        "metering/translations/litellm_payloads.py",
        "    if payload.cache_hit is True:\n",
        "    if payload.cache_hit is False:\n",
        (f"{_LITELLM}test_an_answer_of_the_cache_and_calls_without_a_model_are_no_streams",),
    ),
    Fault(
        "attempts of LiteLLM at one request are one stream",
        "metering/translations/litellm_payloads.py",
        "own_id, payload.start, model)",
        'own_id or "")',
        (f"{_LITELLM}test_attempts_at_one_request_are_streams_with_one_hash",),
    ),
    Fault(
        "records that are left out are not counted where others are accepted",
        "metering/api/ingest.py",
        "        if taken.left_out:\n",
        "        if taken.left_out and submission is None:\n",
        (f"{_POSTED}test_what_is_left_out_is_counted_and_logged_by_key_and_inlet",),
    ),
)
