"""Chaos for a short time: every kind of fault reaches the product, and every cost is exact afterwards."""

import os

import pytest

from metering.lab.chaos.check_money import WANTED
from metering.lab.chaos.plan import Plan
from metering.lab.chaos.run import run_chaos, summary
from metering.lab.chaos.schedule import FaultKind

pytestmark = pytest.mark.long


# On a machine that is busy with much else, each of the commands takes 20 seconds.
@pytest.mark.timeout(1200)
def test_a_short_run_reaches_every_fault_and_is_exact() -> None:
    seed = int(os.environ.get("CHAOS_SEED", "44"))
    print(f"CHAOS_SEED={seed}")
    plan = Plan(
        seed=seed,
        seconds=12,
        faults=1,
        events_per_second=300,
        gateways=2,
        customers=30,
        longest=2,
        abandon_after=5,
        clients=16,
        streams_per_second=30,
    )
    report = run_chaos(plan=plan, log=None, say=print)
    assert report.problems == [], summary(report)
    reached = {row.kind: row.reached for row in report.kinds}
    assert all(reached.values())
    assert len(reached) + len(report.not_possible) == len(FaultKind)
    assert report.checks.streams > 100
    assert report.checks.adjustments > 0
    assert report.outages > 0
    assert all(report.money.counted[name] for name in WANTED)
