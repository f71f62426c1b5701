"""The reference gateway: takes OpenAI requests, forwards them to an upstream, and meters every completion."""

from metering.gateway.app import create_app
from metering.gateway.environment import GatewayConfigError
from metering.gateway.settings import GatewaySettings, settings_from_environment

__all__ = ["GatewayConfigError", "GatewaySettings", "create_app", "settings_from_environment"]
