"""One request for a completion is answered: by a new completion, or by what is kept of an earlier one."""

from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from metering.gateway.client import Client
from metering.gateway.completions import Completion, new_stream_id
from metering.gateway.endpoints import Body
from metering.gateway.gateway import Gateway
from metering.gateway.problems import refused
from metering.gateway.request_body import hash_of
from metering.gateway.requests import CompletionRequest, presented_key
from metering.gateway.resume.copies import Kept
from metering.gateway.resume.copy import Copy
from metering.gateway.resume.resumed import ResumedAnswer
from metering.gateway.resume.sealing import Secret, secret_of

RESUME_HEADER = "x-resume-key"
_LEAST_KEY, _MOST_KEY = 16, 256
# What was kept may be gone when it is to be read. Each time, the next request in line may claim the name.
_TRIES = 3


class Connection(NamedTuple):
    """An ASGI connection."""

    scope: Scope
    receive: Receive
    send: Send


async def serve_completion(
    *, request: Request, completion_request: CompletionRequest, connection: Connection, gateway: Gateway
) -> None:
    """Answer the request; returns when the answer is over and metered.

    Raises:
        RefusedError: its `X-Resume-Key` cannot be used; nothing was answered.
    """
    scope, receive, send = connection
    vendor = completion_request.endpoint.vendor
    asks = RESUME_HEADER in request.headers
    stream_id = new_stream_id()
    copy: Copy | None = None
    secret = _secret(request, completion_request) if gateway.copies is not None and asks else None
    if secret is not None and gateway.copies is not None:
        for _ in range(_TRIES):
            found = await gateway.copies.claim(
                secret=secret, stream_id=stream_id, request_hash=_hash(completion_request)
            )
            if not isinstance(found, Kept):
                copy = found
                break
            client = Client(
                scope=scope, receive=receive, send=send, stream_id=found.stream_id, vendor=vendor, resumed=True
            )
            if await ResumedAnswer(kept=found, client=client, gateway=gateway, copies=gateway.copies).serve():
                return
    client = Client(
        scope=scope,
        receive=receive,
        send=send,
        stream_id=stream_id,
        vendor=vendor,
        resumed=False if asks else None,
        copy=copy,
    )
    await Completion(
        request=completion_request,
        client_headers=request.headers,
        client=client,
        stream_id=stream_id,
        gateway=gateway,
    ).serve()


def _secret(request: Request, completion_request: CompletionRequest) -> Secret | None:
    """What the answer is kept by; None if it is not kept, because forms differ each time that they are sent."""
    key = request.headers[RESUME_HEADER]
    if not _LEAST_KEY <= len(key) <= _MOST_KEY:
        message = f"X-Resume-Key: send a random secret of {_LEAST_KEY} to {_MOST_KEY} characters."
        raise refused(status=400, message=message, code="invalid_resume_key", param="X-Resume-Key")
    if completion_request.endpoint.body is not Body.JSON:
        return None
    customer_id = completion_request.key.customer_id
    return secret_of(resume_key=key, client_key=presented_key(request), customer_id=customer_id)


def _hash(request: CompletionRequest) -> str:
    return hash_of(f"{request.endpoint.path} {request.request_hash}".encode())
