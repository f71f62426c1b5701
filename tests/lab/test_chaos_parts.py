"""The parts of chaos alone: the faults of a seed, the streams and their cost, the links, the report's page."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from metering.lab.chaos import oracle
from metering.lab.chaos.links import Links, Trouble, open_links
from metering.lab.chaos.report import ChaosReport, render_page
from metering.lab.chaos.schedule import FaultKind, schedule
from metering.lab.chaos.traffic import Clock, Life, Story, play, tell

ROOT = Path(__file__).parent.parent.parent
NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)


def test_the_same_seed_gives_the_same_faults_and_another_seed_gives_others() -> None:
    first, again, other = (schedule(seed=seed, seconds=60, count=50, longest=3) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert list(first) == sorted(first, key=lambda fault: fault.at)


@pytest.mark.parametrize("count", [1, 200])
def test_every_kind_is_planned_unless_it_is_left_out(count: int) -> None:
    without = [FaultKind.FULL_DISK]
    faults = schedule(seed=1, seconds=60, count=count, longest=3, without=without)
    assert {fault.kind for fault in faults} == set(FaultKind) - set(without)
    assert len(faults) >= count
    assert all(0 <= fault.at < 60 and 0 <= fault.seconds <= 3 for fault in faults)


def test_stripe_fails_only_once_there_are_invoices() -> None:
    faults = schedule(seed=3, seconds=100, count=300, longest=3)
    closed = max(fault.at for fault in faults if fault.kind in (FaultKind.CLOSE_MONTH, FaultKind.FORCE_MONTH))
    assert all(fault.at > closed for fault in faults if fault.kind.name.startswith("STRIPE_"))


def test_a_stream_of_a_seed_is_always_the_same_and_all_lives_occur() -> None:
    stories = [tell(seed=5, gateway=1, number=number, customers=10) for number in range(500)]
    assert stories == [tell(seed=5, gateway=1, number=number, customers=10) for number in range(500)]
    assert set(Counter(story.life for story in stories)) == set(Life)
    for story in stories:
        events = list(play(story, Clock(now=NOW)))
        assert {event.stream_id for event in events} == {story.stream_id}


@pytest.mark.parametrize(
    ("life", "model", "given", "cents"),
    [
        # 1,000 tokens of input, 400 of them cached, 20 of output, as the provider counts; 15 were delivered.
        (Life.COMPLETED, "large", 1_000, "0.37"),  # 600 x 5 + 400 x 0.5 + 20 x 25 = 3,700 millionths of a dollar
        (Life.CORRECTED, "large", 1_000, "0.37"),
        (Life.WRONG_CLOCK, "large", 1_000, "0.37"),
        (Life.CANCELLED, "large", 1_000, "0.5375"),  # 1,000 x 5 + 15 x 25
        (Life.ABANDONED, "large", 1_000, "0.5375"),
        (Life.FAILED, "large", 1_000, "0"),
        (Life.COMPLETED, "tiered", 6_000, "0.725"),  # 5,600 x 1.25 + 400 x 0.125 + 20 x 10
        (Life.COMPLETED, "tiered", 6_001, "1.44025"),  # 5,601 x 2.5 + 400 x 0.25 + 20 x 15
    ],
)
def test_the_oracle_knows_what_a_pencil_knows(life: Life, model: str, given: int, cents: str) -> None:
    story = Story(
        customer_id="c",
        stream_id="s",
        model=model,
        life=life,
        input=given,
        cached=400,
        delivered=() if life is Life.FAILED else (3, 15),
        output=0 if life is Life.FAILED else 20,
    )
    assert oracle.cost(story) == Fraction(cents)


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(connection: socket.socket) -> None:
            with connection, contextlib.suppress(ConnectionError):
                while data := connection.recv(1024):
                    connection.sendall(data)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def links(echo: int) -> Iterator[Links]:
    with open_links({"echo": echo}) as running:
        yield running


def connect(links: Links) -> socket.socket:
    return socket.create_connection(("127.0.0.1", links.port("echo")), timeout=0.5)


def answers(connection: socket.socket) -> bool:
    """Whether what is sent comes back; False when nothing comes in time.

    Raises:
        ConnectionError: it is closed.
    """
    connection.sendall(b"x")
    try:
        got = connection.recv(1)
    except TimeoutError:
        return False
    if not got:
        raise ConnectionResetError
    return True


def test_a_cut_link_closes_what_is_open_and_refuses_what_is_new(links: Links) -> None:
    with connect(links) as before:
        assert answers(before)
        assert links.make_trouble("echo", Trouble.CUT) == 1
        with pytest.raises(ConnectionError):
            answers(before)
        with connect(links) as new, pytest.raises(ConnectionError):
            answers(new)
    links.end_trouble("echo", resume=True)
    with connect(links) as after:
        assert answers(after)


@pytest.mark.parametrize("resume", [True, False])
def test_a_silent_link_carries_nothing_until_it_goes_on_or_is_closed(links: Links, resume: bool) -> None:
    with connect(links) as before:
        assert answers(before)
        assert links.make_trouble("echo", Trouble.SILENT) == 1
        assert not answers(before)
        with connect(links) as new:
            assert not answers(new)
        links.end_trouble("echo", resume=resume)
        before.settimeout(30)
        if resume:
            assert answers(before)
        else:
            with pytest.raises(ConnectionError):
                answers(before)


def test_of_a_half_open_link_only_new_connections_work(links: Links) -> None:
    with connect(links) as before:
        assert answers(before)
        links.make_trouble("echo", Trouble.HALF_OPEN)
        assert not answers(before)
        with connect(links) as new:
            new.settimeout(30)
            assert answers(new)
        links.end_trouble("echo", resume=False)


def test_a_slow_link_still_carries_everything(links: Links) -> None:
    with connect(links) as connection:
        connection.settimeout(30)
        links.make_trouble("echo", Trouble.SLOW)
        assert answers(connection)


def test_the_page_in_the_docs_is_the_one_of_its_report() -> None:
    assert (ROOT / "docs/reliability.md").read_text() == render_page(ROOT / "docs/reliability")


def test_a_kind_that_was_never_reached_is_a_problem_on_the_page(tmp_path: Path) -> None:
    document = (ROOT / "docs/reliability/chaos.json").read_bytes()
    report = msgspec.json.decode(document, type=ChaosReport)
    missed = msgspec.structs.replace(report.kinds[0], reached=0)
    (tmp_path / "chaos.json").write_bytes(
        msgspec.json.encode(msgspec.structs.replace(report, kinds=[missed, *report.kinds[1:]]))
    )
    assert f"- never reached: {missed.kind.value}" in render_page(tmp_path)
