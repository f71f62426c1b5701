"""The reference gateway: the OpenAI wire format in, an upstream out, every completion metered by the emitter."""

from metering.gateway.app import create_app, run
from metering.gateway.settings import GatewayConfigError, GatewaySettings, settings_from_environment

__all__ = ["GatewayConfigError", "GatewaySettings", "create_app", "run", "settings_from_environment"]
