"""`metering bench push`: pushes a month's invoices to a local Stripe without rate limits, and reconciles."""

import sys
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import TypeVar

import msgspec
from pydantic import SecretStr

from metering.core.clock import utc_now
from metering.lab.bench.invoices import PERIOD, close_month, fill_month
from metering.lab.bench.machine import Machine, describe_machine
from metering.lab.bench.stage import HOST, BenchFailedError, Say, Stage, Stages, stage
from metering.server.embedded.supervisor import ChildSpec
from metering.server.outgoing import LOCAL_STRIPE_KEY
from metering.server.pusher import build_pusher
from metering.server.up import answers, free_port
from metering.stripe.link_customers import create_at_stripe, list_unlinked
from metering.stripe.push_due import Pusher, push_month
from metering.stripe.reconcile import Reconciliation, reconcile
from metering.stripe.repair_drift import NO_REPAIRS

Result = TypeVar("Result")


class PushReport(msgspec.Struct, frozen=True, kw_only=True):
    """The results of `metering bench push`. `calls` counts the calls to Stripe per invoice; one process pushes."""

    machine: Machine
    customers: int
    lines_per_invoice: int
    calls: float
    pushed_seconds: float
    invoices_per_second: float
    again_seconds: float
    reconciled_seconds: float
    reconciled_per_second: float


def bench_push(*, customers: int, lines: int, say: Say, stages: Stages = stage) -> PushReport:
    """Close a month, push its invoices, push again and reconcile.

    Raises:
        BenchFailedError: an invoice was not pushed, was pushed twice, or differs at Stripe.
    """
    with stages() as running:
        pusher = _pusher(running)
        say(f"closing a month of {customers:,} customers ...")
        fill_month(running, customers=customers, lines=lines, charges_per_line=2)
        close_month(running)
        create_at_stripe(
            engine=pusher.engine,
            port=pusher.port,
            environment=pusher.terms.environment,
            customers=list_unlinked(engine=pusher.engine),
            now=utc_now(),
        )
        pushed, left = _timed(lambda: push_month(pusher=pusher, period=PERIOD, only=None))
        _require(left == 0, f"{left:,} invoices were not pushed")
        say(f"pushed in {pushed:.1f} s: {customers / pushed:,.0f} invoices/s")
        writes = running.one("SELECT count(*) FROM stripe_operations")
        again, _ = _timed(lambda: push_month(pusher=pusher, period=PERIOD, only=None))
        reconciled, report = _timed(lambda: _reconcile(pusher))
        _require(not report.found, f"{len(report.found):,} findings, e.g. {report.found[:1]}")
        _require(report.compared == customers, f"{report.compared:,} of {customers:,} invoices were compared")
        _require(writes == running.one("SELECT count(*) FROM stripe_operations"), "pushing again wrote something")
        say(f"reconciled in {reconciled:.1f} s: {customers / reconciled:,.0f} invoices/s")
        return PushReport(
            machine=describe_machine(now=utc_now(), postgres=running.postgres_version()),
            customers=customers,
            lines_per_invoice=lines,
            calls=1 + writes / customers,
            pushed_seconds=pushed,
            invoices_per_second=customers / pushed,
            again_seconds=again,
            reconciled_seconds=reconciled,
            reconciled_per_second=customers / reconciled,
        )


def _pusher(running: Stage) -> Pusher:
    port = free_port(HOST)
    url = f"http://{HOST}:{port}"
    argv = [sys.executable, "-m", "metering.lab.stripe_local", "--port", str(port)]
    running.supervisor.start([ChildSpec(name="stripe", argv=argv, ready=lambda: answers(f"{url}/livez"))])
    settings = running.service.settings.model_copy(
        update={"stripe_api_key": SecretStr(LOCAL_STRIPE_KEY), "stripe_api_base": url}
    )
    return build_pusher(replace(running.service, settings=settings))


def _reconcile(pusher: Pusher) -> Reconciliation:
    return reconcile(pusher=pusher, period=PERIOD, repair=False, caps=NO_REPAIRS, requested_by="the benchmark")


def _timed(act: Callable[[], Result]) -> tuple[float, Result]:
    began = perf_counter()
    result = act()
    return perf_counter() - began, result


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise BenchFailedError(problem)
