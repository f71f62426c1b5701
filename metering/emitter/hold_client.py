"""Posts and deletes holds over HTTP. Failures of network and service are answers, not errors."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import httpx2
import msgspec

from metering.emitter.delivery import current_key, trouble_of
from metering.emitter.hold import Hold, HoldRefused, HoldRequest
from metering.emitter.hold_answers import document_of, held, refusal

_MAX_ANSWER_BYTES = 1 << 20
# The service knows what it was asked for, and refuses it for good.
_REFUSING = frozenset({400, 402, 409, 413, 415, 422})
_KEPT_ALIVE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """There is no answer, and why. `may_have_arrived`: the service may have done what it was asked for."""

    problem: str
    may_have_arrived: bool = True
    misconfigured: bool = False


class HoldClient:
    """The connections to one service. Threads can share it."""

    def __init__(self, *, url: str, key: str | Callable[[], str], connections: int) -> None:
        self._endpoint = f"{url.rstrip('/')}/v1/holds"
        self._key = key
        self._client = httpx2.Client(
            headers={"user-agent": "metering-emitter"},
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=_KEPT_ALIVE_SECONDS,
            ),
        )

    def close(self) -> None:
        self._client.close()

    def ask(self, request: HoldRequest, *, seconds: float) -> Hold | HoldRefused | NoAnswer:
        """Ask once for a hold."""
        body = msgspec.json.encode(request.body())
        answer = self._send("POST", self._endpoint, body, seconds)
        if isinstance(answer, NoAnswer):
            return answer
        status, content = answer
        if status in (200, 201):
            return held(request, document_of(content))
        if status in _REFUSING:
            return refusal(status, document_of(content))
        return self._judge(status)

    def release(self, customer_id: str, stream_id: str, *, seconds: float) -> bool | NoAnswer:
        """Release a hold once: False if the stream has begun."""
        names = "/".join(quote(each, safe="") for each in (customer_id, stream_id))
        answer = self._send("DELETE", f"{self._endpoint}/{names}", None, seconds)
        if isinstance(answer, NoAnswer):
            return answer
        status, content = answer
        if status in (200, 204) or (status == 404 and document_of(content)):
            return True
        return False if status == 409 else self._judge(status)

    def _judge(self, status: int) -> NoAnswer:
        problem, misconfigured = trouble_of(status, self._endpoint, serves="a service with holds")
        return NoAnswer(problem, may_have_arrived=not misconfigured, misconfigured=misconfigured)

    def _send(self, method: str, url: str, body: bytes | None, seconds: float) -> tuple[int, bytes] | NoAnswer:
        deadline = time.monotonic() + seconds
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            headers["authorization"] = f"Bearer {current_key(self._key)}"
        except Exception as error:  # noqa: BLE001 - the caller's function
            problem = f"the emitter's `key` cannot be read: {error}"
            return NoAnswer(problem, may_have_arrived=False, misconfigured=True)
        try:
            with self._client.stream(method, url, content=body, headers=headers, timeout=seconds) as response:
                content = bytearray()
                for part in response.iter_bytes():
                    content += part
                    if len(content) > _MAX_ANSWER_BYTES or time.monotonic() > deadline:
                        return NoAnswer(f"{url} answers without end")
                return response.status_code, bytes(content)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL) as error:
            return NoAnswer(f"{self._endpoint} cannot be reached: {error!r}", may_have_arrived=False)
        except (httpx2.HTTPError, httpx2.StreamError, RuntimeError) as error:
            return NoAnswer(f"{self._endpoint} does not answer: {error!r}")
