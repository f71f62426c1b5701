"""`metering demo` and `metering gateway`: programs of their own, with packages that the service does without."""

import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from metering.core.errors import MeteringError


class ExtraMissingError(MeteringError):
    """This installation lacks packages that the command needs."""


def demo_command(
    keep: Annotated[bool, typer.Option(help="Leave all of it running and print the URLs.")] = False,
) -> None:
    """Play the main job from end to end, and check every figure; exits non-zero if one is off."""
    _become("metering.lab.demo", *(["--keep"] if keep else []), needs={"openai": "demo", "bpe_openai": "gateway"})


def gateway_command() -> None:
    """Run the reference gateway: OpenAI's wire format in, an upstream out, every completion metered.

    Set METERING_GATEWAY_CONFIG (a TOML file with upstreams and keys), METERING_GATEWAY_INGEST_KEY and
    METERING_GATEWAY_URL; see docs/gateway.md.
    """
    _become("metering.gateway", needs={"bpe_openai": "gateway"})


def _become(module: str, *arguments: str, needs: dict[str, str]) -> None:
    for package, extra in needs.items():
        if find_spec(package) is None:
            raise ExtraMissingError(f"the package {package} is missing: pip install 'metering[{extra}]'")
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
