"""Exports from the dashboard: the API's files, for whoever is signed in."""

import re

import pytest

from metering.exports.export_month import ExportFormat, ExportKind
from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser
from tests.dashboard.reading import rows_of
from tests.exports.files import read_csv, read_parquet


@pytest.mark.parametrize("kind", list(ExportKind))
def test_a_viewer_gets_the_file_that_the_api_gives(reader: Browser, seeded: Seeded, kind: ExportKind) -> None:
    for format in ExportFormat:
        path, of = f"exports/{kind}.{format}", {"period": seeded.period}
        answer = reader.get(path, **of)
        over_api = seeded.api.client.get(f"/v1/{path}", params=of)
        read = read_csv if format is ExportFormat.CSV else read_parquet
        assert read(answer.content) == read(over_api.content) != []
        for name in ("content-type", "content-disposition", "cache-control", "x-content-type-options"):
            assert answer.headers[name] == over_api.headers[name]


@pytest.mark.parametrize("kind", list(ExportKind))
def test_a_viewer_bound_to_a_customer_gets_its_rows_only(bound: Browser, seeded: Seeded, kind: ExportKind) -> None:
    name = "BillingAccountId" if kind is ExportKind.FOCUS else "customer_id"
    rows = read_csv(bound.get(f"exports/{kind}.csv", period=seeded.period).content)
    assert {row[name] for row in rows} == {"hooli"}
    for other in ("acme", "nobody"):
        wanted = {"period": seeded.period, "customer_id": other}
        refused = bound.http.get(f"/dashboard/exports/{kind}.csv", params=wanted)
        assert refused.status_code == 404
        assert f"there is no customer &#39;{other}&#39;" in refused.text


def test_the_invoices_page_has_a_file_for_excel_of_each_export(bound: Browser, seeded: Seeded) -> None:
    page = bound.get("invoices", period=seeded.period).text
    links = re.findall(r'href="/dashboard/(exports/[^"]+excel=true[^"]*)"', page)
    assert [link.partition("?")[0] for link in links] == [f"exports/{kind}.csv" for kind in ExportKind]
    for link in links:
        answer = bound.get(link.replace("&amp;", "&"))
        assert answer.content.startswith(b"\xef\xbb\xbf")
        assert answer.headers["content-disposition"].endswith('-excel.csv"')
    query = {"period": seeded.period, "excel": "true"}
    refused = bound.http.get("/dashboard/exports/charges.parquet", params=query)
    assert (refused.status_code, "excel: only for csv" in refused.text) == (422, True)


def test_a_table_is_a_file_for_excel_named_after_its_customer_month_and_content(
    reader: Browser, bound: Browser, seeded: Seeded
) -> None:
    for browser, path, query, table, name in (
        (reader, "customer", {"customer_id": "hooli", "month": seeded.period}, "models", f"hooli-{seeded.period}"),
        (reader, "models", {"month": seeded.period}, "models", seeded.period),
        (bound, "", {"month": seeded.period}, "models", f"hooli-{seeded.period}"),
    ):
        answer = browser.get(path, **query, csv=table)
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}-{table}.csv"'
        assert answer.content.startswith(b"\xef\xbb\xbf")
    rates = reader.get("rates", csv="rates").headers["content-disposition"]
    assert re.search(r'"\d{4}-\d\d-\d\d-rates\.csv"', rates)


def test_days_in_files_are_dates(reader: Browser, seeded: Seeded) -> None:
    rows = rows_of(reader.get("", month=seeded.period, csv="cost-by-day").text)
    assert rows
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", row["day"]) for row in rows)


def test_a_signed_out_browser_gets_nothing(seeded: Seeded) -> None:
    answer = Browser(seeded.api).http.get("/dashboard/exports/charges.csv", params={"period": seeded.period})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/dashboard/sign-in?next=")


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("charges.csv", 422, "expected a month such as 2026-10"),
        ("charges.csv?period=soon", 422, "expected a month such as 2026-10"),
        ("charges.xlsx?period=2026-10", 404, "there is no such export"),
        ("customers.csv?period=2026-10", 404, "there is no such export"),
        ("charges.csv?period=2026-10&customer_id=nobody", 404, "there is no customer"),
        ("charges.csv?period=2026-10&customer_id=a%00b", 422, "NUL"),
    ],
)
def test_what_is_wrong_is_a_page_that_says_so(admin: Browser, path: str, status: int, says: str) -> None:
    answer = admin.http.get(f"/dashboard/exports/{path}")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert says in answer.text
