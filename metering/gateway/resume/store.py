"""Kept answers in Valkey: each is a stream of sealed pieces, with marks of the process that writes and of readers.

A place belongs to the owner whose mark stands in its first entry: others cannot write, renew or delete it. Each
key has a lifetime. A call that takes too long is given up.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from metering.core.errors import MeteringError
from metering.gateway.resume.sealing import Place
from metering.gateway.resume.settings import ALIVE_SECONDS, ResumeSettings

_PREFIX = "metering:resume:"
_INDEX = "metering:resume-index"
_HEAD = "0-1"
_ALIVE_MS = int(ALIVE_SECONDS * 1_000)
# A reader counts as gone without a sign of life for this long.
_READER_MS = 3_000
# Writing does not hold up completions, so that it may take as long as its process counts as alive.
_WRITE_SECONDS = ALIVE_SECONDS
_BLOCK_MS = 500
_READ_COUNT = 16
_CONNECTIONS = 16
# Each reader waits on a connection of its own.
_MAX_READERS = 500

# Returns nothing if the name is claimed now, its first entry if it was claimed before, or 0 if too many are kept.
_CLAIM = """
local known = redis.call('XRANGE', KEYS[1], '0-1', '0-1')[1]
if known then
  -- Without memory for the mark, what is kept can still be read.
  redis.pcall('SET', KEYS[3], '', 'PX', ARGV[5])
  return known[2]
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for place, index in ipairs({KEYS[4], KEYS[5]}) do
  if redis.call('ZCOUNT', index, now, '+inf') >= tonumber(ARGV[5 + place]) then return 0 end
end
-- Valkey refuses a script that is out of memory at its first write only: it is this one.
redis.call('XADD', KEYS[1], '0-1', 'owner', ARGV[1], 'piece', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], '', 'PX', ARGV[4])
for _, index in ipairs({KEYS[4], KEYS[5]}) do
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now)
  redis.call('ZADD', index, now + ARGV[3], KEYS[1])
  redis.call('PEXPIRE', index, ARGV[3])
end
return nil
"""
_OWNS = """
local function owns(key, owner)
  local head = redis.call('XRANGE', key, '0-1', '0-1')[1]
  return head and head[2][2] == owner
end
"""
# For each key: its owner, the number of its pieces, and each piece's id and content. Returns 1 for each key
# that is still kept.
_APPEND = (
    _OWNS
    + """
local at, kept = 2, {}
for place, key in ipairs(KEYS) do
  local count = tonumber(ARGV[at + 1])
  local good = owns(key, ARGV[at])
  if good then
    for piece = at + 2, at + 2 * count, 2 do redis.call('XADD', key, ARGV[piece], 'piece', ARGV[piece + 1]) end
    redis.call('PEXPIRE', key, ARGV[1])
  end
  kept[place] = good and 1 or 0
  at = at + 2 + 2 * count
end
return kept
"""
)
# Keys: the five of each answer that this process writes; then the reader's mark of each that it reads.
# Returns for each that it writes: 0 if it is gone, 2 if it has a reader, else 1.
_RENEW = (
    _OWNS
    + """
local time = redis.call('TIME')
local until_ = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
local owned, states = #ARGV - 3, {}
for place = 1, owned do
  local first = 5 * place - 4
  local key, alive, reader = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  states[place] = 0
  if owns(key, ARGV[place + 3]) then
    redis.call('PEXPIRE', key, ARGV[1])
    redis.call('SET', alive, '', 'PX', ARGV[2])
    for index = first + 3, first + 4 do
      redis.call('ZADD', KEYS[index], until_, key)
      redis.call('PEXPIRE', KEYS[index], ARGV[1])
    end
    states[place] = 1 + redis.call('EXISTS', reader)
  end
end
for place = 5 * owned + 1, #KEYS do redis.call('SET', KEYS[place], '', 'PX', ARGV[3]) end
return states
"""
)
# Returns 0 if it stays because it has a reader, else 1.
_RELEASE = (
    _OWNS
    + """
if not owns(KEYS[1], ARGV[1]) then return 1 end
if ARGV[2] == '1' and redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('ZREM', KEYS[4], KEYS[1])
redis.call('ZREM', KEYS[5], KEYS[1])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return 1
"""
)
_LOOK = _OWNS + "return {owns(KEYS[1], ARGV[1]) and 1 or 0, redis.call('EXISTS', KEYS[2])}"


class StoreError(MeteringError):
    """Valkey cannot be reached, does not answer in time, or refuses."""


class State(IntEnum):
    """What is known of a copy when its owner renews it."""

    GONE = 0
    KEPT = 1
    READ = 2


class Full:
    """The answer to a claim when as many answers are kept as may be."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The first entry of a name that was claimed before."""

    owner: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """Pieces to be appended, each with its number, from 1."""

    place: Place
    owner: bytes
    pieces: Sequence[tuple[int, bytes]]


