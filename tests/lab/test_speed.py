"""The headline speeds are measured beside their floors, and none falls far below what it was.

Ratios are asserted, never times: other work on the machine slows both down. The least ratios are about a third of
what a busy machine reaches with these small sizes, in which starting a process counts.
"""

import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from metering.lab.bench.page import render_page
from metering.lab.bench.speed import Size, Speed, SpeedReport, bench_speed
from tests.database import Servers, Template
from tests.lab.stages import stages_on

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent
SMALL = Size(
    seconds=1.0,
    warm_up_seconds=0.5,
    bare_events=20_000,
    finalized=3_000,
    lead=timedelta(seconds=5),
    summed=20_000,
    questions=10,
    exporting_customers=20,
    charges_of_customer=500,
    alerted_customers=500,
    hours=10,
)
LEAST = {
    "one event a request, 64 connections": 0.02,
    "100 events a request, 32 connections": 0.04,
    "the same, two API processes": 0.03,
    "100 events of 10 streams a request, a worker finalizing beside": 0.04,
    "totals by customer, model and day, 20,000 charges, p99": 0.01,
    "days of a half-hour time zone, p99": 0.1,
    "export of charges as csv": 0.05,
    "export of charges as parquet": 0.05,
    "export of focus as csv": 0.05,
    "audit, 4 events a stream": 0.01,
    "2,000 alerts fire at once": 0.08,
    "finalizing, 1 worker process": 0.05,
    "finalizing, 2 worker processes": 0.03,
}


@pytest.fixture(scope="module")
def report(servers: Servers, rated_template: Template) -> SpeedReport:
    return bench_speed(size=SMALL, say=print, stages=stages_on(servers, rated_template))


def test_no_headline_speed_is_far_from_its_floor(report: SpeedReport) -> None:
    found = {row.what: row.ratio for row in report.rows}
    assert found.keys() == LEAST.keys()
    slow = [f"{what}: {ratio:.3f} of its floor" for what, ratio in found.items() if ratio < LEAST[what]]
    assert not slow, slow


def test_the_page_begins_with_them(report: SpeedReport, tmp_path: Path) -> None:
    for figures in (ROOT / "docs/performance").glob("*.json"):
        shutil.copy(figures, tmp_path)
    (tmp_path / "speed.json").write_bytes(msgspec.json.encode(report))
    page = render_page(tmp_path)
    assert page.index("## At a glance") < page.index("## Ingest")
    for row in report.rows:
        assert f"| {row.what} | {row.unit} | {row.measured:,.0f} |" in page


ROW = Speed(what="", unit="rows/s", measured=50.0, floor_is="", floor=100.0, ratio=0.5, aim=50.0)


@pytest.mark.parametrize(
    ("row", "reaches"),
    [
        (ROW, True),
        (structs.replace(ROW, measured=49.9), False),
        (structs.replace(ROW, unit="ms"), True),
        (structs.replace(ROW, unit="ms", measured=50.1), False),
        (structs.replace(ROW, aim=None), None),
    ],
)
def test_a_speed_is_to_be_above_its_aim_and_a_time_below_it(row: Speed, reaches: bool | None) -> None:
    assert row.reaches_aim is reaches
