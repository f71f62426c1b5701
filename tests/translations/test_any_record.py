"""Whatever records are translated: each event that is made is a valid one, whatever came with it."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.events.wire.decode import decode_json
from metering.translations.access_log_apisix import APISIX
from metering.translations.access_log_envoy import ENVOY
from metering.translations.access_log_higress import HIGRESS
from metering.translations.litellm_payloads import Payload
from metering.translations.openmeter_types import declared_types
from metering.translations.translated import Translated
from tests.translations import records

NUMBERS = [-1, 1.5, 2**53, 2**53 - 1, 2**63, 10**400, 1e18, float("nan"), float("inf")]
TEXTS = [
    "",
    "-",
    "0",
    "7.0",
    "1e999",
    "\0",
    "\ud800",
    "x" * 300,
    ".",
    "..",
    "a\nb",
    "openai",
    "output",
    '{"model": 3}',
]
TIMES = ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-11-23T15:00:00.123456789+02:00"]
ODD = st.sampled_from([None, True, *NUMBERS, *TEXTS, *TIMES, [], [1], {}, {"a": {"b": []}}])
ANY = st.recursive(ODD | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
TYPES = declared_types('[types.counted.counters]\ntokens = "input_tokens"\nother = "reasoning_output_tokens"')

_READ = {field.encode_name for field in msgspec.structs.fields(Payload)}
_Translate = Callable[..., Translated]
RECORDS: dict[str, tuple[_Translate, dict[str, Any]]] = {
    "openmeter": (lambda *each: records.openmeter(*each, types=TYPES), records.OPENMETER),
    "counted": (
        lambda *each: records.openmeter(*each, types=TYPES),
        {**records.OPENMETER, "type": "counted", "data": {**records.KONG["data"], "other": 5, "stream_id": "s"}},
    ),
    "kong": (records.openmeter, records.KONG),
    "envoy": (lambda *each: records.access_log(*each, dialect=ENVOY), {**records.ENVOY, "customer_id": "acme"}),
    "apisix": (lambda *each: records.access_log(*each, dialect=APISIX), records.APISIX),
    "higress": (
        lambda *each: records.access_log(*each, dialect=HIGRESS),
        {**records.HIGRESS, "ai_log": json.loads(records.HIGRESS["ai_log"])},
    ),
    "litellm": (records.litellm, {name: each for name, each in records.LITELLM.items() if name in _READ}),
}


def paths(record: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The places of all values."""
    found = []
    for name, value in record.items():
        found.append((*above, name))
        if isinstance(value, dict):
            found += paths(value, (*above, name))
    return found


def changed(record: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, *rest = path
    inner = record.get(head)
    if rest and isinstance(inner, dict):
        return {**record, head: changed(inner, tuple(rest), value)}
    return {**record, head: value}


@pytest.mark.parametrize("name", RECORDS)
@given(data=st.data())
def test_each_event_of_a_record_with_odd_values_is_valid(name: str, data: st.DataObject) -> None:
    translate, record = RECORDS[name]
    for _ in range(data.draw(st.integers(1, 3))):
        record = changed(record, data.draw(st.sampled_from(paths(record))), data.draw(ANY))
    translated = translate(record, RECORDS[name][1])
    decoded = decode_json(msgspec.json.encode([each.event for each in translated.events]))
    assert list(decoded.rejections) == []
    assert list(decoded.warnings) == []
    # The other record is translated as if it were alone.
    assert [each.event for each in translated.events if each.record == 1] == [
        each.event for each in translate(RECORDS[name][1]).events
    ]
    msgspec.json.encode([(each.id, each.detail) for each in translated.left_out])
    assert all(each.detail for each in translated.left_out)
    assert translate(record) == translate(record)


@pytest.mark.parametrize("name", ["openmeter", "envoy", "apisix", "higress"])
@given(record=ANY)
def test_what_is_no_record_is_told_or_passed_over(name: str, record: Any) -> None:
    translated = RECORDS[name][0](record)
    assert list(translated.events) == []
    assert isinstance(record, dict) or len(translated.left_out) == 1
