"""`metering gateway` and `metering demo`: programs of their own, which need more packages than the service.

This module imports nothing of the service, which the gateway is not a part of.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from metering.core.errors import MeteringError


class ExtraMissingError(MeteringError):
    """Packages that the command needs are not installed."""


def demo_command(
    keep: Annotated[bool, typer.Option(help="Leave everything running and print the addresses.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Run the whole product on sample data and check every figure. Exits non-zero if one is wrong.

    Needs the extras `demo` and `gateway`.
    """
    _require(openai="demo", bpe_openai="gateway")
    _become("metering.lab.demo", *(["--keep"] if keep else []), *(["--json"] if as_json else []))


def gateway_command(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes. Default: METERING_GATEWAY_WORKERS, or 1.")
    ] = None,
) -> None:
    """Run the reference gateway, which meters every completion. It speaks OpenAI's API on both sides.

    Set METERING_GATEWAY_CONFIG (a TOML file with upstreams and keys), METERING_GATEWAY_INGEST_KEY and
    METERING_GATEWAY_URL; see docs/gateway.md. Needs the extra `gateway`.
    """
    _require(bpe_openai="gateway")
    _become("metering.gateway", *([] if workers is None else ["--workers", str(workers)]))


def _require(**extra_of: str) -> None:
    missing = {package: extra for package, extra in extra_of.items() if find_spec(package) is None}
    if missing:
        extras = ",".join(dict.fromkeys(missing.values()))
        raise ExtraMissingError(
            f"the package {', '.join(missing)} is not installed: install stream-metering from this checkout with"
            f' its extras, pip install "{_checkout()}[{extras}]"'
        )


def _checkout() -> str:
    """The folder that this package was installed from, or a placeholder where it is not a checkout."""
    folder = Path(__file__).parents[2]
    return str(folder) if (folder / "pyproject.toml").is_file() else "<checkout>"


def _become(module: str, *arguments: str) -> None:
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
