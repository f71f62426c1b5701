"""The spool hands events out in the order in which they were written, also over processes and failed attempts."""

from pathlib import Path

from metering.emitter.segments import read_segment
from metering.emitter.spool import Spool

LINES = [b'{"n": %d}' % number for number in range(5)]


def opened(root: Path) -> Spool:
    return Spool(root=root, soft_bytes=1_000, hard_bytes=1_000, segment_events=1)


def handed_out(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while (segment := spool.claim(timeout=0)) is not None:
        found += read_segment(segment).lines
    return found


def test_a_segment_that_was_not_sent_is_the_next_again(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(needed=LINES, spare=[])
    first = spool.claim(timeout=0)
    assert first is not None
    spool.give_back(first)
    assert handed_out(spool) == LINES


def test_events_of_a_process_that_ended_come_in_their_order_and_before_new_ones(tmp_path: Path) -> None:
    ended = opened(tmp_path)
    ended.append(needed=LINES[:4], spare=[])
    ended.close()
    spool = opened(tmp_path)
    spool.append(needed=LINES[4:], spare=[])
    assert handed_out(spool) == LINES
