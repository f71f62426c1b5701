"""Several processes of one command, started, watched and stopped together; they share the connections of one port.

One that dies is started again, and the connections of the others go on. If the supervising process dies, they end.
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from metering.core.errors import MeteringError
from metering.serving.dealer import Dealer, Hand

log = logging.getLogger(__name__)

# In a process's environment: the descriptor of the channel by which it gets connections.
CHANNEL_VARIABLE = "_METERING_CHANNEL"
# The folder in which prometheus_client keeps what each process counts, so that any of them can add it up.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MAX_PROCESSES = 64
_WATCHED_EVERY = timedelta(milliseconds=200)
# A process that died is started again after this pause.
_RESTART_PAUSE = timedelta(seconds=1)


class CannotListenError(MeteringError):
    """The address cannot be used; the message says why."""


def listen(*, host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket.

    Raises:
        CannotListenError: the address cannot be used.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(backlog)
    except OSError as error:
        listening.close()
        raise CannotListenError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    listening.setblocking(False)
    return listening


def inherited_channel() -> socket.socket | None:
    """In a process of `ServingProcesses`, the channel by which it gets connections; None in any other process."""
    descriptor = os.environ.pop(CHANNEL_VARIABLE, None)
    return None if descriptor is None else socket.socket(fileno=int(descriptor))


@dataclass(slots=True)
class _Process:
    running: "subprocess.Popen[bytes]"
    hand: Hand
    ended_at: float | None = None


class ServingProcesses:
    """`count` processes of one command. After SIGTERM, they have `patience` to end."""

    def __init__(
        self, command: Sequence[str], *, count: int, listening: socket.socket, patience: timedelta
    ) -> None:
        self._command = command
        self._count = count
        self._dealer = Dealer(listening)
        self._patience = patience
        self._processes: list[_Process] = []
        self._is_stopping = False

    def run(self) -> None:
        """Run until SIGINT or SIGTERM. SIGHUP is passed on to the processes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        with _temporary_folder() as metrics_folder:
            try:
                self._processes = [self._start(metrics_folder) for _ in range(self._count)]
                while not self._is_stopping:
                    self._dealer.deal(within=_WATCHED_EVERY)
                    self._restart_dead(metrics_folder)
                self._dealer.close()
                self._wait_for_end()
            finally:
                for process in self._processes:
                    if process.running.poll() is None:
                        process.running.kill()
                        process.running.wait()

    def _start(self, metrics_folder: Path) -> _Process:
        hand = self._dealer.add()
        with hand.theirs:
            running = subprocess.Popen(
                self._command,
                pass_fds=[hand.theirs.fileno()],
                env={
                    **os.environ,
                    CHANNEL_VARIABLE: str(hand.theirs.fileno()),
                    METRICS_VARIABLE: str(metrics_folder),
                },
            )
        return _Process(running, hand)

    def _restart_dead(self, metrics_folder: Path) -> None:
        now = time.monotonic()
        for place, process in enumerate(self._processes):
            if process.running.poll() is None:
                continue
            if process.ended_at is None:
                log.error(
                    "process %d ended with %d, starting another", process.running.pid, process.running.returncode
                )
                process.ended_at = now
                self._dealer.remove(process.hand)
                _forget_gauges(metrics_folder, process.running.pid)
            elif now - process.ended_at >= _RESTART_PAUSE.total_seconds():
                self._processes[place] = self._start(metrics_folder)

    def _wait_for_end(self) -> None:
        began = time.monotonic()
        for process in self._processes:
            left = self._patience - timedelta(seconds=time.monotonic() - began)
            try:
                process.running.wait(max(left, timedelta()).total_seconds())
            except subprocess.TimeoutExpired:
                log.error("process %d did not stop in time, killing it", process.running.pid)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        self._pass_on(number, frame)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        for process in self._processes:
            if process.running.poll() is None:
                process.running.send_signal(number)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="metering-metrics-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget_gauges(metrics_folder: Path, pid: int) -> None:
    """What a dead process has counted stays, what it had open does not: as `mark_process_dead` of the package."""
    for path in metrics_folder.glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)
