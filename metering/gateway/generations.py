"""`GET /v1/generations/{id}`: what a completion costs, for the client whose key paid for it.

The metering API knows; the gateway asks it with its own key, for the customer of the client's key.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any

import httpx2
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from metering.gateway.problems import Problem, RefusedError, refused
from metering.gateway.settings import ClientKey, GatewaySettings

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 5.0
# Clients that ask at the same time; others wait.
_AT_ONCE = 16
_MAX_ID = 1_024
# A stream's end takes some hundred milliseconds to arrive: an id that is not known is looked for again.
_PAUSES_SECONDS = (0.2, 0.5, 1.0)
# What clients get of the API's answer.
_FIELDS = (
    "stream_id",
    "response_id",
    "state",
    "outcome",
    "provider",
    "model",
    "response_model",
    "started_at",
    "ended_at",
    "usage",
    "usage_source",
    "cost_usd_cents",
    "accrued_usd_cents",
)


class Generations:
    """Answers for the clients of one worker process."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._url = f"{settings.metering_url}/v1/generations"
        self._settings = settings
        self._client = httpx2.Client(timeout=_TIMEOUT_SECONDS)
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._client.close()

    async def answer(self, request: Request, key: ClientKey) -> Response:
        """The completion with the id in the path: the stream's, or the upstream's of the response.

        Raises:
            RefusedError: 404, the client's customer has none; 503, the metering API does not answer.
        """
        id_ = request.path_params["generation"]
        if not 1 <= len(id_) <= _MAX_ID or "\0" in id_:
            raise _unknown(id_)
        found = await self._found(key.customer_id, id_)
        for pause in _PAUSES_SECONDS:
            if found is not None:
                break
            await asyncio.sleep(pause)
            found = await self._found(key.customer_id, id_)
        if found is None:
            raise _unknown(id_)
        return JSONResponse({"object": "generation", "id": id_, **{name: found.get(name) for name in _FIELDS}})

    async def _found(self, customer_id: str, id_: str) -> Mapping[str, Any] | None:
        async with self._turns:
            return await asyncio.to_thread(self._find, customer_id, id_)

    def _find(self, customer_id: str, id_: str) -> Mapping[str, Any] | None:
        try:
            headers = {"authorization": f"Bearer {self._settings.current_ingest_key()}"}
            answer = self._client.get(self._url, params={"customer_id": customer_id, "id": id_}, headers=headers)
            if answer.status_code in (404, 422):
                return None
            answer.raise_for_status()
            found: Mapping[str, Any] = answer.json()
        except (OSError, httpx2.HTTPError, ValueError) as error:
            log.warning("the metering API did not say what a completion costs: %r", error)
            raise _away() from error
        return found


def _unknown(id_: str) -> RefusedError:
    message = (
        f"No completion {id_[:80]!r} is known. While one runs, it is known by the id in the header"
        " x-metering-stream-id; by its response's id once it has ended."
    )
    return refused(status=404, message=message, code="generation_not_found", param="id")


def _away() -> RefusedError:
    message = "What completions cost is not known now. Try again: nothing is lost."
    return RefusedError(Problem(status=503, message=message, type="server_error", code="metering_unavailable"))
