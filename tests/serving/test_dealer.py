"""Connections are dealt evenly, and none is lost while a process is slow, full or gone."""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.serving.dealer import MAX_UNTAKEN, REPORT, Dealer, Hand
from metering.serving.processes import listen

AT_ONCE = timedelta(milliseconds=20)


class Process:
    """A process that connections are dealt to. It takes them and reports only when a test calls for it."""

    def __init__(self, dealer: Dealer) -> None:
        self.hand: Hand = dealer.add()
        self.channel = self.hand.theirs
        self.taken: list[socket.socket] = []

    def report(self, *, open_connections: int | None = None) -> None:
        count = len(self.taken) if open_connections is None else open_connections
        self.channel.send(REPORT.pack(count, len(self.taken)))

    def take(self) -> int:
        """Take all that has come; how many connections it has taken by now."""
        while True:
            try:
                _, descriptors, _, _ = socket.recv_fds(self.channel, 1, 1)
            except BlockingIOError:
                return len(self.taken)
            if not descriptors:
                return len(self.taken)
            self.taken.append(socket.socket(fileno=descriptors[0]))


class Table:
    """A dealer with its processes, and the clients that connect."""

    def __init__(self) -> None:
        self.listening = listen(host="127.0.0.1", port=0, backlog=1_024)
        self.address = self.listening.getsockname()
        self.dealer = Dealer(self.listening)
        self.processes: list[Process] = []
        self.clients: list[socket.socket] = []

    def sit(self, *, ready: bool = True) -> Process:
        process = Process(self.dealer)
        self.processes.append(process)
        if ready:
            process.report()
            self.deal_until(lambda: process.hand.is_ready)
        return process

    def connect(self, count: int) -> None:
        self.clients += [socket.create_connection(self.address) for _ in range(count)]

    def deal_until(self, done: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not done():
            assert time.monotonic() < until
            self.dealer.deal(within=AT_ONCE)

    def deal(self, *, turns: int = 5) -> None:
        for _ in range(turns):
            self.dealer.deal(within=AT_ONCE)

    def given(self) -> list[int]:
        return [process.hand.given for process in self.processes]

    def close(self) -> None:
        self.dealer.close()
        for process in self.processes:
            process.channel.close()
        for each in (*self.clients, *(taken for process in self.processes for taken in process.taken)):
            each.close()


@pytest.fixture
def table() -> Iterator[Table]:
    table = Table()
    yield table
    table.close()


def test_connections_that_come_one_after_the_other_are_shared_evenly(table: Table) -> None:
    for _ in range(3):
        table.sit()
    for number in range(1, 31):
        table.connect(1)
        table.deal_until(lambda: sum(table.given()) == number)  # noqa: B023
    assert table.given() == [10, 10, 10]


def test_a_process_with_many_open_connections_gets_none_until_the_others_have_as_many(table: Table) -> None:
    old, new = table.sit(), table.sit()
    old.report(open_connections=20)
    table.deal_until(lambda: old.hand.open == 20)
    table.connect(30)
    table.deal_until(lambda: sum(table.given()) == 30)
    assert table.given() == [5, 25]
    assert (old.hand.load, new.hand.load) == (25, 25)


def test_what_was_given_counts_until_the_process_reports_it(table: Table) -> None:
    process = table.sit()
    table.connect(3)
    table.deal_until(lambda: process.hand.given == 3)
    process.report()
    table.deal()
    assert process.hand.load == 3
    process.take()
    process.report(open_connections=1)
    table.deal_until(lambda: not process.hand.untaken)
    assert process.hand.load == 1


def test_a_process_that_has_not_reported_gets_no_connection_and_they_wait(table: Table) -> None:
    starting = table.sit(ready=False)
    table.connect(4)
    table.deal()
    assert table.given() == [0]
    starting.report()
    table.deal_until(lambda: starting.hand.given == 4)
    assert starting.take() == 4


def test_a_process_that_takes_nothing_is_passed_over_when_its_channel_is_full(table: Table) -> None:
    stuck, other = table.sit(), table.sit()
    other.report(open_connections=10_000)
    table.deal_until(lambda: other.hand.open == 10_000)
    table.connect(MAX_UNTAKEN + 20)
    table.deal_until(lambda: sum(table.given()) == MAX_UNTAKEN + 20)
    assert table.given() == [MAX_UNTAKEN, 20]
    assert (stuck.hand.load, other.take()) == (MAX_UNTAKEN, 20)


def test_a_connection_that_no_process_can_take_is_given_when_one_can(table: Table) -> None:
    only = table.sit()
    table.connect(3 * MAX_UNTAKEN)
    table.deal()
    assert only.hand.given == MAX_UNTAKEN
    until = time.monotonic() + 60
    while only.take() < 3 * MAX_UNTAKEN:
        assert time.monotonic() < until
        only.report()
        table.deal(turns=1)


def test_a_process_that_ends_is_dealt_to_no_more(table: Table) -> None:
    ending, other = table.sit(), table.sit()
    ending.channel.close()
    table.connect(6)
    table.deal_until(lambda: other.hand.given == 6)
    assert ending.hand.given == 0
    table.dealer.remove(ending.hand)


def test_what_a_process_did_not_take_before_it_ended_goes_to_another(table: Table) -> None:
    ending = table.sit()
    table.connect(5)
    table.deal_until(lambda: ending.hand.given == 5)
    ending.take()
    ending.report()
    table.deal_until(lambda: not ending.hand.untaken)
    table.connect(5)
    table.deal_until(lambda: len(ending.hand.untaken) == 5)
    ending.channel.close()
    other = table.sit()
    table.deal_until(lambda: other.take() == 5)
    table.clients[-1].sendall(b"hello")
    other.taken[-1].settimeout(60)
    assert other.taken[-1].recv(5) == b"hello"


def test_clients_reach_the_process_that_was_given_their_connection(table: Table) -> None:
    process = table.sit()
    table.connect(1)
    table.deal_until(lambda: process.take() == 1)
    process.taken[0].sendall(b"hello")
    table.clients[0].settimeout(60)
    assert table.clients[0].recv(5) == b"hello"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=2, max_size=4), st.integers(1, 40))
def test_loads_differ_by_one_at_most_once_there_were_enough_connections(began: list[int], more: int) -> None:
    table = Table()
    try:
        for open_connections in began:
            process = table.sit()
            process.report(open_connections=open_connections)
            table.deal_until(lambda: process.hand.open == open_connections)  # noqa: B023
        enough = sum(max(began) - each for each in began) + more
        table.connect(enough)
        table.deal_until(lambda: sum(table.given()) == enough)
        loads = Counter(process.hand.load for process in table.processes)
        assert max(loads) - min(loads) <= 1
    finally:
        table.close()
