"""`python -m metering.stripe_local`: serve until told to stop."""

import argparse
import os
from pathlib import Path

import uvicorn

from metering.stripe_local.app import SEARCH_DELAY_SECONDS, DroppingProtocol, create_stripe_local


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m metering.stripe_local", description="A local stand-in for Stripe. No money moves."
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8420, help="the port to listen on (%(default)s)")
    parser.add_argument("--state", type=Path, help="a file that keeps what it knows; default: memory only")
    parser.add_argument("--webhook-url", help="where events are posted")
    parser.add_argument(
        "--webhook-secret",
        default=os.environ.get("STRIPE_LOCAL_WEBHOOK_SECRET"),
        help="signs them, whsec_…; default: $STRIPE_LOCAL_WEBHOOK_SECRET",
    )
    parser.add_argument(
        "--search-delay",
        type=float,
        default=SEARCH_DELAY_SECONDS,
        help="seconds until a search finds what was made or changed (%(default)s)",
    )
    given = parser.parse_args()
    app = create_stripe_local(
        state=given.state,
        webhook_url=given.webhook_url,
        webhook_secret=given.webhook_secret,
        search_delay=given.search_delay,
    )
    uvicorn.run(app, host=given.host, port=given.port, http=DroppingProtocol, log_level="warning")


if __name__ == "__main__":
    main()
