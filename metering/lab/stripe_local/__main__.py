"""`python -m metering.lab.stripe_local`: serve until SIGINT or SIGTERM."""

import argparse
import os
from pathlib import Path

import uvicorn

from metering.lab.stripe_local.app import SEARCH_DELAY_SECONDS, DroppingProtocol, create_stripe_local
from metering.lab.stripe_local.faults import RateLimits


def _rate(text: str) -> float:
    rate = float(text)
    if rate <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not greater than 0")
    return rate


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m metering.lab.stripe_local", description="A local stand-in for Stripe. No money moves."
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8420, help="the port to listen on (%(default)s)")
    parser.add_argument("--state", type=Path, help="a file that keeps all objects; default: memory only")
    parser.add_argument("--webhook-url", help="the URL that events are posted to")
    parser.add_argument(
        "--webhook-secret",
        default=os.environ.get("STRIPE_LOCAL_WEBHOOK_SECRET"),
        help="signs the events, whsec_…; default: $STRIPE_LOCAL_WEBHOOK_SECRET",
    )
    parser.add_argument(
        "--requests-per-second", type=_rate, help="further requests get 429; Stripe has 100, and 25 in a sandbox"
    )
    parser.add_argument(
        "--requests-per-endpoint", type=_rate, help="the same limit for each endpoint; Stripe has 25"
    )
    parser.add_argument(
        "--search-delay",
        type=float,
        default=SEARCH_DELAY_SECONDS,
        help="seconds until a search finds a new or changed object (%(default)s)",
    )
    given = parser.parse_args()
    app = create_stripe_local(
        state=given.state,
        webhook_url=given.webhook_url,
        webhook_secret=given.webhook_secret,
        limits=RateLimits(in_all=given.requests_per_second, per_endpoint=given.requests_per_endpoint),
        search_delay=given.search_delay,
    )
    uvicorn.run(app, host=given.host, port=given.port, http=DroppingProtocol, log_level="warning")


if __name__ == "__main__":
    main()
