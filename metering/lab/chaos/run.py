"""`metering bench chaos`: starts the product, traffic and faults, ends them, and compares everything."""

import io
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import httpx2
import msgspec
import psycopg

from metering.core.clock import utc_now
from metering.lab.bench.machine import describe_machine
from metering.lab.bench.stage import BenchFailedError
from metering.lab.chaos import oracle
from metering.lab.chaos.check import Checker
from metering.lab.chaos.commands import Commands
from metering.lab.chaos.gateway import Order, Result
from metering.lab.chaos.harm import Harm, World
from metering.lab.chaos.links import HOST, open_links
from metering.lab.chaos.prober import CUSTOMER, Prober
from metering.lab.chaos.report import ChaosReport, kind_rows
from metering.lab.chaos.schedule import FaultKind, schedule
from metering.lab.chaos.traffic import PROVIDER
from metering.lab.chaos.volume import volume
from metering.server.embedded.data_dir import Services, locked_data_dir, socket_dir
from metering.server.embedded.services import embedded_services
from metering.server.embedded.supervisor import ChildSpec, Supervisor
from metering.server.up import LocalStripe, free_port, metering_child

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The size of a run. `longest` is the longest time of a fault, in seconds."""

    seed: int
    seconds: float
    faults: int
    events_per_second: float
    gateways: int = 3
    customers: int = 200
    longest: float = 8.0
    abandon_after: int = 20
    settle_seconds: float = 600.0


class _Log(io.StringIO):
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
class _Stage:
    """The running product."""

    world: World
    services: Services
    api_url: str
    key: str
    folder: Path
    log: _Log


def run_chaos(*, plan: Plan, log: Path | None, say: Say) -> ChaosReport:
    """Run and compare. The report has the problems; kinds of faults that this machine does not allow are left out.

    Raises:
        MeteringError: the product did not start, or the gateways did not end.
    """
    say = _timed(say)
    say(f"seed {plan.seed}: the same seed and options give the same faults")
    with _stage(plan, log=log, say=say) as stage:
        _set_rates(stage)
        impossible = {FaultKind.FULL_DISK: stage.world.disk.why_not} if stage.world.disk.why_not else {}
        faults = schedule(
            seed=plan.seed, seconds=plan.seconds, count=plan.faults, longest=plan.longest, without=list(impossible)
        )
        prober = Prober(stage.api_url, stage.key)
        prober.start()
        _start_gateways(stage, plan)
        harm = Harm(stage.world, say)
        say(f"{len(faults)} faults in {plan.seconds:g} s, and {plan.gateways} gateways")
        harm.play(faults, began=time.monotonic())
        say("the faults are over; the gateways end their streams and send what is spooled")
        calm = time.monotonic()
        stage.world.commands.calm_stripe()
        streams = _end_gateways(stage, plan)
        # Some more probes, so that the last faults have one that is final.
        time.sleep(2)
        problems = [] if prober.stop(within=60) else ["the prober's last stream was not acknowledged within 60 s"]
        checker = _checker(stage, say)
        checker.wait_until_settled(within=plan.settle_seconds)
        settled = time.monotonic() - calm
        checks = checker.check(_expected(plan, streams, prober))
        outages = prober.outages()
        with psycopg.connect(stage.services.database_url) as connection:
            version = connection.info.parameter_status("server_version") or ""
        return ChaosReport(
            machine=describe_machine(now=utc_now(), postgres=version),
            seed=plan.seed,
            seconds=plan.seconds,
            gateways=plan.gateways,
            events_per_second=plan.events_per_second,
            settled_seconds=round(settled, 1),
            kinds=kind_rows(harm.done, prober),
            not_possible={kind.value: why for kind, why in impossible.items() if why},
            outages=len(outages),
            outage_seconds=round(sum(each.ended - each.began for each in outages), 1),
            longest_outage=round(max((each.ended - each.began for each in outages), default=0.0), 1),
            probes=len(prober.probes),
            tracebacks=stage.log.tracebacks,
            restarts=_restarts(stage),
            checks=msgspec.structs.replace(checks, problems=[*problems, *checks.problems]),
        )


def _timed(say: Say) -> Say:
    """Say with the seconds since now."""
    began = time.monotonic()
    return lambda line: say(f"[{time.monotonic() - began:6.1f} s] {line}")


@contextmanager
def _stage(plan: Plan, *, log: Path | None, say: Say) -> Iterator[_Stage]:
    """The product with links between its parts, on a disk that can be full."""
    printed = _Log(log)
    say("starting PostgreSQL, Valkey, the local Stripe and `metering up`")
    with (
        volume() as disk,
        socket_dir() as folder,
        locked_data_dir(disk.path / "data", note="chaos") as data,
        Supervisor(output=printed) as servers,
        embedded_services(data=data, supervisor=servers) as services,
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
            direct = {
                **common,
                "METERING_DATABASE_URL": services.database_url,
                "METERING_REDIS_URL": services.redis_url,
            }
            up = metering_child(
                "up", ["up", "--port", str(port)], environment=environment, ready_url=f"{api_url}/livez"
            )
            parts.start([stripe.child(webhook_url=f"{api_url}/v1/stripe/webhook")])
            parts.start([_with_admin_key(up, key)])
            world = World(
                servers=servers,
                parts=parts,
                links=links,
                disk=disk,
                redis_url=services.redis_url,
                gateways=[f"gateway-{number}" for number in range(plan.gateways)],
                environment=environment,
                commands=Commands(environment=direct, stripe_url=stripe.url, began=utc_now(), say=say),
            )
            yield _Stage(world=world, services=services, api_url=api_url, key=key, folder=folder, log=printed)


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


def _set_rates(stage: _Stage) -> None:
    with httpx2.Client(
        base_url=stage.api_url, headers={"authorization": f"Bearer {stage.key}"}, timeout=30
    ) as api:
        for model, prices in oracle.PRICES.items():
            rates: list[dict[str, str | int]] = [
                {"kind": kind, "usd_per_million": usd} for kind, usd in zip(oracle.KINDS, prices, strict=True)
            ]
            if model == "tiered":
                rates += [
                    {"kind": kind, "usd_per_million": usd, "above_input_tokens": oracle.TIER_ABOVE}
                    for kind, usd in zip(oracle.KINDS, oracle.TIERED, strict=True)
                ]
            card = {"rates": rates, "effective_from": "2020-01-01T00:00:00Z"}
            answer = api.put(f"/v1/rates/{PROVIDER}/{model}", json=card)
            if not answer.is_success:
                raise BenchFailedError(f"the rates of {model} were not set: {answer.text}")


def _order(stage: _Stage, plan: Plan, number: int) -> Order:
    return Order(
        url=f"http://{HOST}:{stage.world.links.port('api')}",
        key=stage.key,
        folder=str(stage.folder / f"gateway-{number}"),
        seed=plan.seed,
        gateway=number,
        customers=plan.customers,
        events_per_second=plan.events_per_second / plan.gateways,
    )


def _start_gateways(stage: _Stage, plan: Plan) -> None:
    for number, name in enumerate(stage.world.gateways):
        order = _order(stage, plan, number)
        Path(order.folder).mkdir()
        document = Path(order.folder) / "order.json"
        document.write_bytes(msgspec.json.encode(order))
        argv = [sys.executable, "-m", "metering.lab.chaos.gateway", str(document)]
        stage.world.parts.start([ChildSpec(name=name, argv=argv, stop_timeout=1.0)])


def _end_gateways(stage: _Stage, plan: Plan) -> dict[int, int]:
    """The number of streams by gateway, once each has had everything acknowledged."""
    orders = [_order(stage, plan, number) for number in range(plan.gateways)]
    for order in orders:
        order.finish.touch()
    deadline = time.monotonic() + plan.settle_seconds
    streams = {}
    for order in orders:
        while not order.result.exists():
            if time.monotonic() > deadline:
                raise BenchFailedError(f"gateway {order.gateway} did not end within {plan.settle_seconds:g} s")
            time.sleep(0.1)
        result = msgspec.json.decode(order.result.read_bytes(), type=Result)
        if not result.all_sent or result.dropped or result.rejected:
            raise BenchFailedError(f"gateway {order.gateway} did not get everything acknowledged: {result}")
        streams[order.gateway] = result.streams
    return streams


def _expected(plan: Plan, streams: dict[int, int], prober: Prober) -> dict[oracle.Key, Fraction]:
    costs = oracle.costs(seed=plan.seed, streams=streams, customers=plan.customers)
    return costs | {(CUSTOMER, probe.stream_id): oracle.probe_cost() for probe in prober.probes}


def _checker(stage: _Stage, say: Say) -> Checker:
    return Checker(database_url=stage.services.database_url, commands=stage.world.commands, say=say)


def _restarts(stage: _Stage) -> int:
    world = stage.world
    counts = Counter({name: world.servers.restarts_of(name) for name in ("postgres", "valkey")})
    counts.update({name: world.parts.restarts_of(name) for name in ("stripe", "up", *world.gateways)})
    return counts.total()


def summary(report: ChaosReport) -> Sequence[str]:
    """The result in a few lines."""
    return [
        f"{report.faults} faults, {report.checks.journaled_events:,} events, {report.checks.streams:,} streams; "
        f"{report.outage_seconds} s without an acknowledgement",
        *(report.problems or ["exact, audit clean, nothing stuck"]),
    ]
