"""How many client connections are open, from each address and in all, and which one makes room for a new one.

A connection that waits for a request, or whose client does not read its answer, makes room; one that is being
answered does not. So idle and stalled connections never keep others out.
"""

from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from time import monotonic
from typing import Protocol

from prometheus_client import Counter, Gauge

CONNECTIONS_OPEN = Gauge(
    "metering_connections", "Client connections that are open in this process", multiprocess_mode="livesum"
)
CONNECTIONS_DROPPED = Counter(
    "metering_connections_dropped",
    "Client connections that were closed by us, by reason: stalled (the client did not read its answer),"
    " late (a request did not arrive in time), evicted (it made room for another), refused (no room)",
    ["reason"],
)

# A client that has not read for this long is stalled enough to make room for another.
_STALLED_SECONDS = 1.0
# IPv6 hosts own a network of this size.
_IPV6_PREFIX = 64

Network = IPv4Network | IPv6Network


class Phase(StrEnum):
    """What a connection does. Only one that is being answered cannot make room."""

    IDLE = "idle"
    RECEIVING = "receiving"
    ANSWERING = "answering"
    STALLED = "stalled"


class Droppable(Protocol):
    """A connection, as it is counted here."""

    def drop(self, reason: str) -> None:
        """Close it now, without waiting for its client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The most connections, in all and from one address. Addresses in `proxies` have no limit of their own."""

    total: int
    per_address: int
    proxies: tuple[Network, ...] = ()


class _Room:
    """Connections with one limit. Those that can make room are kept in the order in which they began to wait."""

    def __init__(self) -> None:
        self.size = 0
        self._waiting: dict[Phase | None, OrderedDict[Droppable, float]] = {
            phase: OrderedDict() for phase in (Phase.IDLE, Phase.RECEIVING, Phase.STALLED)
        }

    def move(self, connection: Droppable, before: Phase | None, after: Phase | None) -> None:
        """Note that a connection changed its phase; None before it is open, and after it was closed."""
        waited, waits = self._waiting.get(before), self._waiting.get(after)
        if waited is not None:
            waited.pop(connection, None)
        if waits is not None:
            waits[connection] = monotonic()
        self.size += (before is None) - (after is None)

    def to_evict(self) -> Droppable | None:
        """The connection that can best be spared; None if all are being answered."""
        for phase, seconds in ((Phase.IDLE, 0.0), (Phase.STALLED, _STALLED_SECONDS), (Phase.RECEIVING, 0.0)):
            for connection, since in self._waiting[phase].items():
                if monotonic() - since >= seconds:
                    return connection
                break
        return None


class Connections:
    """All open connections of a server."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._all = _Room()
        self._by_address: dict[str, _Room] = {}
        self._phases: dict[Droppable, tuple[Phase, str | None]] = {}

    def __len__(self) -> int:
        return len(self._phases)

    def admit(self, connection: Droppable, host: str | None) -> bool:
        """Count a new connection, after closing another one if there is no room; False if none can be spared."""
        address = _limited_address(host, self._limits.proxies)
        room = self._by_address.get(address) if address is not None else None
        full = [
            *([room] if room is not None and room.size >= self._limits.per_address else []),
            *([self._all] if self._all.size >= self._limits.total else []),
        ]
        for crowded in full[:1]:
            spared = crowded.to_evict()
            if spared is None:
                CONNECTIONS_DROPPED.labels("refused").inc()
                return False
            spared.drop("evicted")
            self.remove(spared)
        self._phases[connection] = (Phase.IDLE, address)
        self._move(connection, address, None, Phase.IDLE)
        return True

    def note(self, connection: Droppable, phase: Phase) -> None:
        """Note what a connection does now. One that was removed is ignored."""
        known = self._phases.get(connection)
        if known is None or known[0] is phase:
            return
        self._phases[connection] = (phase, known[1])
        self._move(connection, known[1], known[0], phase)

    def remove(self, connection: Droppable) -> None:
        """Forget a connection that is closed, or about to be."""
        known = self._phases.pop(connection, None)
        if known is not None:
            self._move(connection, known[1], known[0], None)

    def _move(self, connection: Droppable, address: str | None, before: Phase | None, after: Phase | None) -> None:
        self._all.move(connection, before, after)
        if before is None or after is None:
            CONNECTIONS_OPEN.set(self._all.size)
        if address is None:
            return
        room = self._by_address.get(address)
        if room is None:
            room = self._by_address[address] = _Room()
        room.move(connection, before, after)
        if room.size == 0:
            del self._by_address[address]


@lru_cache(maxsize=10_000)
def _limited_address(host: str | None, proxies: tuple[Network, ...]) -> str | None:
    """What counts as one address; None where no limit applies: to proxies, and to Unix sockets."""
    if host is None:
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in proxies):
        return None
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)
