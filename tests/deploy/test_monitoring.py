"""The dashboard and the alerts: of metrics that exist and queries that run; each alert leads to what to do."""

import json
import re
import subprocess
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from metering.events.events import Outcome, UsageSource
from metering.server.bootstrap import Service
from tests.builders import NOW, T0, Books, end, start
from tests.database import Database
from tests.deploy.files import DEPLOY, ROOT, SERVICES
from tests.metrics import Scrape, let_everything_have_happened, scrape_work
from tests.reporting.views import Row, read
from tests.running_api import signed_in
from tests.tools import need

PROMETHEUS = DEPLOY / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "metering.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [target["expr"] for _, target in TARGETS if "expr" in target]
QUERIES = {panel["title"]: target["rawSql"] for panel, target in TARGETS if "rawSql" in target}

_METRIC = re.compile(r"\bmetering_\w+")
_HISTOGRAM_ENDING = re.compile(r"_(bucket|sum|count)$")


@pytest.fixture(scope="module")
def anchors() -> set[str]:
    """The headings of the operators' page, as links write them."""
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^#+ (.+)", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.fixture
def metrics(service: Service) -> set[str]:
    """The names of all metrics that an API tells."""
    let_everything_have_happened(service)
    with signed_in(service) as api:
        return Scrape(api.client.get("/metrics").text).ours | scrape_work(service).ours


def named(expressions: list[str]) -> set[str]:
    return {_HISTOGRAM_ENDING.sub("", name) for text in expressions for name in _METRIC.findall(text)}


def test_every_metric_of_the_dashboard_and_the_alerts_exists(metrics: set[str]) -> None:
    wanted = named([*EXPRESSIONS, *(rule["expr"] for rule in RULES)])
    assert wanted <= metrics
    assert metrics <= wanted, "a metric that nobody looks at"


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    need("promtool")
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


def test_prometheus_accepts_the_configuration_and_the_rules() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_waits_says_how_bad_it_is_and_leads_to_what_to_do(
    rule: dict[str, Any], anchors: set[str]
) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert re.fullmatch(r"\d+[mhd]", rule["for"])
    assert len(rule["annotations"]["summary"]) > 20
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == '{{ or $externalLabels.metering_docs "docs" }}/operations.md'
    assert anchor in anchors


def test_the_operators_page_has_the_very_alerts() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"`(Metering\w+)`", page)) == {rule["alert"] for rule in RULES}


# What makes each alert fire: series, and the value that they keep. Counters grow by it each minute.
FIRES: dict[str, dict[str, str]] = {
    "MeteringApiDown": {"up": "0"},
    "MeteringDatabaseDown": {"metering_database_up": "0"},
    "MeteringDatabaseUnsafe": {"metering_database_safe": "0"},
    "MeteringQueueDown": {"metering_queue_up": "0"},
    "MeteringMetricsIncomplete": {'metering_part_unread{part="drift"}': "1", "metering_database_up": "1"},
    "MeteringIngestRefused": {"metering_ingest_queue_full_total": "+1"},
    "MeteringIngestNotCommitted": {"metering_ingest_not_committed_total": "+1"},
    "MeteringIngestSlow": {
        'metering_ingest_commit_seconds_bucket{le="1"}': "+90",
        'metering_ingest_commit_seconds_bucket{le="2"}': "+100",
        'metering_ingest_commit_seconds_bucket{le="+Inf"}': "+100",
    },
    "MeteringEventsRejected": {"metering_events_rejected_total": "+2", "metering_events_accepted_total": "+100"},
    "MeteringExportFailed": {'metering_exports_total{result="failed"}': "+1"},
    "MeteringNoWorker": {"metering_workers": "0"},
    "MeteringFinalizeLate": {"metering_oldest_due_seconds": "61"},
    "MeteringTotalsNotRolledUp": {"metering_totals_rolled_up_seconds": "301"},
    "MeteringStreamsUnpriced": {'metering_streams_not_final{state="unpriced"}': "1"},
    "MeteringStreamsContradict": {'metering_streams_not_final{state="orphaned"}': "1"},
    "MeteringStreamsFailed": {'metering_streams_not_final{state="failed"}': "1"},
    "MeteringMonthOverdue": {"metering_customers_overdue": "1"},
    "MeteringPushStuck": {'metering_pushes{state="stuck"}': "1"},
    "MeteringPushUnlinked": {'metering_pushes{state="unlinked"}': "1"},
    "MeteringPushSlow": {'metering_pushes{state="unknown"}': "1"},
    "MeteringDrift": {'metering_drift_findings{class="line"}': "1"},
    "MeteringNotReconciled": {"metering_reconciled_seconds": "300000"},
    "MeteringPriceChanges": {"metering_price_changes": "1"},
    "MeteringRatesNotCompared": {"metering_rates_compared_seconds": "300000"},
    "MeteringAlertsLate": {"metering_alerts_evaluated_seconds": "601"},
    "MeteringWebhooksLate": {"metering_oldest_webhook_seconds": "3601"},
    "MeteringWebhookEndpointDisabled": {'metering_webhook_endpoints{state="disabled"}': "1"},
}
# All is well, with work going on: nothing fires.
WELL = {
    "up": "1",
    "metering_database_up": "1",
    "metering_queue_up": "1",
    'metering_part_unread{part="drift"}': "0",
    "metering_ingest_queue_full_total": "+0",
    "metering_ingest_not_committed_total": "+0",
    'metering_ingest_commit_seconds_bucket{le="1"}': "+100",
    'metering_ingest_commit_seconds_bucket{le="+Inf"}': "+100",
    "metering_events_rejected_total": "+1",
    "metering_events_accepted_total": "+1000",
    'metering_exports_total{result="whole"}': "+5",
    'metering_exports_total{result="failed"}': "+0",
    "metering_workers": "2",
    "metering_oldest_due_seconds": "3",
    "metering_totals_rolled_up_seconds": "12",
    'metering_streams_not_final{state="open"}': "500",
    'metering_streams_not_final{state="unpriced"}': "0",
    "metering_customers_overdue": "0",
    'metering_pushes{state="final"}': "100",
    'metering_pushes{state="stuck"}': "0",
    'metering_pushes{state="unlinked"}': "0",
    'metering_drift_findings{class="line"}': "0",
    "metering_reconciled_seconds": "90000",
    "metering_price_changes": "0",
    "metering_rates_compared_seconds": "90000",
    "metering_alerts_evaluated_seconds": "60",
    "metering_oldest_webhook_seconds": "300",
    'metering_webhook_endpoints{state="disabled"}': "0",
    'metering_webhook_endpoints{state="failing"}': "1",
}