class Store:
    """The Valkey of one worker process."""

    def __init__(self, settings: ResumeSettings) -> None:
        self._claim_seconds = settings.timeout_seconds
        self._keep_ms = int(settings.keep_seconds * 1_000)
        self._most = (settings.max_streams, settings.max_streams_per_customer)
        # Requests wait for a connection; a reader too many is refused.
        self._redis = _client(BlockingConnectionPool, settings, _CONNECTIONS)
        self._readers = _client(ConnectionPool, settings, _MAX_READERS)
        self._claim = self._redis.register_script(_CLAIM)
        self._append = self._redis.register_script(_APPEND)
        self._renew = self._redis.register_script(_RENEW)
        self._release = self._redis.register_script(_RELEASE)
        self._look = self._redis.register_script(_LOOK)

    async def claim(self, place: Place, owner: bytes, sealed: bytes) -> Claimed | Full | None:
        """Claim a place; None if it was free. A claim that finds an answer counts as a reader of it.

        Raises:
            StoreError: Valkey did not answer in time; it may have carried it out.
        """
        args: list[Any] = [owner, sealed, self._keep_ms, _ALIVE_MS, _READER_MS, *self._most]
        async with _within(self._claim_seconds):
            found = await self._claim(keys=_keys(place), args=args)
        if found is None:
            return None
        return Full() if found == 0 else Claimed(found[1], found[3])

    async def append(self, appends: Sequence[Append]) -> list[bool]:
        """Append pieces; says for each place whether it is still kept for this owner.

        Raises:
            StoreError: nothing is known of what was appended.
        """
        args: list[Any] = [self._keep_ms]
        for each in appends:
            args += (each.owner, len(each.pieces))
            for number, sealed in each.pieces:
                args += (f"{number}-0", sealed)
        async with _within(_WRITE_SECONDS):
            kept = await self._append(keys=[_PREFIX + each.place.name for each in appends], args=args)
        return [bool(each) for each in kept]

    async def renew(self, owned: Sequence[tuple[Place, bytes]], read: Sequence[Place]) -> list[State]:
        """Give a sign of life of what this process writes and reads; returns the state of each that it writes.

        Raises:
            StoreError: Valkey did not answer in time.
        """
        keys = [key for place, _ in owned for key in _keys(place)]
        keys += (_keys(place)[2] for place in read)
        args: list[Any] = [self._keep_ms, _ALIVE_MS, _READER_MS, *(owner for _, owner in owned)]
        async with _within(_WRITE_SECONDS):
            states = await self._renew(keys=keys, args=args)
        return [State(each) for each in states]

    async def release(self, place: Place, owner: bytes, *, unless_read: bool = False) -> bool:
        """Delete an answer of this owner, but not `unless_read` if it has a reader. False if it stays.

        Raises:
            StoreError: Valkey did not answer in time.
        """
        async with _within(_WRITE_SECONDS):
            args: list[Any] = [owner, "1" if unless_read else "0"]
            return bool(await self._release(keys=_keys(place), args=args))

    async def look(self, place: Place, owner: bytes) -> tuple[bool, bool]:
        """Whether the owner's answer is still kept, and whether the process that writes it is alive.

        Raises:
            StoreError: Valkey did not answer in time.
        """
        async with _within(_WRITE_SECONDS):
            kept, alive = await self._look(keys=_keys(place)[:2], args=[owner])
        return bool(kept), bool(alive)

    async def read(self, place: Place, after: int) -> list[tuple[int, bytes]]:
        """The next pieces after number `after`, with their numbers; none if none comes within half a second.

        Raises:
            StoreError: Valkey did not answer in time, or too many read at the same time.
        """
        last = f"{after}-0" if after else _HEAD
        async with _within(_BLOCK_MS / 1_000 + _WRITE_SECONDS):
            streams: Any = {_PREFIX + place.name: last}
            found: Any = await self._readers.xread(streams, count=_READ_COUNT, block=_BLOCK_MS)
        entries = found[0][1] if found else []
        return [(int(id_.partition(b"-")[0]), fields[b"piece"]) for id_, fields in entries]

    async def close(self) -> None:
        for client in (self._redis, self._readers):
            await client.aclose()


def _client(kind: type[ConnectionPool], settings: ResumeSettings, connections: int) -> Redis:
    pool = kind.from_url(
        settings.url,
        max_connections=connections,
        # Each call has its own timeout. The client's would lose cancellations: it uses `asyncio.wait_for`.
        socket_timeout=None,
        socket_connect_timeout=_WRITE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return Redis.from_pool(pool)


def _keys(place: Place) -> list[str]:
    """The stream, the marks of its living owner and of a reader, and the indexes of all and of the customer."""
    key = _PREFIX + place.name
    return [key, f"{key}:alive", f"{key}:reader", _INDEX, f"{_INDEX}:{place.customer}"]


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise StoreError(f"Valkey did not answer within {seconds:g} s") from error
    except (RedisError, OSError) as error:
        raise StoreError(f"{type(error).__name__}: {error}") from error
