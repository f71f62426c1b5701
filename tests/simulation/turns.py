"""Turns: two processes of which one runs at a time, from one transaction's edge to the next, as a seed says.

A process that waits for a lock of the other has no turn until it has the lock.
"""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg

from tests.simulation.edges import Edges

_LOOK_SECONDS = 0.004


class _Process:
    def __init__(self, edges: Edges, work: Callable[[], None], changed: threading.Condition) -> None:
        self._edges, self._work, self._changed = edges, work, changed
        self.pid: int | None = None
        self.at_edge = False
        self.done = False

    def resume(self) -> None:
        with self._changed:
            self.at_edge = False
            self._changed.notify_all()

    def run(self) -> None:
        self._edges.wait_for_turn = self._wait_for_turn
        try:
            self._work()
        finally:
            self._edges.wait_for_turn = None
            with self._changed:
                self.done = True
                self._changed.notify_all()

    def _wait_for_turn(self, pid: int) -> None:
        with self._changed:
            self.pid, self.at_edge = pid, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self.at_edge)


def take_turns(
    work: Sequence[tuple[Edges, Callable[[], None]]], *, source: random.Random, admin: psycopg.Connection
) -> int:
    """Run all to their ends; returns how often a turn went from one to another.

    Raises:
        BaseException: what one of them raised.
    """
    changed = threading.Condition()
    processes = [_Process(edges, each, changed) for edges, each in work]
    with ThreadPoolExecutor(len(processes), thread_name_prefix="process") as pool:
        running = [pool.submit(each.run) for each in processes]
        turns = _give_turns(processes, changed, source, admin)
    for each in running:
        each.result()
    return turns


def _give_turns(
    processes: Sequence[_Process], changed: threading.Condition, source: random.Random, admin: psycopg.Connection
) -> int:
    turns, last = 0, None
    while True:
        _wait_until_still(processes, changed, admin)
        ready = [each for each in processes if each.at_edge]
        if not ready and all(each.done for each in processes):
            return turns
        # None is ready while one that waited for a lock of one that is done goes on.
        if ready:
            chosen = source.choice(ready)
            turns += last is not None and chosen is not last
            last = chosen
            chosen.resume()


def _wait_until_still(
    processes: Sequence[_Process], changed: threading.Condition, admin: psycopg.Connection
) -> None:
    """Return when each process is at an edge, done, or waits for a lock that another one holds."""
    waited = 0
    while True:
        with changed:
            moving = [each for each in processes if not (each.at_edge or each.done)]
            if not moving:
                return
            if changed.wait(_LOOK_SECONDS):
                continue
        pids = [each.pid for each in moving]
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid = ANY(%s)"
        row = admin.execute(query, (pids,)).fetchone()
        # Seen twice: a lock that was just granted looks as if it were waited for.
        waited = waited + 1 if row is not None and row[0] == len(moving) else 0
        if waited >= 2:
            return
