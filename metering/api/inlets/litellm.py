"""`POST /v1/events/litellm`: what LiteLLM's `generic_api` logger posts: an array, one a line, or one payload."""

from starlette.responses import Response

from metering.api.ingest import Posted, Taken
from metering.api.inlets.doors import Clock, answer_of, body_of, bounded, sender_of, taken_of
from metering.events.events import Inlet
from metering.events.wire.decode import MAX_VALUES, TooManyValuesError
from metering.events.wire.split import InvalidJsonError
from metering.streams.ingest.body import media_type_of
from metering.translations.litellm_payloads import LiteLLMRules, read_payloads, translate_litellm


class LiteLLMDoor:
    """Payloads of calls that are over. Of their prompts and answers, nothing is read or stored."""

    def __init__(self, *, rules: LiteLLMRules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock

    def media_type(self, content_type: str) -> str:
        return media_type_of(content_type)

    def decode(self, posted: Posted) -> Taken:
        sender, body = sender_of(posted, clock=self._clock), body_of(posted)
        # Not `check_shape`: prompts and answers may have any number of values, and become none.
        if body.count(b"{") > MAX_VALUES:
            raise TooManyValuesError
        try:
            payloads = bounded(read_payloads(body))
        except ValueError as error:
            raise InvalidJsonError(f"the body is not JSON: {error}") from error
        return taken_of(translate_litellm(payloads, rules=self._rules, sender=sender), inlet=Inlet.LITELLM)

    def answer(self, taken: Taken) -> Response:
        return answer_of(taken)
