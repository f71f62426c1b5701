"""The answer to a client that comes back: what is kept, and then the rest as it is written.

Nothing is metered here: it is the completion of an earlier request, which a worker process serves or has served.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

import msgspec

from metering.gateway.client import Client
from metering.gateway.gateway import Gateway
from metering.gateway.problems import Problem
from metering.gateway.resume.copies import Copies, Kept
from metering.gateway.resume.copy import Beginning, Kind
from metering.gateway.resume.sealing import SealError
from metering.gateway.resume.store import StoreError

log = logging.getLogger(__name__)

# So often in a row there must be no sign of life, so that one that comes late does not count.
_LOOKS = 2


def _problem(status: int, code: str, message: str) -> Problem:
    return Problem(status=status, message=message, type="server_error", code=code)


_LOST = _problem(
    502, "resume_lost", "This completion was lost before it was finished. Ask again with a new X-Resume-Key."
)
_UNAVAILABLE = _problem(
    503, "resume_unavailable", "What is kept of this completion cannot be read now. Try again with the same key."
)
_STOPPED = _problem(503, "gateway_shutdown", "The gateway is restarting. Try again with the same X-Resume-Key.")


class _LostError(Exception):
    """The rest of the answer will not come."""


class ResumedAnswer:
    """Gives one client what is kept of an answer, and follows the answer to its end."""

    def __init__(self, *, kept: Kept, client: Client, gateway: Gateway, copies: Copies) -> None:
        self._kept = kept
        self._client = client
        self._gateway = gateway
        self._copies = copies
        self._interrupted = asyncio.Event()

    async def serve(self) -> bool:
        """Answer the client; False if nothing of the answer is left, and the client was shown nothing."""
        work = asyncio.create_task(self._work())
        watch = asyncio.create_task(self._client.until_gone())
        stop = asyncio.create_task(self._interrupted.wait())
        self._gateway.running.add(self)
        try:
            await asyncio.wait({work, watch, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._gateway.running.discard(self)
            for task in (work, watch, stop):
                task.cancel()
            await asyncio.wait({work})
        if self._interrupted.is_set() and not self._client.is_complete:
            await self._client.say_goodbye(_STOPPED)
        return work.cancelled() or work.result()

    def blocked_for(self, now: float) -> float:
        """The seconds for which the client has taken nothing of what waits for it."""
        return 0.0 if self._client.blocked_since is None else now - self._client.blocked_since

    def stop_for_stall(self) -> None:
        """Disconnect the client, which does not read. The completion is not touched."""
        self._gateway.metrics.problem("stalled_client")
        log.warning("stream %s: a resuming client stopped reading", self._kept.stream_id)
        self._interrupted.set()

    def stop_for_shutdown(self) -> None:
        """End it with an error for the client, who may come back once more."""
        self._interrupted.set()

    async def _work(self) -> bool:
        client = self._client
        try:
            with self._copies.reading(self._kept):
                await self._pass_on()
        except (_LostError, SealError):
            if not client.headers_sent:
                await self._copies.release(self._kept)
                return False
            self._gateway.metrics.resume("lost")
            await client.send_problem(_LOST)
        except StoreError as error:
            log.warning("stream %s: cannot serve a resuming client: %s", self._kept.stream_id, error)
            await client.send_problem(_UNAVAILABLE)
        return True

    async def _pass_on(self) -> None:
        async for kind, content in self._pieces():
            if kind is Kind.BEGINNING:
                self._gateway.metrics.resume("resumed")
                beginning = msgspec.msgpack.decode(content, type=Beginning)
                await self._client.send_headers(beginning.status, beginning.headers)
            elif kind is Kind.BODY:
                await self._client.send_body(content)
            else:
                await self._client.finish()

    async def _pieces(self) -> AsyncIterator[tuple[Kind, bytes]]:
        """The pieces of the answer to its end, each as soon as it is there."""
        secret, owner, last, silent = self._kept.secret, self._kept.owner, 0, 0
        while True:
            pieces = await self._copies.store.read(secret.place, last)
            for number, sealed in pieces:
                if number != last + 1:
                    raise _LostError
                last = number
                content = secret.unseal(owner, number, sealed)
                kind = Kind(content[0])
                yield kind, content[1:]
                if kind is Kind.END:
                    return
            if not pieces:
                is_kept, is_alive = await self._copies.store.look(secret.place, owner)
                silent = 0 if is_alive else silent + 1
                if not is_kept or silent >= _LOOKS:
                    raise _LostError
