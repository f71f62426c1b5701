"""Several processes behind one listening socket: started, watched and stopped together.

Each of them runs the same command, and takes connections from the socket when it is idle. One that dies is started
again, and the connections of the others go on. If the supervising process dies, they end.
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType

from metering.core.errors import MeteringError

log = logging.getLogger(__name__)

# In a worker's environment: the descriptors of the socket, and of a pipe that closes with the supervising process.
WORKER_VARIABLE = "_METERING_WORKER"
# The folder in which prometheus_client keeps what each worker counts, so that any of them can add it up.
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MAX_WORKERS = 64
_WATCHED_EVERY = timedelta(milliseconds=200)
# A worker that died is started again after this pause.
_RESTART_PAUSE = timedelta(seconds=1)


class CannotListenError(MeteringError):
    """The address cannot be used; the message says why."""


def listen(*, host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket, which worker processes can inherit.

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
    listening.set_inheritable(True)
    return listening


def inherited_socket() -> socket.socket | None:
    """In a worker, the listening socket; None in any other process. A worker ends when its supervisor is gone."""
    descriptors = os.environ.pop(WORKER_VARIABLE, None)
    if descriptors is None:
        return None
    listening, alive = map(int, descriptors.split())
    threading.Thread(target=_stop_with, args=(alive,), name="supervisor", daemon=True).start()
    return socket.socket(fileno=listening)


def _stop_with(alive: int) -> None:
    """Nothing is ever written to the pipe: reading ends when the last process that could write has ended."""
    os.read(alive, 1)
    log.error("the supervising process is gone, stopping")
    os.kill(os.getpid(), signal.SIGTERM)


class WorkerProcesses:
    """`count` processes of one command. After SIGTERM, they have `patience` to end."""

    def __init__(
        self, command: Sequence[str], *, count: int, listening: socket.socket, patience: timedelta
    ) -> None:
        self._command = command
        self._count = count
        self._listening = listening.fileno()
        self._patience = patience
        self._alive, self._kept = os.pipe()
        self._workers: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()

    def run(self) -> None:
        """Run until SIGINT or SIGTERM. SIGHUP is passed on to the workers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        with _temporary_folder() as metrics_folder:
            try:
                self._workers = [self._start(metrics_folder) for _ in range(self._count)]
                while not self._stopping.wait(_WATCHED_EVERY.total_seconds()):
                    self._restart_dead(metrics_folder)
                self._wait_for_end()
            finally:
                for worker in self._workers:
                    if worker.poll() is None:
                        worker.kill()
                        worker.wait()

    def _start(self, metrics_folder: Path) -> "subprocess.Popen[bytes]":
        descriptors = (self._listening, self._alive)
        return subprocess.Popen(
            self._command,
            pass_fds=descriptors,
            env={
                **os.environ,
                WORKER_VARIABLE: " ".join(map(str, descriptors)),
                METRICS_VARIABLE: str(metrics_folder),
            },
        )

    def _restart_dead(self, metrics_folder: Path) -> None:
        for place, worker in enumerate(self._workers):
            if worker.poll() is None:
                continue
            log.error("process %d ended with %d, starting another", worker.pid, worker.returncode)
            _forget_gauges(metrics_folder, worker.pid)
            if not self._stopping.wait(_RESTART_PAUSE.total_seconds()):
                self._workers[place] = self._start(metrics_folder)

    def _wait_for_end(self) -> None:
        began = time.monotonic()
        for worker in self._workers:
            left = self._patience - timedelta(seconds=time.monotonic() - began)
            try:
                worker.wait(max(left, timedelta()).total_seconds())
            except subprocess.TimeoutExpired:
                log.error("process %d did not stop in time, killing it", worker.pid)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._stopping.set()
        self._pass_on(number, _)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)


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
