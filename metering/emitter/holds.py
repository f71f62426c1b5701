"""Asks the service for holds, and releases them. Every wait is bounded.

A few threads ask, over connections that are kept alive; those who want a hold wait in their thread or on their
event loop. An answer that was lost is asked for again with the same body, which gets the same answer.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from metering.emitter.allowance import Allowance
from metering.emitter.hold import Hold, HoldRefused, HoldRequest, HoldSettings, HoldUnavailable, PriceUnknown
from metering.emitter.hold_client import HoldClient, NoAnswer
from metering.emitter.reports import Counters, Troubles

log = logging.getLogger(__name__)

_THREADS = 32
# More than this are not answered in time anyway.
_MOST_WAITING = 2_000
_MOST_RELEASES = 1_000
_PAUSES_SECONDS = (0.02, 0.1)
_SERVICE = "holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStats:
    """The number of holds of this process by what became of them."""

    held: int = 0
    """Made by the service."""
    refused: int = 0
    """Refused: a budget is exhausted, or the request is wrong."""
    price_unknown: int = 0
    """Refused: what the stream costs is not known."""
    unavailable: int = 0
    """Not answered in time; the stream did not pass."""
    failed_open: int = 0
    """Not answered in time; the stream passed without a hold."""
    released: int = 0
    """Given back, because nothing went upstream."""
    stopped: int = 0
    """Streams that had to end, because their budget was exhausted."""


class _Job:
    """One hold that is asked for. Who asked may have given up meanwhile."""

    __slots__ = ("deadline", "future", "given_up", "lock", "may_be_held", "request")

    def __init__(self, request: HoldRequest, *, deadline: float) -> None:
        self.request, self.deadline = request, deadline
        self.lock = threading.Lock()
        self.may_be_held = self.given_up = False
        self.future: Future[Hold | HoldRefused | NoAnswer]


class Holds:
    """The holds of one process."""

    def __init__(self, *, url: str, key: str | Callable[[], str], settings: HoldSettings) -> None:
        self._url, self._key, self._settings = url, key, settings
        self._allowance = Allowance(settings)
        self._troubles = Troubles(log)
        self._counters = Counters(HoldStats)
        self._lock = threading.Lock()
        self._waiting = self._releasing = 0
        self._client: HoldClient | None = None
        self._askers: ThreadPoolExecutor | None = None
        self._releaser: ThreadPoolExecutor | None = None
        self._closed = False

    def again(self) -> "Holds":
        """The same for a forked child, which has neither the threads nor the connections of its parent."""
        return Holds(url=self._url, key=self._key, settings=self._settings)

    def stats(self) -> HoldStats:
        """What became of holds so far."""
        return self._counters.snapshot()

    def count_stopped(self, streams: int) -> None:
        """Count streams that had to end."""
        self._counters.add(stopped=streams)

    def take(self, request: HoldRequest) -> Hold:
        """The hold of a stream; waits in this thread.

        Raises:
            HoldRefused: the stream must not begin.
            HoldUnavailable: the service did not answer in time.
        """
        job = self._put(request)
        try:
            answer = job.future.result(self._settings.timeout)
        except TimeoutError:
            answer = self._late()
        except BaseException:
            self._give_up(job)
            raise
        return self._conclude(job, answer)

    async def take_async(self, request: HoldRequest) -> Hold:
        """The same; waits on the event loop."""
        job = self._put(request)
        try:
            async with asyncio.timeout(self._settings.timeout):
                answer = await asyncio.wrap_future(job.future)
        except TimeoutError:
            answer = self._late()
        except BaseException:
            # Cancelled, by a client that has left: nothing goes upstream.
            self._give_up(job)
            raise
        return self._conclude(job, answer)

    def release(self, *, customer_id: str, stream_id: str) -> bool:
        """Release a hold, because nothing went upstream: True if the stream has no open hold now.

        False: the stream has begun. Post its stream-end, and the hold ends when the charge is booked.

        Raises:
            HoldUnavailable: the service did not answer in time. The hold expires after its lease.
        """
        answer = self._connected().release(customer_id, stream_id, seconds=self._settings.timeout)
        if isinstance(answer, NoAnswer):
            raise HoldUnavailable(f"the hold was not released: {answer.problem}")
        self._counters.add(released=answer)
        return answer

    def release_later(self, *, customer_id: str, stream_id: str) -> None:
        """Release a hold in the background. If that fails, the hold expires after its lease."""
        with self._lock:
            if self._closed or self._releasing >= _MOST_RELEASES:
                return
            self._releasing += 1
            if self._releaser is None:
                self._releaser = ThreadPoolExecutor(1, "metering-releases")
            try:
                self._releaser.submit(self._release, customer_id, stream_id)
            except RuntimeError:  # the interpreter stops
                self._releasing -= 1

    def close(self, timeout: float) -> None:
        """Finish releases, for up to `timeout` seconds; later calls get no hold."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
        while self._releasing and time.monotonic() < deadline:
            time.sleep(0.01)
        for pool in (self._askers, self._releaser):
            if pool is not None:
                pool.shutdown(wait=False)
        if self._client is not None:
            self._client.close()

    def _put(self, request: HoldRequest) -> _Job:
        job = _Job(request, deadline=time.monotonic() + self._settings.timeout)
        with self._lock:
            problem = "the emitter is closed" if self._closed else None
            if self._waiting >= _MOST_WAITING:
                problem = "too many holds wait for the service"
            if problem is None:
                if self._askers is None:
                    self._askers = ThreadPoolExecutor(_THREADS, "metering-holds")
                try:
                    job.future = self._askers.submit(self._ask, job)
                    job.future.add_done_callback(self._asked)
                    self._waiting += 1
                except RuntimeError:
                    problem = "the process stops"
        if problem is not None:
            job.future = Future()
            job.future.set_result(NoAnswer(problem, may_have_arrived=False))
        return job

    def _asked(self, _: object) -> None:
        with self._lock:
            self._waiting -= 1

    def _ask(self, job: _Job) -> Hold | HoldRefused | NoAnswer:
        answer = self._ask_until(job)
        with job.lock:
            job.may_be_held = answer.may_have_arrived if isinstance(answer, NoAnswer) else isinstance(answer, Hold)
            useless = job.may_be_held and job.given_up
        if useless:
            self.release_later(customer_id=job.request.customer_id, stream_id=job.request.stream_id)
        return answer

    def _ask_until(self, job: _Job) -> Hold | HoldRefused | NoAnswer:
        """Ask until there is an answer, the deadline has passed, or it has failed three times."""
        client, may_have_arrived = self._connected(), False
        failed = self._late()
        for pause in (*_PAUSES_SECONDS, None):
            left = job.deadline - time.monotonic()
            if left <= 0 or job.given_up or self._closed:
                break
            answer = client.ask(job.request, seconds=left)
            if not isinstance(answer, NoAnswer):
                return answer
            failed = answer
            may_have_arrived |= answer.may_have_arrived
            if pause is None or answer.misconfigured:
                break
            time.sleep(max(0.0, min(pause, job.deadline - time.monotonic())))
        return NoAnswer(failed.problem, may_have_arrived=may_have_arrived, misconfigured=failed.misconfigured)

    def _late(self) -> NoAnswer:
        return NoAnswer(f"no answer within {self._settings.timeout:g} s", may_have_arrived=True)

    def _conclude(self, job: _Job, answer: Hold | HoldRefused | NoAnswer) -> Hold:
        request = job.request
        if isinstance(answer, Hold):
            self._counters.add(held=1)
            self._troubles.passes(_SERVICE, "the service answers requests for holds again")
            if answer.held_usd_cents is not None:
                self._allowance.note(request, answer.held_usd_cents)
            return answer
        if isinstance(answer, HoldRefused):
            self._troubles.passes(_SERVICE, "the service answers requests for holds again")
            self._counters.add(**{"price_unknown" if isinstance(answer, PriceUnknown) else "refused": 1})
            raise answer
        kind = "setting" if answer.misconfigured else "service"
        if self._allowance.take(request):
            self._troubles.arises(_SERVICE, kind, "no hold: %s; streams pass without one", answer.problem)
            self._counters.add(failed_open=1)
            return Hold(customer_id=request.customer_id, stream_id=request.stream_id, failed_open=True)
        self._troubles.arises(_SERVICE, kind, "no hold: %s; streams do not pass", answer.problem)
        self._counters.add(unavailable=1)
        self._give_up(job)
        raise HoldUnavailable(f"the budget cannot be checked: {answer.problem}")

    def _give_up(self, job: _Job) -> None:
        """The stream does not begin: release what is or may be held for it, now or once that is known."""
        with job.lock:
            job.given_up = True
            may_be_held = job.may_be_held
        if may_be_held:
            self.release_later(customer_id=job.request.customer_id, stream_id=job.request.stream_id)

    def _release(self, customer_id: str, stream_id: str) -> None:
        try:
            answer = self._connected().release(customer_id, stream_id, seconds=self._settings.timeout)
            if isinstance(answer, NoAnswer):
                log.debug("a hold was not released, and expires: %s", answer.problem)
            else:
                self._counters.add(released=answer)
        finally:
            with self._lock:
                self._releasing -= 1

    def _connected(self) -> HoldClient:
        with self._lock:
            if self._client is None:
                self._client = HoldClient(url=self._url, key=self._key, connections=_THREADS + 2)
            return self._client