def _test(series: dict[str, str], *, after: int, firing: list[str]) -> dict[str, Any]:
    """Two API processes say the same; after so many minutes, these alerts and no others fire."""
    inputs = []
    for instance in ("a:8000", "b:8000"):
        for name, value in series.items():
            labels = f'job="metering",instance="{instance}"'
            full = f"{name[:-1]},{labels}}}" if "{" in name else f"{name}{{{labels}}}"
            growth = value if value.startswith("+") else "+0"
            inputs.append({"series": full, "values": f"{value.lstrip('+')}{growth}x{after}"})
    samples = [
        {"labels": f'{{alertname="{name}"}}', "value": 2 if name == "MeteringApiDown" else 1} for name in firing
    ]
    expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "interval": "1m",
        "input_series": inputs,
        "promql_expr_test": [{"expr": expression, "eval_time": f"{after}m", "exp_samples": samples}],
    }


def minutes(duration: str) -> int:
    return int(duration[:-1]) * {"m": 1, "h": 60, "d": 1440}[duration[-1]]


def test_each_alert_fires_when_it_should_and_none_when_all_is_well(tmp_path: Path) -> None:
    assert set(FIRES) == {rule["alert"] for rule in RULES}
    waits = {rule["alert"]: minutes(rule["for"]) for rule in RULES}
    tests = [_test(WELL, after=max(waits.values()) + 20, firing=[])]
    for alert, series in FIRES.items():
        tests.append(_test(series, after=waits[alert] + 20, firing=[alert]))
        if waits[alert] > 2:
            tests.append(_test(series, after=waits[alert] - 2, firing=[]))
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump(
            {"rule_files": [str(PROMETHEUS / "rules.yml")], "evaluation_interval": "1m", "tests": tests}
        )
    )
    tested = promtool("test", "rules", tmp_path / "tests.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("label", "begins"), [(None, "docs"), ("https://git.example.com/metering/docs",) * 2], ids=["without", "with"]
)
def test_the_link_of_an_alert_begins_where_the_team_reads_the_docs(
    tmp_path: Path, label: str | None, begins: str
) -> None:
    rule = next(rule for rule in RULES if rule["alert"] == "MeteringQueueDown")
    labels = {"job": "metering", "severity": rule["labels"]["severity"]}
    annotations = {
        "summary": rule["annotations"]["summary"].replace("{{ $labels.job }}", "metering"),
        "runbook_url": f"{begins}/operations.md#{rule['annotations']['runbook_url'].partition('#')[2]}",
    }
    expected = {"exp_labels": labels, "exp_annotations": annotations}
    test = _test(FIRES["MeteringQueueDown"], after=10, firing=["MeteringQueueDown"]) | {
        "external_labels": {"metering_docs": label} if label else {},
        "alert_rule_test": [{"eval_time": "10m", "alertname": "MeteringQueueDown", "exp_alerts": [expected]}],
    }
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump(
            {"rule_files": [str(PROMETHEUS / "rules.yml")], "evaluation_interval": "1m", "tests": [test]}
        )
    )
    tested = promtool("test", "rules", tmp_path / "tests.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_dashboard_can_be_imported() -> None:
    assert DASHBOARD["id"] is None
    assert DASHBOARD["schemaVersion"] >= 42
    variables = {each["name"]: each["query"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"prometheus": "prometheus", "postgres": "grafana-postgresql-datasource"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel, target in TARGETS:
        source = "prometheus" if "expr" in target else "postgres"
        assert target["datasource"] == {"type": variables[source], "uid": f"${{{source}}}"} == panel["datasource"]
        assert panel["title"]
        assert panel["description"].endswith(".")


def test_no_panel_lies_over_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def as_grafana_asks(query: str) -> str:
    """Its macros, as its PostgreSQL data source fills them in."""
    filled = re.sub(
        r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN '2026-11-01T00:00:00Z' AND '2026-12-01T00:00:00Z'", query
    )
    assert "$" not in filled
    return filled


@pytest.fixture
def books(rated_database: Database, rated_service: Service) -> Books:
    """Usage of November, some of it cancelled, retried, estimated or without a rate."""
    books = Books(rated_database, rated_service)
    left = {"outcome": Outcome.CANCELLED, "usage_source": UsageSource.ESTIMATE}
    again = T0 + timedelta(seconds=20)
    books.receive(
        [
            *(start("one"), end("one")),
            *(start("two", request_hash="h"), end("two", **left)),
            *(start("three", request_hash="h", time=again), end("three", time=again + timedelta(seconds=4))),
            *(start("no-rate", model="nobody-knows"), end("no-rate")),
        ]
    )
    for minute in range(1, 4):
        books.finalize(now=NOW + timedelta(minutes=minute))
        books.link_retries(now=NOW + timedelta(minutes=minute, seconds=30))
    return books


def test_every_query_of_the_dashboard_runs_for_a_reader(books: Books) -> None:
    found: dict[str, list[Row]] = {
        title: read(books.database, as_grafana_asks(query)) for title, query in QUERIES.items()
    }
    assert len(found) == 10
    cents = Decimal("0.004985")  # of each of the three
    assert found["Spend"] == [{"usd": 3 * cents}]
    assert found["Cost of streams that did not complete"] == [{"usd": cents}]
    assert found["Cost of retries"] == [{"usd": cents}]
    assert round(found["Estimated share"][0]["share"] * 3, 9) == 1
    assert [row["metric"] for row in found["Cost of streams that did not complete, by day"]] == ["cancelled"]
    assert [row["metric"] for row in found["Spend by day and model"]] == ["claude-opus-4.7"]
    (unbilled,) = found["Unbilled, by customer and month"]
    assert (unbilled["customer"], unbilled["backlog"]) == ("acme", 1)
    assert found["Unbilled"][0]["usd"] == found["Spend"][0]["usd"]


def test_a_query_over_time_has_the_columns_that_grafana_draws(books: Books) -> None:
    for panel, target in TARGETS:
        if target.get("format") == "time_series":
            described = read(books.database, f"SELECT * FROM ({as_grafana_asks(target['rawSql'])}) AS q")
            assert all(next(iter(row)) == "time" for row in described), panel["title"]


def test_grafana_is_given_what_it_reads_and_where_it_is() -> None:
    grafana = SERVICES["grafana"]
    sources = yaml.safe_load((DEPLOY / "grafana" / "datasources.yaml").read_text())["datasources"]
    by_type = {source["type"]: source for source in sources}
    assert set(by_type) == {each["query"] for each in DASHBOARD["templating"]["list"]}
    postgres = by_type["grafana-postgresql-datasource"]
    assert postgres["secureJsonData"]["password"].lstrip("$") in grafana["environment"]
    assert postgres["jsonData"]["maxOpenConns"] < 10, "a reader may not have more connections"
    assert by_type["prometheus"]["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DEPLOY / "grafana" / "dashboards.yaml").read_text())["providers"]
    mounted = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert Path(mounted["./grafana/metering.json"]).parent == Path(provider["options"]["path"])
