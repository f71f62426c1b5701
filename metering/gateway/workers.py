"""Several worker processes behind one listening socket: started, watched, and stopped together.

Each worker has a spool folder of its own, because an emitter makes one for each process. A worker that dies is
started again; the streams of the others go on.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from types import FrameType

from metering.gateway.metrics import FOLDER_VARIABLE
from metering.gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

SOCKET_OPTION = "--fd"
_WATCH_SECONDS = 0.2
# A worker that died is started again after this pause.
_RESTART_SECONDS = 1.0
# Workers stop by themselves within their grace; the supervisor waits a little longer before it kills them.
_PATIENCE_SECONDS = 10.0


class Workers:
    """The worker processes of one gateway."""

    def __init__(self, *, settings: GatewaySettings, listening: socket.socket) -> None:
        self._settings = settings
        self._listening = listening
        self._workers: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()
        self._metrics_folder = tempfile.mkdtemp(prefix="metering-gateway-metrics-")

    def run(self) -> None:
        """Run until SIGINT or SIGTERM. SIGHUP is passed on to the workers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        try:
            self._workers = [self._start() for _ in range(self._settings.workers)]
            while not self._stopping.wait(_WATCH_SECONDS):
                self._restart_dead()
            self._wait_for_end()
        finally:
            for worker in self._workers:
                if worker.poll() is None:
                    worker.kill()
                    worker.wait()
            shutil.rmtree(self._metrics_folder, ignore_errors=True)

    def _start(self) -> "subprocess.Popen[bytes]":
        descriptor = self._listening.fileno()
        return subprocess.Popen(
            [sys.executable, "-m", "metering.gateway", SOCKET_OPTION, str(descriptor)],
            pass_fds=[descriptor],
            env={**os.environ, FOLDER_VARIABLE: self._metrics_folder},
        )

    def _restart_dead(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker.poll() is None:
                continue
            log.error("worker %d ended with %d, starting another", worker.pid, worker.returncode)
            time.sleep(_RESTART_SECONDS)
            if not self._stopping.is_set():
                self._workers[place] = self._start()

    def _wait_for_end(self) -> None:
        deadline = time.monotonic() + self._settings.grace_seconds + _PATIENCE_SECONDS
        for worker in self._workers:
            try:
                worker.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("worker %d did not stop in time, killing it", worker.pid)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._stopping.set()
        self._pass_on(number, _)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.send_signal(number)
