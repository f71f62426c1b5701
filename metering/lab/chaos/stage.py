"""The product as a run has it: its processes with links between them, on a disk that can be full, with prices."""

import io
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psycopg

from metering.core.clock import utc_now
from metering.lab.bench.gateway import printing_its_port
from metering.lab.bench.stage import BenchFailedError
from metering.lab.chaos import oracle
from metering.lab.chaos.commands import Commands
from metering.lab.chaos.harm import World
from metering.lab.chaos.links import HOST, open_links
from metering.lab.chaos.plan import Plan
from metering.lab.chaos.terms import GATEWAY_CUSTOMER
from metering.lab.chaos.traffic import PROVIDER
from metering.lab.chaos.volume import volume
from metering.lab.money.history import record_history
from metering.server.embedded.data_dir import Services, locked_data_dir, socket_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.server.up import LocalStripe, free_port, metering_child

Say = Callable[[str], None]

_REFERENCE_GATEWAY, _KEY_ID = "gateway-reference", "ingest-key-id"
GATEWAY_KEY = "gk_chaos"
# `raised` gets its last prices from here on: later than the first ones, and before all streams.
_FIRST, RAISED_FROM = "2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z"


class Log(io.StringIO):
    """What all parts print: to a file if there is one, and the tracebacks are counted."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self._file = path.open("w") if path else None
        self.tracebacks = 0

    def write(self, text: str) -> int:
        self.tracebacks += text.count("Traceback (most recent call last)")
        return self._file.write(text) if self._file else len(text)

    def flush(self) -> None:
        if self._file:
            self._file.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The running product. `gateway_url` is the reference gateway's, `ingest_key_id` is that of its key."""

    world: World
    services: Services
    api_url: str
    gateway_url: str
    key: str
    folder: Path
    log: Log

    @property
    def ingest_key_id(self) -> str:
        """The id of the key with which the reference gateway posts."""
        return (self.folder / _KEY_ID).read_text()


@contextmanager
def running_product(plan: Plan, *, log: Path | None, say: Say) -> Iterator[Stage]:
    """The product with prices, and with its history of money recorded. Its gateways are started later."""
    printed = Log(log)
    say("starting PostgreSQL, Valkey, the local Stripe and `metering up`")
    with (
        volume() as disk,
        socket_dir() as folder,
        locked_data_dir(disk.path / "data", note="chaos") as data,
        Supervisor(output=printed) as servers,
        embedded_services(data=data, supervisor=servers) as services,
        printing_its_port("gateway_upstream") as (_, upstream_port),
    ):
        port = free_port(HOST)
        sockets = {
            "database": _socket(services.database_url),
            "valkey": Path(services.redis_url.removeprefix("unix://")),
        }
        with open_links({**sockets, "api": port}) as links, Supervisor(output=printed) as parts:
            stripe = LocalStripe.of(folder)
            key = f"mk_chaos_{secrets.token_hex(16)}"
            common = {**_settings(plan), **stripe.environment()}
            environment = {
                **common,
                "METERING_DATABASE_URL": f"postgresql://postgres@{HOST}:{links.port('database')}/metering",
                "METERING_REDIS_URL": f"redis://{HOST}:{links.port('valkey')}/0",
            }
            api_url = f"http://{HOST}:{port}"
            # What people run waits for no link; the product's own processes do.
            urls = {"METERING_DATABASE_URL": services.database_url, "METERING_REDIS_URL": services.redis_url}
            up = metering_child(
                "up", ["up", "--port", str(port)], environment=environment, ready_url=f"{api_url}/livez"
            )
            parts.start([stripe.child(webhook_url=f"{api_url}/v1/stripe/webhook")])
            parts.start([_with_admin_key(up, key)])
            with psycopg.connect(services.database_url) as connection:
                record_history(connection)
            world = World(
                servers=servers,
                parts=parts,
                links=links,
                disk=disk,
                redis_url=services.redis_url,
                gateways=[*(f"gateway-{number}" for number in range(plan.gateways)), _REFERENCE_GATEWAY],
                environment=environment,
                commands=Commands(environment=common | urls, stripe_url=stripe.url, began=utc_now(), say=say),
            )
            gateway_port = free_port(HOST)
            stage = Stage(
                world=world,
                services=services,
                api_url=api_url,
                gateway_url=f"http://{HOST}:{gateway_port}",
                key=key,
                folder=folder,
                log=printed,
            )
            _set_rates(stage)
            parts.start([_reference_gateway(stage, port=gateway_port, upstream_port=upstream_port)])
            yield stage


