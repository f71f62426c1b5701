"""The answers that this process keeps for clients that may come back: claimed, written, renewed and given up.

A completion only adds to a list in memory. One task writes what all completions have added, another gives signs of
life. When Valkey fails, completions go on without their copies.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from metering.emitter.reports import Troubles
from metering.gateway.metrics import Metrics
from metering.gateway.problems import refused
from metering.gateway.resume.copy import Copy, Head
from metering.gateway.resume.sealing import Place, SealError, Secret, new_owner
from metering.gateway.resume.settings import ResumeSettings
from metering.gateway.resume.store import Append, Claimed, Full, State, Store, StoreError

log = logging.getLogger(__name__)

_RENEW_SECONDS = 1.0
# Between two writes: what completions add in this time goes in one.
_GATHER_SECONDS = 0.02
_WRITE_BYTES = 1 << 20
_CLOSE_SECONDS = 1.0
# After a failure, requests do not wait for Valkey for this long.
_AWAY_SECONDS = 5.0
_MAX_UNWANTED = 10_000
_DELETES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer that an earlier request began."""

    secret: Secret
    owner: bytes
    stream_id: str


class Copies:
    """The copies of one worker process, and what its clients come back to."""

    def __init__(self, *, settings: ResumeSettings, metrics: Metrics) -> None:
        self.settings = settings
        self.store = Store(settings)
        self._metrics = metrics
        self._troubles = Troubles(log)
        self._open: set[Copy] = set()
        self._changed: dict[Copy, None] = {}
        self._read: Counter[Place] = Counter()
        # What is to be deleted, as soon as Valkey can be asked. What is left over is gone after its lifetime.
        self._unwanted: deque[tuple[Place, bytes]] = deque(maxlen=_MAX_UNWANTED)
        self._wake = asyncio.Event()
        self._away_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to write and to renew, in the running event loop."""
        self._tasks = [asyncio.create_task(self._write_on()), asyncio.create_task(self._renew_on())]

    async def close(self) -> None:
        """Write what waits, if that is quickly done, and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks, timeout=_CLOSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._write_all()
                await self._delete_some()
        await self.store.close()

    async def claim(self, *, secret: Secret, stream_id: str, request_hash: str) -> Copy | Kept | None:
        """The copy of a new answer, or what is kept of an earlier one; None if none can be kept.

        Raises:
            RefusedError: 422, the key belongs to another request.
        """
        if self._is_away():
            self._metrics.resume("unavailable")
            return None
        owner = new_owner()
        head = msgspec.msgpack.encode(Head(stream_id, request_hash))
        try:
            found = await self.store.claim(secret.place, owner, secret.seal(owner, 0, head))
        except StoreError as error:
            self._fails(error)
            # It may have been carried out all the same.
            self._unwanted.append((secret.place, owner))
            self._metrics.resume("unavailable")
            return None
        self._answers()
        if isinstance(found, Claimed):
            return self._kept(secret, found, request_hash)
        if isinstance(found, Full):
            self._metrics.resume("full")
            return None
        self._metrics.resume("kept")
        return self._new_copy(secret, owner)

    async def give_up(self, copy: Copy) -> bool:
        """Keep a copy no more, unless a client has come back to it; False if one has."""
        try:
            released = await self.store.release(copy.place, copy.owner, unless_read=True)
        except StoreError as error:
            self._fails(error)
            released = True
        if not released:
            copy.read_at = self._now()
            return False
        self._open.discard(copy)
        copy.forget()
        self._metrics.resume("given_up")
        return True

    async def release(self, kept: Kept) -> None:
        """Delete an answer whose process has died before it had shown anything."""
        try:
            await self.store.release(kept.secret.place, kept.owner)
        except StoreError as error:
            self._fails(error)

    @contextmanager
    def reading(self, kept: Kept) -> Iterator[None]:
        """Within, the process that writes this answer learns that it has a reader."""
        place = kept.secret.place
        self._read[place] += 1
        try:
            yield
        finally:
            self._read[place] -= 1
            if not self._read[place]:
                del self._read[place]

    def _kept(self, secret: Secret, found: Claimed, request_hash: str) -> Kept | None:
        try:
            head = msgspec.msgpack.decode(secret.unseal(found.owner, 0, found.sealed), type=Head)
        except SealError:
            log.error("an answer in Valkey was changed from outside: it is not used")
            self._metrics.resume("unavailable")
            return None
        if head.request_hash != request_hash:
            self._metrics.resume("conflict")
            message = "This X-Resume-Key belongs to another request: use a new key for each completion."
            raise refused(status=422, message=message, code="resume_key_reused", param="X-Resume-Key")
        return Kept(secret=secret, owner=found.owner, stream_id=head.stream_id)

    def _new_copy(self, secret: Secret, owner: bytes) -> Copy:
        copy = Copy(
            secret=secret,
            owner=owner,
            max_bytes=self.settings.max_bytes,
            on_change=self._note_change,
            on_drop=self._note_drop,
        )
        self._open.add(copy)
        return copy

    def _note_change(self, copy: Copy) -> None:
        self._changed[copy] = None
        self._wake.set()

    def _note_drop(self, copy: Copy, why: str) -> None:
        if why:
            self._metrics.resume(why)
        self._open.discard(copy)
        self._changed.pop(copy, None)
        self._unwanted.append((copy.place, copy.owner))
        self._wake.set()

    async def _write_on(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._write_all()
            await self._delete_some()
            await asyncio.sleep(_GATHER_SECONDS)

    async def _write_all(self) -> None:
        try:
            while self._changed:
                await self._write_some()
                self._answers()
        except StoreError as error:
            self._lose_all(error)

    async def _delete_some(self) -> None:
        try:
            for _ in range(min(len(self._unwanted), _DELETES)):
                await self.store.release(*self._unwanted[0])
                self._unwanted.popleft()
        except StoreError as error:
            self._fails(error)

    async def _write_some(self) -> None:
        """Write what waits of some copies, of about a mebibyte."""
        copies, appends, size = [], [], 0
        while self._changed and size < _WRITE_BYTES:
            copy = next(iter(self._changed))
            del self._changed[copy]
            pieces = copy.take()
            size += sum(len(sealed) for _, sealed in pieces)
            copies.append(copy)
            appends.append(Append(copy.place, copy.owner, pieces))
        for copy, kept in zip(copies, await self.store.append(appends), strict=True):
            if not kept:
                self._lose(copy)
            elif copy.has_ended and copy not in self._changed:
                self._open.discard(copy)

    async def _renew_on(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            owned, read = list(self._open), list(self._read)
            try:
                if owned or read:
                    states = await self.store.renew([(copy.place, copy.owner) for copy in owned], read)
                    self._answers()
                    for copy, state in zip(owned, states, strict=True):
                        self._note_state(copy, state)
            except StoreError as error:
                self._fails(error)
            if self._unwanted and not self._is_away():
                self._wake.set()

    def _note_state(self, copy: Copy, state: State) -> None:
        if state is State.GONE:
            self._lose(copy)
        elif state is State.READ:
            copy.read_at = self._now()

    def _lose(self, copy: Copy) -> None:
        """Valkey no longer has it: its lifetime is over, or the memory was full."""
        if copy in self._open:
            self._open.discard(copy)
            copy.forget()
            self._metrics.resume("evicted")

    def _lose_all(self, error: StoreError) -> None:
        """What was to be written may be missing: no copy can be trusted, and none is wanted."""
        self._fails(error)
        for copy in self._open:
            copy.forget()
            self._unwanted.append((copy.place, copy.owner))
            self._metrics.resume("unavailable")
        self._open.clear()
        self._changed.clear()

    def _is_away(self) -> bool:
        return self._now() < self._away_until

    def _fails(self, error: Exception) -> None:
        self._away_until = self._now() + _AWAY_SECONDS
        self._metrics.problem("resume_store")
        self._troubles.arises("store", "store", "answers are not kept for clients that come back: %s", error)

    def _answers(self) -> None:
        if not self._away_until:
            return
        self._away_until = 0.0
        self._troubles.passes("store", "Valkey answers: answers are kept again")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
