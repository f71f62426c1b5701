"""The floor of single requests: a server that reads each body and answers, and does nothing else.

Run as `python -m metering.lab.bench.asgi_floor`; it prints its port.
"""

import socket
import sys
from typing import Any

import uvicorn

_ANSWER = b'{"accepted":1,"duplicates":0,"rejected":[]}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Read a request, and answer it as if its event had been accepted."""
    more = scope["type"] == "http"
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


if __name__ == "__main__":
    config = uvicorn.Config(answer, lifespan="off", log_config=None, access_log=False, server_header=False)
    listening = socket.create_server(("127.0.0.1", 0), backlog=config.backlog)
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listening])
