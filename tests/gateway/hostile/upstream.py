"""An upstream on raw sockets that answers as a behaviour says, and keeps what it had written when the client left.

The requested model is `<model>:<behaviour>`.
"""

import asyncio
import json
import re
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from tests.gateway.hostile.behaviours import Behaviour, End, Pause, Write

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODEL_IN_FORM = re.compile(rb'name="model"\r\n\r\n([^\r\n]+)\r\n')
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Record:
    """One request, and what of its answer was written; `disconnected` if the gateway closed first."""

    body: bytes
    tokens_written: int = 0
    finished: bool = False
    disconnected: bool = False


class HostileUpstream:
    """Runs in a thread of its own."""

    def __init__(self, behaviours: Iterable[Behaviour]) -> None:
        self._behaviours = {each.name: each for each in behaviours}
        self.records: dict[str, list[Record]] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def last(self, name: str) -> Record:
        return self.records[name][-1]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                continue
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        # A form's fields are in clear text.
        form = _MODEL_IN_FORM.search(body)
        model = form[1].decode() if form else json.loads(body)["model"]
        name = model.partition(":")[2]
        behaviour = self._behaviours[name]
        if behaviour.refuses_usage_option and b"stream_options" in body:
            behaviour = _refusal(behaviour)
        record = Record(body)
        self.records.setdefault(name, []).append(record)
        gone = asyncio.ensure_future(_until_gone(reader, writer, half=behaviour.notices))
        playing = asyncio.ensure_future(self._play(behaviour, reader, writer, record))
        await asyncio.wait({gone, playing}, return_when=asyncio.FIRST_COMPLETED)
        record.disconnected = not playing.done() or isinstance(playing.exception(), ConnectionError)
        playing.cancel()
        gone.cancel()
        results = await asyncio.gather(playing, gone, return_exceptions=True)
        return results[0] is True

    async def _play(
        self, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: Record
    ) -> bool:
        """Write the answer; returns whether the connection can be used again."""
        whole = b"".join(step.data for step in behaviour.steps if isinstance(step, Write))
        started = False
        for step in behaviour.steps:
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                continue
            if not started:
                writer.write(behaviour.before_head + _head(behaviour, len(whole)))
                started = True
            if isinstance(step, End):
                await writer.drain()
                if step.how == "rst":
                    connection = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort() if step.how == "rst" else writer.close()
                return False
            if (behaviour.notices and reader.at_eof()) or writer.is_closing():
                # It has noticed, before the task that waits for this ran.
                await asyncio.sleep(60)
            for part in _parts(step.data, behaviour.piece):
                writer.write(_framed(behaviour, part))
            record.tokens_written += step.tokens
            await writer.drain()
            await asyncio.sleep(0)
        if not started:
            writer.write(_head(behaviour, 0))
        if behaviour.framing == "chunked":
            writer.write(b"0\r\nx-trailer: yes\r\n\r\n" if behaviour.status < 300 else b"0\r\n\r\n")
        record.finished = True
        await writer.drain()
        return behaviour.framing != "close"


async def _until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, half: bool) -> None:
    """Returns when the client has closed, or half closed; reads nothing, which may belong to its next request."""
    while not (half and reader.at_eof()) and not writer.is_closing() and reader.exception() is None:
        await asyncio.sleep(0.002)


def _refusal(behaviour: Behaviour) -> Behaviour:
    error = {"message": "Unknown parameter: 'stream_options'.", "code": "unknown_parameter"}
    return behaviour.but(
        status=behaviour.refuses_usage_option,
        steps=[Write(json.dumps({"error": error}).encode())],
        content_type="application/json",
        framing="length",
    )


def _head(behaviour: Behaviour, length: int) -> bytes:
    headers = [*behaviour.headers, ("x-hostile", behaviour.name)]
    if behaviour.content_type is not None:
        headers.append(("content-type", behaviour.content_type))
    if behaviour.framing == "chunked":
        headers.append(("transfer-encoding", "chunked"))
    elif behaviour.framing == "length":
        headers.append(("content-length", str(length)))
    lines = [f"HTTP/1.1 {behaviour.status} X", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode()


def _parts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] if size else [data]


def _framed(behaviour: Behaviour, data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if behaviour.framing == "chunked" else data
