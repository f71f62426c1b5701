"""`POST /v1/events/access-log?dialect=…`: lines of gateways' access logs, an array or one a line."""

from starlette.responses import Response

from metering.api.ingest import Posted, Taken
from metering.api.inlets.doors import Clock, answer_of, body_of, bounded, sender_of, taken_of
from metering.api.problems import InvalidParameterError
from metering.events.events import Inlet
from metering.events.wire.decode import check_shape
from metering.streams.ingest.body import media_type_of
from metering.translations.access_log import AccessLogRules, Dialect, read_lines, translate_access_log
from metering.translations.access_log_apisix import APISIX
from metering.translations.access_log_envoy import ENVOY
from metering.translations.access_log_higress import HIGRESS

DIALECTS = {dialect.name: dialect for dialect in (ENVOY, APISIX, HIGRESS)}
# So does APISIX's http-logger post lines.
_TEXT = frozenset({"text/plain"})


class AccessLogDoor:
    """Log lines of the dialect that the query names."""

    def __init__(self, *, rules: AccessLogRules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock

    def media_type(self, content_type: str) -> str:
        return media_type_of(content_type, also=_TEXT)

    def decode(self, posted: Posted) -> Taken:
        dialect = _dialect(posted)
        sender, body = sender_of(posted, clock=self._clock), body_of(posted)
        check_shape(body)
        lines = bounded(read_lines(body))
        translated = translate_access_log(lines, dialect=dialect, rules=self._rules, sender=sender)
        return taken_of(translated, inlet=Inlet.ACCESS_LOG)

    def answer(self, taken: Taken) -> Response:
        return answer_of(taken)


def _dialect(posted: Posted) -> Dialect:
    if unknown := sorted(set(posted.query) - {"dialect"}):
        raise InvalidParameterError(f"{unknown[0][:80]}: unknown query parameter")
    named = posted.query.get("dialect", "")
    if named not in DIALECTS:
        raise InvalidParameterError(f"dialect: expected {', '.join(DIALECTS)}; got {named[:80]!r}")
    return DIALECTS[named]
