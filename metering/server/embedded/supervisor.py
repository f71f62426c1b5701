"""The supervisor of child processes: starts them in order, prints their output, restarts and stops them.

One thread starts all children and lives as long as they do, since Linux sends `PDEATHSIG` when the thread that
forked exits.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TextIO

import psutil

from metering.core.errors import MeteringError
from metering.server.embedded.plain_environment import plain_environment

LAUNCHER = Path(__file__).with_name("launch.py")
TICK_SECONDS = 0.05
FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 2.0
STABLE_AFTER_SECONDS = 10.0
# A child may die this often before it was ready for the first time; then its start has failed.
MOST_EARLY_DEATHS = 4
STOP_SECONDS = 9.0
LAST_LINES_SECONDS = 2.0
_COLORS = ("36", "33", "32", "35", "34", "31")


class ChildFailedError(MeteringError):
    """A child did not start or did not become ready; the message has its last lines of output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A process to keep running. `ready` is called until it returns True; `user` requires root.

    It gets our environment without the variables that are `withheld`, or only the plain part of it, and `env`.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    withheld: Collection[str] = ()
    user: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 5.0
    ready: Callable[[], bool] | None = None
    ready_timeout: float = 30.0


@dataclass(slots=True, eq=False)
class _Child:
    spec: ChildSpec
    group: int
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    was_ready: bool = False
    started_at: float = 0.0
    restart_at: float | None = None
    backoff: float = FIRST_BACKOFF_SECONDS
    restarts: int = 0
    early_deaths: int = 0
    is_given_up: bool = False
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=15))


