"""Does the faults of a schedule to a running product: each in a thread of its own, one at a time per target."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
from redis import Redis
from redis.exceptions import RedisError

from metering.core.errors import MeteringError
from metering.lab.chaos.commands import Commands
from metering.lab.chaos.links import Links, Trouble
from metering.lab.chaos.schedule import Fault, FaultKind
from metering.lab.chaos.volume import Volume
from metering.server.embedded.supervisor import Supervisor

# Its part may have to start again first, after a fault of another part.
_FIND_SECONDS = 120.0
_CLOSE_SECONDS = 240.0
# A fault that met nothing is done again within this time: by then there may be something to meet.
_MEET_SECONDS = 600.0
_AGAIN_SECONDS = 1.0
# The processes that `metering up` starts, in this order; the last one is settled after these seconds.
_PARTS = ("api", "worker", "beat")
_STARTED_SECONDS = 1.0
_SECOND_SECONDS = 6.0

_TROUBLE = {
    "CUT": Trouble.CUT,
    "SILENT": Trouble.SILENT,
    "HALF_OPEN": Trouble.HALF_OPEN,
    "SLOW": Trouble.SLOW,
}


@dataclass(slots=True, kw_only=True)
class Done:
    """A fault as it was done: over at `ended`, in monotonic seconds; `met` counts what it met, 0 for nothing."""

    fault: Fault
    ended: float = 0.0
    met: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The running product, as the faults reach it."""

    servers: Supervisor
    parts: Supervisor
    links: Links
    disk: Volume
    redis_url: str
    gateways: Sequence[str]
    environment: dict[str, str]
    commands: Commands

    def find(self, name: str, *, pick: int) -> psutil.Process | None:
        """The process of a part; waits a while until it runs."""
        deadline = time.monotonic() + _FIND_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
                found = self._look(name, pick)
                if found is not None:
                    return found
            time.sleep(0.05)
        return None

    def _look(self, name: str, pick: int) -> psutil.Process | None:
        if name in ("postgres", "valkey"):
            return _process(self.servers.pid_of(name))
        if name == "backend":
            server = _process(self.servers.pid_of("postgres"))
            serving = (
                [each for each in server.children() if "metering" in " ".join(each.cmdline())] if server else []
            )
            return serving[pick % len(serving)] if serving else None
        if name == "gateway":
            return _process(self.parts.pid_of(self.gateways[pick % len(self.gateways)]))
        if name == "stripe":
            return _process(self.parts.pid_of(name))
        up = _process(self.parts.pid_of("up"))
        parts = {part: each for each in (up.children() if up else []) for part in _PARTS if part in each.cmdline()}
        # Until all have started, `up` is starting: faults that wait would all be faults of its start.
        if parts.keys() != set(_PARTS) or time.time() - parts["beat"].create_time() < _STARTED_SECONDS:
            return None
        return up if name == "up" else parts[name]


@dataclass(slots=True)
class Harm:
    """Plays a schedule on a world; faults of Stripe wait so many seconds for invoices."""

    world: World
    say: Callable[[str], None]
    invoices_seconds: float = _CLOSE_SECONDS
    done: list[Done] = field(default_factory=list)
    _locks: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def play(self, faults: Sequence[Fault], *, began: float) -> None:
        """Start each fault at its time, and return when all are over."""
        threads = []
        for fault in faults:
            time.sleep(max(0.0, began + fault.at - time.monotonic()))
            done = Done(fault=fault)
            self.done.append(done)
            thread = threading.Thread(target=self._do, args=(done,), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _do(self, done: Done) -> None:
        fault = done.fault
        action, target = fault.kind.name.split("_", 1)
        if action == "HALF":
            action, target = "HALF_OPEN", target.removeprefix("OPEN_")
        if action == "STRIPE":
            self.world.commands.wait_for_invoices(within=self.invoices_seconds)
        until = time.monotonic() + _MEET_SECONDS
        while not self._try(done, action, target.lower()) and time.monotonic() < until:
            time.sleep(_AGAIN_SECONDS)

    def _try(self, done: Done, action: str, target: str) -> bool:
        """Whether the fault met something."""
        fault = done.fault
        with self._locks[_lock_name(action, target)]:
            done.problem = ""
            try:
                done.met = self._act(action, target, fault)
            except (OSError, psutil.Error, subprocess.SubprocessError, RedisError, MeteringError) as error:
                done.problem = f"{type(error).__name__}: {error}"
            done.ended = time.monotonic()
        self.say(f"{fault.kind.value} (planned at {fault.at:.1f} s): met {done.met} {done.problem}".rstrip())
        return bool(done.met) and not done.problem

    def _act(self, action: str, target: str, fault: Fault) -> int:
        match action:
            case "KILL":
                return self._kill(target, fault)
            case "STOP":
                return self._stop(target, fault)
            case "CUT" | "SILENT" | "HALF_OPEN" | "SLOW":
                return self._trouble(_TROUBLE[action], target, fault)
            case "WIPE":
                with Redis.from_url(self.world.redis_url, socket_timeout=5) as redis:
                    return int(bool(redis.flushall()))
            case "FULL":
                with _ended(self.world.disk.free):
                    used = self.world.disk.fill()
                    time.sleep(fault.seconds)
                return used
            case "SECOND":
                return self._second(target, fault)
            case "STRIPE":
                return self.world.commands.reconcile_with(fault.kind, pick=fault.pick)
            case _:
                return self.world.commands.close_month(force=fault.kind is FaultKind.FORCE_MONTH)

    def _kill(self, target: str, fault: Fault) -> int:
        process = self.world.find(target, pick=fault.pick)
        if process is None:
            return 0
        process.kill()
        return 1

    def _stop(self, target: str, fault: Fault) -> int:
        process = self.world.find(target, pick=fault.pick)
        if process is None:
            return 0
        # First the parent, so that no child is born running.
        stopped = [process]
        process.suspend()
        with _ended(lambda: _resume(stopped)):
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.suspend()
                    stopped.append(child)
            time.sleep(fault.seconds)
        return len(stopped)

    def _trouble(self, trouble: Trouble, link: str, fault: Fault) -> int:
        deadline = time.monotonic() + _FIND_SECONDS
        while not self.world.links.connections(link) and time.monotonic() < deadline:
            time.sleep(0.02)
        with _ended(lambda: self.world.links.end_trouble(link, resume=fault.pick % 2 == 0)):
            met = self.world.links.make_trouble(link, trouble)
            time.sleep(fault.seconds)
        return met

    def _second(self, command: str, fault: Fault) -> int:
        """Run a second one beside the first, and stop or kill it."""
        with subprocess.Popen(
            [sys.executable, "-m", "metering", command],
            env={**os.environ, **self.world.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(_SECOND_SECONDS + fault.seconds)
            ran = process.poll() is None
            process.send_signal(random.Random(fault.pick).choice((signal.SIGTERM, signal.SIGKILL)))
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
        return int(ran)


def _lock_name(action: str, target: str) -> str:
    """What a fault has to itself: a link, a process, or the commands that call Stripe."""
    if action in _TROUBLE:
        return f"link {target}"
    if action in ("STRIPE", "CLOSE", "FORCE"):
        return "commands"
    return action if action in ("FULL", "SECOND") else target


def _process(pid: int | None) -> psutil.Process | None:
    return None if pid is None else psutil.Process(pid)


def _resume(processes: Sequence[psutil.Process]) -> None:
    for process in reversed(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


@contextmanager
def _ended(end: Callable[[], object]) -> Iterator[None]:
    try:
        yield
    finally:
        end()
