"""`metering bench chaos`: starts the product, traffic and faults, ends them, and compares everything."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import msgspec
import psycopg

from metering.core.clock import utc_now
from metering.lab.bench.machine import describe_machine
from metering.lab.bench.stage import BenchFailedError
from metering.lab.chaos import clients, gateway, oracle
from metering.lab.chaos.check import Checker
from metering.lab.chaos.check_money import check_money, wait_until_closed
from metering.lab.chaos.desk import Desk
from metering.lab.chaos.fates import cost_of, fate_of
from metering.lab.chaos.harm import Done, Harm
from metering.lab.chaos.links import HOST
from metering.lab.chaos.plan import Plan
from metering.lab.chaos.prober import CUSTOMER, Prober
from metering.lab.chaos.report import ChaosReport, Checks, kind_rows
from metering.lab.chaos.schedule import FaultKind, schedule
from metering.lab.chaos.stage import (
    GATEWAY_KEY,
    RAISED_FROM,
    Say,
    Stage,
    module_child,
    put_rates,
    running_product,
)
from metering.lab.chaos.told import told_costs
from metering.lab.chaos.traffic import PROVIDER

_ENOUGH = "SELECT count(*) >= %s FROM streams"
_LOOK_SECONDS = 2.0

_ResultType = TypeVar("_ResultType", gateway.Result, clients.Result)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traffic:
    """What was sent: the number of streams by gateway, and what the clients noted."""

    streams: dict[int, int]
    clients: clients.Result
    prober: Prober


def run_chaos(*, plan: Plan, log: Path | None, say: Say) -> ChaosReport:
    """Run and compare. The report has the problems; kinds of faults that this machine does not allow are left out.

    Raises:
        MeteringError: the product did not start, or the gateways did not end.
    """
    say = _timed(say)
    say(f"seed {plan.seed}: the same seed and options give the same faults")
    with running_product(plan, log=log, say=say) as stage:
        impossible = {FaultKind.FULL_DISK: stage.world.disk.why_not} if stage.world.disk.why_not else {}
        faults = schedule(
            seed=plan.seed, seconds=plan.seconds, count=plan.faults, longest=plan.longest, without=list(impossible)
        )
        desk = Desk(stage.api_url, stage.key, pace=round(plan.streams_per_second))
        desk.open()
        prober = Prober(stage.api_url, stage.key)
        prober.start()
        _start_traffic(stage, plan)
        desk.start()
        harm = Harm(stage.world, say)
        say(f"{len(faults)} faults in {plan.seconds:g} s, {plan.gateways} gateways and {plan.clients} clients")
        harm.play(faults, began=time.monotonic())
        _wait_for_streams(stage, plan)
        say("the faults are over; clients and gateways end their streams and send what is spooled")
        calm = time.monotonic()
        stage.world.commands.calm_stripe()
        traffic = _end_traffic(stage, plan, desk, prober)
        # Some more probes, so that the last faults have one that is final.
        time.sleep(2)
        problems = [] if prober.stop(within=60) else ["the prober's last stream was not acknowledged within 60 s"]
        checks, settled = _check(stage, plan, traffic, calm, say)
        report = _report(stage, plan, harm.done, traffic, checks)
        return msgspec.structs.replace(
            report,
            settled_seconds=round(settled, 1),
            not_possible={kind.value: why for kind, why in impossible.items() if why},
            checks=msgspec.structs.replace(checks, problems=[*problems, *checks.problems]),
            money=check_money(stage.services.database_url, traffic.clients, desk.done, say),
        )


def _check(stage: Stage, plan: Plan, traffic: _Traffic, calm: float, say: Say) -> tuple[Checks, float]:
    """Compare all that was billed once it is settled, and how long after the last fault that was."""
    checker = Checker(database_url=stage.services.database_url, commands=stage.world.commands, say=say)
    checker.wait_until_settled(within=plan.settle_seconds)
    wait_until_closed(stage.services.database_url, within=plan.settle_seconds)
    settled = time.monotonic() - calm
    say("raising prices, and rerating what was booked")
    put_rates(stage, "raised", oracle.RAISED, since=RAISED_FROM)
    for month in (0, 1):
        stage.world.commands.rerate(provider=PROVIDER, model="raised", month=month)
    return checker.check(_expected(stage, plan, traffic)), settled


def _report(stage: Stage, plan: Plan, done: Sequence[Done], traffic: _Traffic, checks: Checks) -> ChaosReport:
    prober = traffic.prober
    outages = prober.outages()
    with psycopg.connect(stage.services.database_url) as connection:
        version = connection.info.parameter_status("server_version") or ""
    return ChaosReport(
        machine=describe_machine(now=utc_now(), postgres=version),
        seed=plan.seed,
        seconds=plan.seconds,
        gateways=plan.gateways,
        clients=plan.clients,
        events_per_second=plan.events_per_second,
        kinds=kind_rows(done, prober),
        outages=len(outages),
        outage_seconds=round(sum(each.ended - each.began for each in outages), 1),
        longest_outage=round(max((each.ended - each.began for each in outages), default=0.0), 1),
        probes=len(prober.probes),
        tracebacks=stage.log.tracebacks,
        restarts=_restarts(stage),
        checks=checks,
    )


def _timed(say: Say) -> Say:
    """Say with the seconds since now."""
    began = time.monotonic()
    return lambda line: say(f"[{time.monotonic() - began:6.1f} s] {line}")


def _order(stage: Stage, plan: Plan, number: int) -> gateway.GatewayOrder:
    return gateway.GatewayOrder(
        url=f"http://{HOST}:{stage.world.links.port('api')}",
        key=stage.key,
        folder=str(stage.folder / f"gateway-{number}"),
        seed=plan.seed,
        gateway=number,
        customers=plan.customers,
        events_per_second=plan.events_per_second / plan.gateways,
    )


def _clients_order(stage: Stage, plan: Plan) -> clients.ClientsOrder:
    return clients.ClientsOrder(
        url=f"http://{HOST}:{stage.world.links.port('api')}",
        key=stage.key,
        gateway_url=stage.gateway_url,
        gateway_key=GATEWAY_KEY,
        folder=str(stage.folder / "clients"),
        seed=plan.seed,
        clients=plan.clients,
        streams_per_second=plan.streams_per_second,
    )


def _start_traffic(stage: Stage, plan: Plan) -> None:
    ordered: dict[str, gateway.GatewayOrder | clients.ClientsOrder] = {
        f"gateway-{number}": _order(stage, plan, number) for number in range(plan.gateways)
    }
    for name, order in (ordered | {"clients": _clients_order(stage, plan)}).items():
        folder = Path(order.folder)
        folder.mkdir()
        document = folder / "order.json"
        document.write_bytes(msgspec.json.encode(order))
        module = f"metering.lab.chaos.{'clients' if name == 'clients' else 'gateway'}"
        stage.world.parts.start([module_child(name, module, str(document))])


def _wait_for_streams(stage: Stage, plan: Plan) -> None:
    """Return once the service knows of as many streams as are wanted, after the time with faults."""
    with psycopg.connect(stage.services.database_url, autocommit=True) as connection:
        while connection.execute(_ENOUGH, (plan.streams,)).fetchone() != (True,):
            time.sleep(_LOOK_SECONDS)


def _end_traffic(stage: Stage, plan: Plan, desk: Desk, prober: Prober) -> _Traffic:
    """What was sent, once every gateway has had everything acknowledged and the clients have ended."""
    orders = [_order(stage, plan, number) for number in range(plan.gateways)]
    of_clients = _clients_order(stage, plan)
    for order in orders:
        order.finish.touch()
    of_clients.finish.touch()
    noted = _result_of(of_clients.result, clients.Result, within=plan.settle_seconds)
    desk.stop()
    streams = {}
    for order in orders:
        result = _result_of(order.result, gateway.Result, within=plan.settle_seconds)
        if not result.all_sent or result.dropped or result.rejected:
            raise BenchFailedError(f"gateway {order.gateway} did not get everything acknowledged: {result}")
        streams[order.gateway] = result.streams
    return _Traffic(streams=streams, clients=noted, prober=prober)


def _result_of(path: Path, kind: type[_ResultType], *, within: float) -> _ResultType:
    deadline = time.monotonic() + within
    while not path.exists():
        if time.monotonic() > deadline:
            raise BenchFailedError(f"{path.parent.name} did not end within {within:g} s")
        time.sleep(0.1)
    return msgspec.json.decode(path.read_bytes(), type=kind)


def _expected(stage: Stage, plan: Plan, traffic: _Traffic) -> dict[oracle.Key, Fraction]:
    """What every stream costs: of the gateways, the prober, the clients, and the reference gateway."""
    expected = oracle.costs(seed=plan.seed, streams=traffic.streams, customers=plan.customers)
    for probe in traffic.prober.probes:
        expected[CUSTOMER, probe.stream_id] = oracle.probe_cost()
    for number, outcome in enumerate(traffic.clients.outcomes):
        fate = fate_of(seed=plan.seed, number=number)
        cost = cost_of(fate, outcome)
        if cost is not None:
            expected[fate.story.customer_id, fate.story.stream_id] = cost
    with psycopg.connect(stage.services.database_url) as connection:
        return expected | told_costs(connection, ingest_key_id=stage.ingest_key_id)


def _restarts(stage: Stage) -> int:
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