class Supervisor:
    """Starts groups of children with `start()` and stops them in reverse order with `stop()`.

    `run_until_signal()` waits for a signal between the two.
    """

    def __init__(self, *, output: TextIO | None = None, quiet: bool = False) -> None:
        self._output = output or sys.stderr
        self._quiet = quiet
        self._children: list[_Child] = []
        self._commands: queue.SimpleQueue[tuple[Sequence[ChildSpec], queue.SimpleQueue[Exception | None]]] = (
            queue.SimpleQueue()
        )
        self._stopping = threading.Event()
        self._kill_now = threading.Event()
        self._print_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, specs: Sequence[ChildSpec]) -> None:
        """Start a group of children, each when the previous one is ready. Groups stop in reverse order.

        A child that dies before it is ready is started again, a few times.

        Raises:
            ChildFailedError: a child did not become ready; the others keep running until `stop()`.
        """
        outcome: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._commands.put((specs, outcome))
        while self._thread.is_alive():
            with contextlib.suppress(queue.Empty):
                error = outcome.get(timeout=TICK_SECONDS)
                if error is not None:
                    raise error
                return
        raise ChildFailedError(f"{', '.join(spec.name for spec in specs)} not started: the supervisor has stopped")

    def stop(self) -> None:
        """Stop all children, the last group first; kills children that do not stop in time."""
        self._stopping.set()
        self._thread.join()

    def run_until_signal(self, *, greet: Callable[[], None] = lambda: None) -> None:
        """Call `greet`, wait for SIGINT or SIGTERM, then stop. A second signal kills the children at once."""
        received = threading.Event()

        def note(_signal: int, _frame: object) -> None:
            if received.is_set():
                self._kill_now.set()
            received.set()

        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            greet()
            while not received.wait(timeout=1.0):
                pass
            self.say("supervisor", "stopping; press Ctrl-C again to kill at once")
            self.stop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def pid_of(self, name: str) -> int | None:
        """The process id of a running child; None when it is not running."""
        process = self._child(name).process
        return process.pid if process is not None and not _has_exited(process) else None

    def restarts_of(self, name: str) -> int:
        """The number of restarts of a child."""
        return self._child(name).restarts

    def speak(self) -> None:
        """Print the children's output from now on, of a supervisor that was quiet."""
        self._quiet = False

    def say(self, name: str, line: str) -> None:
        """Print a line with a child's name."""
        width = max([10, *(len(child.spec.name) for child in self._children)])
        label = f"{name:<{width}} |"
        # The reader of the output may have exited (`metering up | head`); children and threads go on regardless.
        with self._print_lock, contextlib.suppress(OSError, ValueError):
            if self._output.isatty():
                label = f"\033[{_COLORS[sum(name.encode()) % len(_COLORS)]}m{label}\033[0m"
            self._output.write(f"{label} {line}\n")
            self._output.flush()

    def _child(self, name: str) -> _Child:
        return next(child for child in self._children if child.spec.name == name)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                specs, outcome = self._commands.get(timeout=TICK_SECONDS)
            except queue.Empty:
                self._restart_dead()
                continue
            try:
                self._start_group(specs)
                outcome.put(None)
            except Exception as error:  # noqa: BLE001 - `ready` may raise anything, which start() waits for
                outcome.put(error)
        self._stop_all()

    def _start_group(self, specs: Sequence[ChildSpec]) -> None:
        group = max((child.group for child in self._children), default=0) + 1
        for spec in specs:
            child = _Child(spec, group)
            self._children.append(child)
            self._spawn(child)
            try:
                self._await_ready(child)
            except BaseException:
                child.is_given_up = True
                raise
            child.was_ready = True

    def _spawn(self, child: _Child) -> None:
        spec = child.spec
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), spec.stop_signal.name, spec.user]
        # In its own session, a child gets no Ctrl-C from the terminal, and a kill of its group reaches its
        # children.
        child.process = subprocess.Popen(
            [*launcher, *spec.argv],
            env=_environment(spec),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        child.started_at = monotonic()
        child.restart_at = None
        child.reader = threading.Thread(target=self._read, args=(child, child.process), daemon=True)
        child.reader.start()

    def _read(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            for raw in iter(lambda: stdout.readline(65_536), b""):
                line = raw.decode(errors="replace").rstrip()
                child.last_lines.append(line)
                if not self._quiet:
                    self.say(child.spec.name, line)

    def _await_ready(self, child: _Child) -> None:
        ready = child.spec.ready
        if ready is None:
            return
        while not ready():
            if self._stopping.is_set() or monotonic() > child.started_at + child.spec.ready_timeout:
                raise _failed(child, "did not become ready")
            self._restart_dead()
            self._stopping.wait(TICK_SECONDS / 2)

    def _restart_dead(self) -> None:
        now = monotonic()
        for child in self._children:
            if child.process is None or child.is_given_up:
                continue
            if child.restart_at is None:
                if _has_exited(child.process):
                    self._note_death(child, _describe_exit(_end_group(child.process)))
            elif now >= child.restart_at:
                try:
                    self._spawn(child)
                    child.restarts += 1
                except OSError as error:  # out of processes or descriptors, perhaps only for now
                    self._restart_later(child, f"cannot be started ({error.strerror})")

    def _note_death(self, child: _Child, how: str) -> None:
        if not child.was_ready:
            child.early_deaths += 1
            if child.early_deaths == MOST_EARLY_DEATHS:
                raise _failed(child, f"{how}, for the {child.early_deaths}th time before it was ready")
        elif monotonic() - child.started_at > STABLE_AFTER_SECONDS:
            child.backoff = FIRST_BACKOFF_SECONDS
        self._restart_later(child, how)

    def _restart_later(self, child: _Child, how: str) -> None:
        child.restart_at = monotonic() + child.backoff
        when = f"restarting in {child.backoff:g} s (restart {child.restarts + 1})"
        self.say("supervisor", f"{child.spec.name} {how}; {when}")
        child.backoff = min(child.backoff * 2, MAX_BACKOFF_SECONDS)

    def _stop_all(self) -> None:
        numbers = sorted({child.group for child in self._children}, reverse=True)
        groups = [[child for child in self._children if child.group == number] for number in numbers]
        wanted = sum(max(child.spec.stop_timeout for child in group) for group in groups)
        share = min(1.0, STOP_SECONDS / wanted) if wanted else 1.0  # leaves time for the groups that stop last
        for group in groups:
            self._stop_group(group, share)
        _join(self._children, seconds=LAST_LINES_SECONDS)

    def _stop_group(self, children: Sequence[_Child], share: float) -> None:
        running = [
            (child, child.process)
            for child in children
            if child.process is not None and child.process.returncode is None
        ]
        for child, process in running:
            _ask_to_stop(process, child.spec.stop_signal)
        started = monotonic()
        for child, process in running:
            while not _has_exited(process) and not self._kill_now.is_set():
                if monotonic() - started > child.spec.stop_timeout * share:
                    break
                self._kill_now.wait(TICK_SECONDS / 2)
            if not _has_exited(process):
                self.say("supervisor", f"{child.spec.name} does not stop; killing it")
            _end_group(process)


def _failed(child: _Child, how: str) -> ChildFailedError:
    _join([child], seconds=TICK_SECONDS)  # until its last lines are read
    lines = "\n  ".join(child.last_lines)
    return ChildFailedError(f"{child.spec.name} {how}; its last lines:\n  {lines}")


def _environment(spec: ChildSpec) -> dict[str, str]:
    if spec.plain:
        return {**plain_environment(), **spec.env}
    ours = {name: value for name, value in os.environ.items() if name not in spec.withheld}
    return {**ours, **spec.env}


def _join(children: Sequence[_Child], *, seconds: float) -> None:
    """Wait for the children's last output, but not for processes outside their group that still hold the pipe."""
    deadline = monotonic() + seconds
    for child in children:
        if child.reader is not None:
            child.reader.join(max(0.0, deadline - monotonic()))


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process has exited, without reaping it: until it is reaped, its id and group id are not reused."""
    if process.returncode is not None:
        return True
    try:
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE  # macOS before Python 3.13
    except (ChildProcessError, psutil.NoSuchProcess):
        return True


def _ask_to_stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the process only, not its group: it stops its own children in the right order."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _end_group(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and all processes in its group, reap it, and return its exit code."""
    if process.returncode is None:
        # macOS raises PermissionError when all processes of the group have exited.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _describe_exit(returncode: int) -> str:
    """A return code in words. Real-time signals have no name and are given by number."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"
