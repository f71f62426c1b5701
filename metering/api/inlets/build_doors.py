"""Which door each path that takes usage events has."""

from collections.abc import Mapping

from metering.api.events import EventsDoor
from metering.api.ingest import Door
from metering.api.inlets.access_log import AccessLogDoor
from metering.api.inlets.doors import Clock
from metering.api.inlets.litellm import LiteLLMDoor
from metering.api.inlets.openmeter import OpenMeterDoor
from metering.api.inlets.otlp import LOGS, TRACES, OtlpDoor
from metering.server.settings import ConfigurationError, Settings, variable_of
from metering.translations.access_log import AccessLogRules
from metering.translations.litellm_payloads import LiteLLMRules
from metering.translations.openmeter_types import OpenMeterTypes, OpenMeterTypesError, declared_types


def build_doors(settings: Settings, *, clock: Clock) -> Mapping[str, Door]:
    """The door of each path.

    Raises:
        ConfigurationError: the file with OpenMeter's types cannot be used.
    """
    openmeter = OpenMeterDoor(types=_openmeter_types(settings), clock=clock)
    access_log = AccessLogRules(customer=settings.access_log_fields, providers=settings.access_log_upstreams)
    litellm = LiteLLMRules(
        payers=settings.litellm_payers,
        default_customer=settings.litellm_default_customer,
        tags=settings.litellm_tag_names,
    )
    return {
        "/v1/events": EventsDoor(),
        "/v1/events/access-log": AccessLogDoor(rules=access_log, clock=clock),
        "/v1/events/litellm": LiteLLMDoor(rules=litellm, clock=clock),
        "/api/v1/events": openmeter,
        "/v3/openmeter/events": openmeter,
        "/v1/traces": OtlpDoor(signal=TRACES, rules=settings.otlp_rules),
        "/v1/logs": OtlpDoor(signal=LOGS, rules=settings.otlp_rules),
    }


def _openmeter_types(settings: Settings) -> OpenMeterTypes:
    path = settings.openmeter_types
    try:
        return declared_types(None if path is None else path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, OpenMeterTypesError) as error:
        raise ConfigurationError(f"{variable_of('openmeter_types')}: {path}: {error}") from error
