"""Scratch files keep all records of a stream in one part, in order."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from metering.audit.scratch import ScratchWriter, take_records

RECORDS = st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=300)))


@given(RECORDS, st.integers(1, 5))
def test_each_record_is_read_once_in_the_part_of_its_stream(records: list[tuple[str, bytes]], parts: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        with ScratchWriter(folder, task="one", parts=parts) as scratch:
            for stream_id, record in records:
                scratch.add("acme", stream_id, stream_id.encode() + record)
        read = [list(take_records(folder, task="one", part=part)) for part in range(parts)]
        assert list(folder.iterdir()) == []
    for stream_id in "abcdef":
        mine = [record for part in read for record in part if record[:1] == stream_id.encode()]
        assert mine == [stream_id.encode() + record for each, record in records if each == stream_id]
        assert sum(any(record[:1] == stream_id.encode() for record in part) for part in read) <= 1
