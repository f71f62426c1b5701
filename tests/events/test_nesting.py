"""How counters nest: no token is lost and none is billed twice, whatever the counters say of each other."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from metering.events.nesting import input_size, parts_of, read_usage
from metering.events.usage import COUNTERS, TIMED_COUNTERS, USUAL_COUNTERS, Usage, UsageKind

SMALL = st.none() | st.integers(0, 40)
SECONDS = st.none() | st.decimals(0, 40, places=3)
USAGES = st.builds(Usage, **{name: SECONDS if name in TIMED_COUNTERS else SMALL for name in COUNTERS})
# Nearly all usage has only these counters, which are read and parted in a quicker way.
USUAL_USAGES = st.builds(Usage, **dict.fromkeys(COUNTERS[:USUAL_COUNTERS], SMALL))
INPUT = ("input", "cache_read", "cache_read_audio", "cache_read_image", "cache_write", "cache_write_1h",
         "input_audio", "input_image", "input_video")  # fmt: skip
OUTPUT = ("output", "reasoning", "citation", "output_audio", "output_image", "output_video")


def parts(usage: Usage) -> dict[str, object]:
    return {part.kind.value: part.quantity for part in parts_of(read_usage(usage).usage)}


@given(USUAL_USAGES | USAGES)
@example(Usage(input_tokens=10, cache_write_input_tokens=4))
def test_the_parts_of_a_known_whole_add_up_to_it(usage: Usage) -> None:
    read = read_usage(usage).usage
    found = parts_of(read)
    assert all(part.quantity > 0 for part in found)
    for kinds, whole in ((INPUT, read.input_tokens), (OUTPUT, read.output_tokens)):
        if whole is not None:
            assert sum(part.quantity for part in found if part.kind in kinds) == whole


@given(USUAL_USAGES | USAGES)
def test_no_counter_loses_a_token(usage: Usage) -> None:
    """Each nested counter is there in full: in its own parts and those that are nested in it."""
    found = parts(usage)
    within = {
        "cache_write_input_tokens": ("cache_write", "cache_write_1h"),
        "cache_read_input_tokens": ("cache_read", "cache_read_audio", "cache_read_image"),
        "cache_write_1h_input_tokens": ("cache_write_1h",),
        "reasoning_output_tokens": ("reasoning",),
        "output_audio_tokens": ("output_audio",),
        "citation_output_tokens": ("citation",),
        "web_searches": ("web_searches",),
        "input_audio_seconds": ("input_audio_seconds",),
    }
    for counter, kinds in within.items():
        told = getattr(usage, counter) or 0
        assert sum(found.get(kind, 0) for kind in kinds) >= told  # type: ignore[misc]


@given(USUAL_USAGES | USAGES)
def test_a_reading_reads_as_itself_and_never_lessens_a_counter(usage: Usage) -> None:
    reading = read_usage(usage)
    assert read_usage(reading.usage).usage == reading.usage
    assert read_usage(reading.usage).faults == ()
    assert bool(reading.faults) == (reading.usage != usage)
    for before, after in zip(usage.counts(), reading.usage.counts(), strict=True):
        assert (before is None) == (after is None)
        assert after is None or before is None or after >= before


@given(USUAL_USAGES | USAGES)
def test_the_size_of_the_input_is_what_its_parts_add_up_to(usage: Usage) -> None:
    read = read_usage(usage).usage
    assert input_size(read) == sum(part.quantity for part in parts_of(read) if part.kind in INPUT)


@pytest.mark.parametrize(
    ("usage", "whole", "value"),
    [
        (Usage(output_tokens=1499, reasoning_output_tokens=2809), "output_tokens", 4308),
        (Usage(input_tokens=19, cache_read_input_tokens=39_000), "input_tokens", 39_019),
        (Usage(input_tokens=20, cache_read_input_tokens=15, cache_write_input_tokens=10), "input_tokens", 45),
        (Usage(input_tokens=20, input_audio_tokens=30), "input_tokens", 50),
        (Usage(output_tokens=100, reasoning_output_tokens=80, output_audio_tokens=50), "output_tokens", 180),
        (Usage(output_tokens=100, output_audio_tokens=150, reasoning_output_tokens=30), "output_tokens", 250),
        (Usage(cache_write_input_tokens=5, cache_write_1h_input_tokens=9), "cache_write_input_tokens", 14),
        (Usage(cache_read_input_tokens=5, cache_read_input_audio_tokens=9), "cache_read_input_tokens", 14),
        (Usage(input_tokens=3, cache_write_1h_input_tokens=9), "input_tokens", 12),
        (Usage(audio_seconds=Decimal(2), input_audio_seconds=Decimal("2.5")), "audio_seconds", Decimal("4.5")),
        (Usage(input_document_pages=2, input_annotated_document_pages=3), "input_document_pages", 5),
    ],
)
def test_what_does_not_fit_its_whole_stands_beside_it(usage: Usage, whole: str, value: object) -> None:
    reading = read_usage(usage)
    assert getattr(reading.usage, whole) == value
    assert structs.replace(reading.usage, **{whole: getattr(usage, whole)}) == usage
    assert len(reading.faults) == 1
    assert f"read as {whole} {value}" in reading.faults[0]


def test_a_fault_names_both_counters() -> None:
    (fault,) = read_usage(Usage(output_tokens=1499, reasoning_output_tokens=2809)).faults
    assert fault == "reasoning_output_tokens 2809 exceeds output_tokens 1499: read as output_tokens 4308"


def test_cached_audio_is_in_the_cache_and_in_the_audio() -> None:
    usage = Usage(
        input_tokens=1000,
        input_audio_tokens=800,
        cache_read_input_tokens=900,
        cache_read_input_audio_tokens=700,
    )
    expected = {"cache_read": 200, "cache_read_audio": 700, "input_audio": 100}
    assert parts(usage) == expected
    assert read_usage(usage).faults == ()
    # Without that counter, the numbers leave no other way.
    assert parts(structs.replace(usage, cache_read_input_audio_tokens=None)) == expected


def test_video_that_was_cached_is_counted_once() -> None:
    usage = Usage(input_tokens=100, input_video_tokens=60, cache_read_input_tokens=60)
    assert parts(usage) == {"cache_read": 60, "input_video": 40}


def test_a_whole_that_is_unknown_is_its_parts() -> None:
    assert parts(Usage(cache_read_input_audio_tokens=7)) == {"cache_read_audio": 7}
    assert parts(Usage(reasoning_output_tokens=9)) == {"reasoning": 9}
    assert parts(Usage(input_annotated_document_pages=4)) == {"input_annotated_document_pages": 4}


@pytest.mark.parametrize(
    ("kind", "otherwise"),
    [
        (UsageKind.CACHE_WRITE_1H, (UsageKind.CACHE_WRITE, UsageKind.INPUT)),
        (UsageKind.CACHE_READ_IMAGE, (UsageKind.CACHE_READ, UsageKind.INPUT_IMAGE, UsageKind.INPUT)),
        (UsageKind.OUTPUT_AUDIO, ()),
    ],
)
def test_a_part_knows_whose_rate_stands_in_for_its_own(kind: UsageKind, otherwise: tuple[UsageKind, ...]) -> None:
    usage = Usage(
        input_tokens=9, output_tokens=9, cache_write_1h_input_tokens=1, cache_read_input_image_tokens=1,
        output_audio_tokens=1,
    )  # fmt: skip
    assert {part.kind: part.otherwise for part in parts_of(usage)}[kind] == otherwise
