"""The benchmarks run, measure something, and what they wrote makes the page. How fast is not asserted."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from pathlib import Path

import msgspec
import psutil
import pytest
from msgspec import structs

from metering.alerts.alerts import AlertKind
from metering.events.wire.decode import decode_json
from metering.exports.export_month import ExportFormat, ExportKind
from metering.lab.bench.alerts import bench_alerts
from metering.lab.bench.audit import bench_audit
from metering.lab.bench.emitter import bench_emitter
from metering.lab.bench.exports import bench_exports
from metering.lab.bench.finalize import bench_finalize
from metering.lab.bench.gateway import bench_gateway
from metering.lab.bench.growth import bench_growth
from metering.lab.bench.ingest import Load, bench_ingest
from metering.lab.bench.invoices import bench_invoices
from metering.lab.bench.neighbours import NOISES, bench_neighbours
from metering.lab.bench.page import render_page
from metering.lab.bench.push import bench_push
from metering.lab.bench.rating import bench_rating
from metering.lab.bench.resume import bench_resume
from metering.lab.bench.stage import Stages, stage
from metering.lab.bench.totals import PAGES, QUERIES, VIEWS, bench_totals
from metering.lab.bench.workload import Workload, play, write_script
from metering.streams.ingest.fold import fold_wire
from tests.database import Servers, Template
from tests.lab.stages import stages_on

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def stages(servers: Servers, rated_template: Template) -> Stages:
    """Stages on the session's servers, each with a database of its own."""
    return stages_on(servers, rated_template)


@pytest.fixture
def said() -> list[str]:
    """What a benchmark tells a person."""
    return []


@pytest.fixture
def shown(tmp_path: Path) -> Callable[[str, msgspec.Struct], str]:
    """The page of the figures in the docs, but with those of one report."""

    def render(name: str, report: msgspec.Struct) -> str:
        for figures in (ROOT / "docs/performance").glob("*.json"):
            shutil.copy(figures, tmp_path)
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(report))
        return render_page(tmp_path)

    return render


Shown = Callable[[str, msgspec.Struct], str]


def test_ingest_is_measured_alone_beside_a_worker_grown_and_for_long(
    stages: Stages, said: list[str], shown: Shown
) -> None:
    load = Load(seconds=0.3, warm_up_seconds=0.1, shapes=((20, 4),), main=(100, 4), rounds=1)
    report = bench_ingest(load=load, stored_streams=2_000, soak_seconds=0.3, say=said.append, stages=stages)
    assert [row.what for row in report.rows] == ["api alone"]
    assert report.soak is not None
    assert report.growth is not None
    for row in (*report.rows, report.beside.row, report.soak.row, report.growth.grown):
        assert row.events_per_second > 0
        assert row.refused == {}
        assert row.journal_disk_bytes > 0
        assert row.api_cpu_microseconds > 0
        assert row.postgres_cpu_microseconds > 0
    assert report.floor.ratio > 0
    assert report.beside.finalized_per_second > 0
    assert len(said) > 5
    assert f"{report.rows[0].events_per_second:,.0f}" in shown("ingest", report)


def test_finalizing_is_measured_with_one_worker_and_with_two(
    stages: Stages, said: list[str], shown: Shown
) -> None:
    report = bench_finalize(streams=1_000, say=said.append, stages=stages, lead=timedelta(seconds=2))
    assert [row.workers for row in report.rows] == [1, 2]
    assert all(row.streams_per_second > 0 and row.worker_cpu_microseconds > 0 for row in report.rows)
    assert f"{report.rows[0].streams_per_second:,.0f}" in shown("finalize", report)


def test_each_question_page_and_view_is_timed(stages: Stages, said: list[str], shown: Shown) -> None:
    report = bench_totals(charges=2_000, open_streams=10, times=1, say=said.append, stages=stages)
    assert len(report.rows) == len(QUERIES) + len(PAGES) + len(VIEWS)
    assert all(row.rows > 0 for row in report.rows)
    assert report.hourly_rows > report.daily_rows > 0
    assert "month by customer" in shown("totals", report)


def test_rating_is_measured_over_every_model(said: list[str], shown: Shown) -> None:
    report = bench_rating(seconds=0.1, say=said.append)
    assert report.lines_per_second > report.streams_per_second > 0
    assert f"{report.streams_per_second:,.0f}" in shown("rating", report)


def test_each_call_of_the_emitter_is_timed(said: list[str], shown: Shown) -> None:
    report = bench_emitter(calls=2_000, say=said.append)
    assert {row.call for row in report.rows} == {"floor", "emit", "delivered", "take"}
    assert all(0 < row.p50 <= row.p99 <= row.p999 for row in report.rows)
    assert report.dropped == 0
    assert report.ratio > 0
    assert report.paced_ratio > 0
    assert "| emit | tight | 2,000 |" in shown("emitter", report)


def test_what_a_resume_key_costs_is_measured(said: list[str], shown: Shown) -> None:
    report = bench_resume(streams=3, rate=20, seconds=1.0, rounds=1, say=said.append)
    off, on, followed = report.rows
    assert [row.completed for row in report.rows] == [3, 3, 3]
    assert (off.follower_p50_ms, off.first_ratio) == (None, 1.0)
    assert on.valkey_microseconds >= 0
    assert followed.follower_first_p50_ms is not None
    assert followed.follower_first_p50_ms > 0
    assert "with it, and a second reader" in shown("resume", report)


