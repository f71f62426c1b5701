"""`metering demo` and `metering gateway`."""

import sys
from typing import Annotated

import typer

from metering.demo.play import play_demo
from metering.gateway import run, settings_from_environment
from metering.logs import configure_logging


def demo_command(
    keep: Annotated[bool, typer.Option(help="Leave all of it running and print the URLs.")] = False,
) -> None:
    """Play the main job from end to end, and check every figure; exits non-zero if one is off."""
    if not play_demo(keep=keep):
        sys.exit(1)


def gateway_command() -> None:
    """Run the reference gateway: OpenAI's wire format in, an upstream out, every completion metered.

    Set METERING_GATEWAY_CONFIG (a TOML file with upstreams and keys), METERING_GATEWAY_INGEST_KEY and
    METERING_GATEWAY_URL; see docs/gateway.md.
    """
    settings = settings_from_environment()
    configure_logging(log_format="text")
    run(settings=settings)
