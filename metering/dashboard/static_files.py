"""The dashboard's own files, read once at the start and sent from memory: they need no key, and so cost little.

Read from disk, each takes four turns in a thread: a few hundred clients that ask for files would hold up ingest.
They are written in parts, so that a client that does not read gets the first ones only.
"""

import hashlib
import mimetypes
from importlib.resources.abc import Traversable

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from metering.dashboard.rendering import HEADERS, STATIC

FILES = "/dashboard/static/"
# Their addresses change with their content.
_PART_BYTES = 32 * 1024
_IMMUTABLE = "public, max-age=31536000, immutable"


class StaticFiles:
    """An ASGI application with all files, by their full path."""

    def __init__(self) -> None:
        self._files = {f"{FILES}{name}": _response(name, file.read_bytes()) for name, file in _all_below(STATIC)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response: Response | None = self._files.get(scope["path"])
        if response is None:
            response = PlainTextResponse("Not Found", 404, headers=dict(HEADERS))
        elif scope["method"] not in ("GET", "HEAD"):
            response = PlainTextResponse("Method Not Allowed", 405, headers={**HEADERS, "allow": "GET, HEAD"})
        elif Headers(scope=scope).get("if-none-match") == response.headers["etag"]:
            kept = ("etag", "cache-control", *HEADERS)
            response = Response(status_code=304, headers={name: response.headers[name] for name in kept})
        elif scope["method"] == "GET":
            await _send_in_parts(response, send)
            return
        await response(scope, receive, send)


async def _send_in_parts(response: Response, send: Send) -> None:
    body = response.body
    await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
    for at in range(0, max(1, len(body)), _PART_BYTES):
        end = at + _PART_BYTES
        await send({"type": "http.response.body", "body": bytes(body[at:end]), "more_body": end < len(body)})


def _response(name: str, body: bytes) -> Response:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**HEADERS, "cache-control": _IMMUTABLE, "etag": etag}
    return Response(body, headers=headers, media_type=mimetypes.guess_type(name)[0] or "text/plain")


def _all_below(folder: Traversable, path: str = "") -> list[tuple[str, Traversable]]:
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _all_below(each, f"{path}{each.name}/")
        else:
            found.append((f"{path}{each.name}", each))
    return found