def test_a_quiet_client_is_timed_alone_and_beside_each_noise(
    stages: Stages, said: list[str], shown: Shown
) -> None:
    noises = [structs.replace(noise, connections=min(noise.connections, 10)) for noise in NOISES]
    report = bench_neighbours(seconds=1.0, rounds=1, charges=1_000, noises=noises, say=said.append, stages=stages)
    assert [row.what for row in report.rows] == [noise.what for noise in NOISES]
    for row in report.rows:
        assert row.quiet == {"200": row.requests}
        assert row.requests > 20
        assert row.livez > row.livez_failed == 0
        assert row.noisy
        assert not any(status.startswith("5") for status in row.noisy)
    assert NOISES[0].what in shown("neighbours", report)


def test_the_audit_is_measured(stages: Stages, said: list[str], shown: Shown) -> None:
    report = bench_audit(
        seconds=0.3, warm_up_seconds=0.1, events_per_stream=5, times=1, say=said.append, stages=stages
    )
    assert report.rows[0].events > report.rows[0].streams > 0
    assert f"{report.rows[0].events_per_second:,.0f}" in shown("audit", report)


def test_the_same_work_is_measured_at_each_size(stages: Stages, said: list[str], shown: Shown) -> None:
    report = bench_growth(sizes=[1_000, 2_000], customers=20, seconds=0.5, say=said.append, times=1, stages=stages)
    assert [size.charges for size in report.sizes] == [1_000, 2_000]
    first, second = report.sizes
    assert [work.what for work in first.works] == [work.what for work in second.works]
    assert all(work.measured > 0 for size in report.sizes for work in size.works)
    assert second.database_megabytes > second.charges_megabytes + second.totals_megabytes > 0
    page = shown("growth", report)
    assert "| charges | unit | 1,000 | 2,000 | last : first |" in page
    assert "| audit of everything | s |" in page


def test_closing_a_month_is_measured(stages: Stages, said: list[str], shown: Shown) -> None:
    report = bench_invoices(customers=50, lines=3, charges_per_line=2, workers=0, say=said.append, stages=stages)
    assert report.charges == 300
    assert report.customers_per_second > 0
    assert f"{report.customers_per_second:,.0f}" in shown("invoices", report)


def test_pushing_is_measured(stages: Stages, said: list[str], shown: Shown) -> None:
    report = bench_push(customers=30, lines=10, say=said.append, stages=stages)
    assert report.calls == 4
    assert report.invoices_per_second > 0
    assert f"{report.invoices_per_second:,.0f}" in shown("push", report)


def test_each_kind_and_format_of_an_export_is_measured(stages: Stages, said: list[str], shown: Shown) -> None:
    report = bench_exports(customers=20, lines=3, charges_per_line=5, say=said.append, stages=stages)
    assert report.charges == 300
    assert {(row.kind, row.format) for row in report.rows} == set(product(ExportKind, ExportFormat))
    assert all(row.rows > 0 and row.peak_megabytes > 0 for row in report.rows)
    assert "parquet" in shown("exports", report)


def test_the_gateway_is_measured_beside_a_bare_pass_through(said: list[str], shown: Shown) -> None:
    report = bench_gateway(streams=3, rates=(20,), seconds=1, workers=2, say=said.append, ramp_seconds=0.1)
    assert [row.what for row in report.rows] == [
        "direct",
        "bare TCP pass-through",
        "gateway, 1 worker",
        "gateway, 2 workers",
    ]
    assert all(row.completed == 3 and row.chunks_per_second > 0 and row.first_p50_ms > 0 for row in report.rows)
    assert "gateway, 2 workers | 3 x 20" in shown("gateway", report)


def test_alerts_are_measured_when_nothing_occurs_and_when_everything_does(
    stages: Stages, said: list[str], shown: Shown
) -> None:
    report = bench_alerts(customers=40, hours=5, say=said.append, stages=stages)
    assert len(report.rows) == len(AlertKind)
    assert report.occurred == 160
    assert "160" in shown("alerts", report)


def test_a_stage_of_its_own_starts_its_servers_and_ends_them() -> None:
    with stage() as running:
        assert running.one("SELECT count(*) FROM rate_cards") > 2_000
        postgres = psutil.Process(running.pid_of("postgres"))
    assert not postgres.is_running()


def test_the_page_in_the_docs_is_the_one_of_its_figures() -> None:
    assert (ROOT / "docs/performance.md").read_text() == render_page(ROOT / "docs/performance")


@pytest.mark.parametrize("events_per_request", [1, 100])
def test_every_play_of_a_script_is_of_new_streams_that_all_count(events_per_request: int) -> None:
    script = write_script(Workload(events_per_request=events_per_request), requests=40, seed=1)
    seen: set[tuple[str, str]] = set()
    for turn in range(3):
        streams: dict[tuple[str, str], int] = {}
        for body in play(script, connection=7, turn=turn):
            decoded = decode_json(body)
            assert len(decoded.events) == events_per_request
            for key in fold_wire(decoded.events, received_at=None):
                streams[key] = streams.get(key, 0) + 1
        assert not seen & streams.keys()
        seen |= streams.keys()