def put_rates(
    stage: Stage, model: str, prices: Sequence[str], *, above: Sequence[str] = (), since: str = _FIRST
) -> None:
    """Set the prices of a model; `above` has those for requests with much input.

    Raises:
        BenchFailedError: the API refuses.
    """
    rates: list[dict[str, str | int]] = [
        {"kind": kind, "usd_per_million": usd} for kind, usd in zip(oracle.KINDS, prices, strict=True)
    ]
    if above:
        rates += [
            {"kind": kind, "usd_per_million": usd, "above_input_tokens": oracle.TIER_ABOVE}
            for kind, usd in zip(oracle.KINDS, above, strict=True)
        ]
    _call(stage, "PUT", f"/v1/rates/{PROVIDER}/{model}", {"rates": rates, "effective_from": since})


def _call(stage: Stage, method: str, path: str, body: Mapping[str, Any]) -> Any:
    headers = {"authorization": f"Bearer {stage.key}"}
    with httpx2.Client(base_url=stage.api_url, headers=headers, timeout=30) as api:
        answer = api.request(method, path, json=body)
    if not answer.is_success:
        raise BenchFailedError(f"{method} {path} was refused: {answer.text}")
    return answer.json()


def _set_rates(stage: Stage) -> None:
    for model, prices in oracle.PRICES.items():
        put_rates(stage, model, prices, above=oracle.TIERED if model == "tiered" else ())


def _settings(plan: Plan) -> dict[str, str]:
    return {
        "METERING_ABANDON_AFTER": f"{plan.abandon_after}s",
        "METERING_START_GRACE": f"{max(1, plan.abandon_after // 2)}s",
        "METERING_LOG_FORMAT": "text",
        # The months of a short run are small, and are pushed too.
        "METERING_INVOICE_MINIMUM_CENTS": "1",
        # A push of a month would last longer than the run with Stripe's own limit for test keys.
        "METERING_STRIPE_REQUESTS_PER_SECOND": "1000",
    }


def _reference_gateway(stage: Stage, *, port: int, upstream_port: int) -> ChildSpec:
    """The reference gateway, with sliding holds for a customer whose budget ends while its streams run."""
    made = _call(stage, "POST", "/v1/keys", {"name": "reference gateway", "role": "ingest"})
    (stage.folder / _KEY_ID).write_text(made["key_id"])
    config = stage.folder / "gateway.toml"
    config.write_text(
        f'[[upstreams]]\nprovider = "{PROVIDER}"\nbase_url = "http://{HOST}:{upstream_port}/v1"\n'
        f'models = ["{oracle.CHAT_MODEL}"]\n[[keys]]\nkey = "{GATEWAY_KEY}"\ncustomer_id = "{GATEWAY_CUSTOMER}"\n'
    )
    environment: Mapping[str, str] = {
        "METERING_GATEWAY_CONFIG": str(config),
        "METERING_GATEWAY_INGEST_KEY": made["key"],
        "METERING_GATEWAY_URL": f"http://{HOST}:{stage.world.links.port('api')}",
        "METERING_GATEWAY_PORT": str(port),
        "METERING_GATEWAY_SPOOL": str(stage.folder / "reference-spool"),
        "METERING_GATEWAY_HOLDS": "sliding",
        "METERING_GATEWAY_HOLD_SLICE_OUTPUT_TOKENS": "200",
        "METERING_GATEWAY_HOLD_LEASE_SECONDS": "20",
        "METERING_GATEWAY_FAIL_OPEN_USD_CENTS_PER_MINUTE": "100000",
    }
    return module_child(_REFERENCE_GATEWAY, "metering.gateway", environment=environment)


def module_child(name: str, *argv: str, environment: Mapping[str, str] | None = None) -> ChildSpec:
    """A process that is run as a module."""
    return ChildSpec(name=name, argv=[sys.executable, "-m", *argv], env=environment or {}, stop_timeout=1.0)


def _with_admin_key(spec: ChildSpec, key: str) -> ChildSpec:
    return ChildSpec(
        name=spec.name,
        argv=spec.argv,
        env={**spec.env, "METERING_ADMIN_KEY": key},
        stop_timeout=12.0,
        ready=spec.ready,
        ready_timeout=120.0,
    )


def _socket(database_url: str) -> Path:
    """The path of the embedded server's socket."""
    return Path(database_url.partition("host=")[2]) / ".s.PGSQL.5432"
