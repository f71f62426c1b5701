"""The benchmarks run, measure something, and what they wrote makes the page. How fast is not asserted."""

from itertools import product
from pathlib import Path

import msgspec
import pytest

from metering.events.wire.decode import decode_json
from metering.exports.export_month import ExportFormat, ExportKind
from metering.lab.bench.alerts import bench_alerts
from metering.lab.bench.audit import bench_audit
from metering.lab.bench.exports import bench_exports
from metering.lab.bench.finalize import bench_finalize
from metering.lab.bench.ingest import bench_ingest
from metering.lab.bench.invoices import bench_invoices
from metering.lab.bench.page import render_page
from metering.lab.bench.push import bench_push
from metering.lab.bench.rating import bench_rating
from metering.lab.bench.totals import PAGES, QUERIES, VIEWS, bench_totals
from metering.lab.bench.workload import Workload, play, write_script
from metering.streams.ingest.fold import fold_wire

ROOT = Path(__file__).parent.parent.parent


def write(folder: Path, name: str, report: msgspec.Struct) -> None:
    (folder / name).write_bytes(msgspec.json.encode(report))


def test_each_benchmark_measures_and_the_page_shows_it(tmp_path: Path) -> None:
    said: list[str] = []
    ingest = bench_ingest(seconds=1, stored_streams=2_000, soak_seconds=1, say=said.append, shapes=((20, 4),))
    assert [row.what for row in ingest.rows] == ["api alone"]
    assert ingest.soak is not None
    for row in (*ingest.rows, ingest.beside.row, ingest.soak.row):
        assert row.events_per_second > 0
        assert row.refused == {}
        assert row.journal_disk_bytes > 0
        assert row.api_cpu_microseconds > 0
        assert row.postgres_cpu_microseconds > 0
    assert ingest.floor.ratio > 0
    assert ingest.beside.finalized_per_second > 0
    finalize = bench_finalize(streams=2_000, say=said.append)
    assert [row.workers for row in finalize.rows] == [1, 2]
    totals = bench_totals(charges=5_000, open_streams=10, say=said.append)
    assert len(totals.rows) == len(QUERIES) + len(PAGES) + len(VIEWS)
    assert all(row.rows > 0 for row in totals.rows)
    assert totals.hourly_rows > totals.daily_rows > 0
    rating = bench_rating(seconds=0.1, say=said.append)
    assert rating.lines_per_second > rating.streams_per_second > 0
    audit = bench_audit(seconds=1, events_per_stream=5, times=1, say=said.append)
    assert audit.rows[0].events > audit.rows[0].streams > 0
    invoices = bench_invoices(customers=50, lines=3, charges_per_line=2, workers=0, say=said.append)
    assert invoices.charges == 300
    assert invoices.customers_per_second > 0
    push = bench_push(customers=30, lines=10, say=said.append)
    assert push.calls == 4
    assert push.invoices_per_second > 0
    exports = bench_exports(customers=20, lines=3, charges_per_line=5, say=said.append)
    assert exports.charges == 300
    assert {(row.kind, row.format) for row in exports.rows} == set(product(ExportKind, ExportFormat))
    assert all(row.rows > 0 and row.peak_megabytes > 0 for row in exports.rows)
    alerts = bench_alerts(customers=40, hours=5, say=said.append)
    assert len(alerts.rows) == 5
    assert alerts.occurred == 160
    reports = {
        "ingest": ingest,
        "finalize": finalize,
        "totals": totals,
        "rating": rating,
        "audit": audit,
        "invoices": invoices,
        "push": push,
        "exports": exports,
        "alerts": alerts,
    }
    for name, report in reports.items():
        write(tmp_path, f"{name}.json", report)
    page = render_page(tmp_path)
    assert f"{ingest.rows[0].events_per_second:,.0f}" in page
    assert "month by customer" in page
    assert len(said) > 20


def test_the_page_in_the_docs_is_the_one_of_its_figures() -> None:
    assert (ROOT / "docs/performance.md").read_text() == render_page(ROOT / "docs/performance")


@pytest.mark.parametrize("events_per_request", [1, 100])
def test_every_play_of_a_script_is_of_new_streams_that_all_count(events_per_request: int) -> None:
    script = write_script(Workload(events_per_request=events_per_request), requests=200, seed=1)
    seen: set[tuple[str, str]] = set()
    for turn in range(3):
        streams: dict[tuple[str, str], int] = {}
        for body in play(script, connection=7, turn=turn):
            decoded = decode_json(body)
            assert len(decoded.events) == events_per_request
            for key in fold_wire(decoded.events):
                streams[key] = streams.get(key, 0) + 1
        assert not seen & streams.keys()
        seen |= streams.keys()
