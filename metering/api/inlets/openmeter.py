"""`POST /api/v1/events` and `POST /v3/openmeter/events`: events as OpenMeter takes and Kong posts them."""

from typing import Any

from starlette.responses import Response

from metering.answers.json_reading import read_json
from metering.api.ingest import Posted, Taken
from metering.api.inlets.doors import Clock, body_of, bounded, require_some, sender_of, taken_of
from metering.events.events import Inlet
from metering.events.wire.decode import NDJSON, check_shape
from metering.events.wire.split import InvalidJsonError
from metering.streams.ingest.body import media_type_of
from metering.translations.access_log import read_lines
from metering.translations.openmeter import translate_openmeter
from metering.translations.openmeter_types import OpenMeterTypes


class OpenMeterDoor:
    """One event or a batch. OpenMeter's senders expect an empty answer, and read a problem."""

    def __init__(self, *, types: OpenMeterTypes, clock: Clock) -> None:
        self._types = types
        self._clock = clock

    def media_type(self, content_type: str) -> str:
        return media_type_of(content_type)

    def decode(self, posted: Posted) -> Taken:
        sender, body = sender_of(posted, clock=self._clock), body_of(posted)
        check_shape(body)
        documents = read_lines(body) if posted.media_type == NDJSON else _documents(body)
        translated = translate_openmeter(bounded(documents), types=self._types, sender=sender)
        return taken_of(translated, inlet=Inlet.OPENMETER)

    def answer(self, taken: Taken) -> Response:
        require_some(taken)
        return Response(status_code=204)


def _documents(body: bytes) -> list[Any]:
    try:
        found = read_json(body)
    except ValueError as error:
        raise InvalidJsonError(f"the body is not JSON: {error}") from error
    return found if isinstance(found, list) else [found]
