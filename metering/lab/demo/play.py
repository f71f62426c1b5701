"""The demo: the whole product on sample data, every figure checked."""

import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import openai
from pydantic import SecretStr

from metering.core.errors import MeteringError
from metering.lab.demo.checks import Played, Row, check_stream, check_total
from metering.lab.demo.history import post_history
from metering.lab.demo.month import play_month
from metering.lab.demo.processes import CUSTOMER, Gateway, gateway_key, start_gateway, wait_for
from metering.lab.demo.report import StreamReport, print_all_as_json, print_month, print_streams
from metering.lab.demo.scenes import SCENES, Act, Scene, Seen
from metering.server.embedded.data_dir import socket_dir
from metering.server.embedded.supervisor import Supervisor
from metering.server.logs import configure_logging
from metering.server.settings import load_settings
from metering.server.up import Running, run_all_in_one


def play_demo(*, keep: bool, as_json: bool = False) -> bool:
    """Run the demo and print its report, as tables or as JSON; returns whether every figure is right.

    With `keep`, more history is posted, and everything runs on until Ctrl-C.

    Raises:
        MeteringError: something did not start, or did not become final in time.
    """
    began = time.monotonic()
    admin_key = f"mk_demo_{secrets.token_hex(16)}"
    overrides = {
        "port": 0,
        "admin_key": SecretStr(admin_key),
        "database_url": None,
        "redis_url": None,
        "stripe_api_key": None,
        "stripe_api_base": None,
    }
    settings = load_settings().model_copy(update=overrides)
    configure_logging(log_format="text")
    say("starting PostgreSQL, Valkey, API, worker and beat with temporary data")
    with (
        socket_dir() as folder,
        Supervisor(quiet=True) as supervisor,
        run_all_in_one(settings, supervisor=supervisor, ephemeral=True) as running,
    ):
        say("starting a gateway, and an upstream that streams a fixed text")
        gateway = start_gateway(supervisor=supervisor, folder=folder, api_url=running.url, ingest_key=admin_key)
        headers = {"authorization": f"Bearer {admin_key}"}
        with httpx2.Client(base_url=running.url, headers=headers, timeout=10) as api:
            streams = _play(gateway, api)
            if not as_json:
                print_streams(streams)
            if keep:
                _post_history(api)
            month = play_month(running=running, api=api, say=say)
            if not as_json:
                print_month(month)
            right = not streams.problems and not month.wrong
        result = "every figure is right" if right else "SOME FIGURES ARE WRONG"
        seconds = time.monotonic() - began
        say(f"{result}, {seconds:.1f} s in all")

        def tell() -> None:
            if as_json:
                kept = _addresses(running, gateway, admin_key) if keep else None
                print_all_as_json(right=right, seconds=seconds, streams=streams, month=month, keep=kept)
            elif keep:
                _print_addresses(running, gateway, admin_key)

        if keep:
            supervisor.run_until_signal(greet=tell)
        else:
            tell()
    return right


def say(line: str) -> None:
    """Print one line of progress to stderr."""
    print(f"==> {line}", file=sys.stderr, flush=True)


def _post_history(api: httpx2.Client) -> None:
    """Post two months of a dozen more customers, so that the dashboard has something to show."""
    count = post_history(api=api, now=datetime.now(UTC))
    say(f"posted {count:,} streams of a dozen customers over two months; waiting until they are final")
    wait_for(lambda: _get(api, "/readyz")["streams_due"] == 0, "the history to be final")


def _play(gateway: Gateway, api: httpx2.Client) -> StreamReport:
    acts = [(scene, *_act(scene, gateway)) for scene in SCENES]
    say("waiting until every cost is final")
    rows: list[Row] = []
    for scene, seen, first in acts:
        streams = _final_streams(scene, seen.stream_id, api)
        sent = gateway.sent()[first : first + len(scene.expected)]
        played = Played(scene=scene, seen=seen, sent=sent)
        rows += [check_stream(played=played, place=place, stream=stream) for place, stream in enumerate(streams)]
    day = timedelta(days=1)
    now = datetime.now(UTC)
    query = {"from": (now - day).isoformat(), "to": (now + day).isoformat(), "customer_id": CUSTOMER}
    totals = _get(api, "/v1/totals", {**query, "group_by": "model,outcome"})["data"]
    (total,) = _get(api, "/v1/totals", query)["data"]
    wrong = check_total(rows=rows, total=total)
    return StreamReport(rows=rows, totals=totals, total=total, wrong=wrong)


def _act(scene: Scene, gateway: Gateway) -> tuple[Seen, int]:
    """Play a scene; returns what the client saw, and the index of the first request in the upstream's record."""
    say(f"{scene.model}: {scene.title}")
    first = len(gateway.sent())
    with openai.OpenAI(base_url=gateway.url, api_key=gateway_key(scene.name), max_retries=2) as client:
        seen = scene.act(Act(client=client, model=scene.model))
    wait_for(lambda: len(gateway.sent()) >= first + len(scene.expected), f"the upstream to see {scene.name}")
    return seen, first


def _final_streams(scene: Scene, stream_id: str | None, api: httpx2.Client) -> Sequence[dict[str, Any]]:
    """The streams of a scene in their final state, oldest first."""
    if scene.expected[0].state != "finalized":
        path = f"/v1/streams/{CUSTOMER}/{stream_id}"
        wait_for(lambda: _get(api, path)["state"] not in ("open", "ended"), f"{scene.name} to be finalized")
        return [_get(api, path)]
    query = {"customer_id": CUSTOMER, "api_key_id": scene.name}
    wanted = len(scene.expected)
    wait_for(lambda: len(_get(api, "/v1/charges", query)["data"]) >= wanted, f"{scene.name} to be final")
    charges = sorted(_get(api, "/v1/charges", query)["data"], key=lambda charge: charge["started_at"])
    return [_get(api, f"/v1/streams/{CUSTOMER}/{charge['stream_id']}") for charge in charges[:wanted]]


def _get(api: httpx2.Client, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
    answer = api.get(path, params=query)
    if answer.status_code == 404:
        return {"state": "open"}  # its events have not arrived
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


def _addresses(running: Running, gateway: Gateway, admin_key: str) -> dict[str, Any]:
    return {
        "url": running.url,
        "admin_key": admin_key,
        "stripe_url": running.stripe_url,
        "gateway_url": gateway.url,
        "gateway_key": gateway_key(SCENES[0].name),
        "data": str(running.data),
    }


def _print_addresses(running: Running, gateway: Gateway, admin_key: str) -> None:
    api_url = running.url
    print(
        f"""
  dashboard      {api_url}/dashboard          sign in with the admin key
  API            {api_url}          documentation: {api_url}/docs
  admin key      {admin_key}
  local Stripe   {running.stripe_url}          a page with its invoices
  gateway        {gateway.url}      key: {gateway_key(SCENES[0].name)}      model: {SCENES[0].model}

  commands       export METERING_DATA={running.data}, then metering invoices list, metering totals, …

  curl -H 'Authorization: Bearer {admin_key}' '{api_url}/v1/charges?customer_id={CUSTOMER}'

Ctrl-C stops everything and deletes the data.
"""
    )


def main() -> None:
    """Exit with 0 when every figure is right, else with 1."""
    try:
        right = play_demo(keep="--keep" in sys.argv[1:], as_json="--json" in sys.argv[1:])
    except MeteringError as error:
        sys.exit(f"metering: {error}")
    sys.exit(0 if right else 1)
