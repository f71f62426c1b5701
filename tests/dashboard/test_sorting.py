"""Tables sort by the heads of their columns: numbers by value, unknown last; long lists in the database."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from metering.dashboard.arranging import Arrangement
from metering.dashboard.errors import InvalidFilterError
from metering.dashboard.tables import Cell, Column, Kind, Table
from tests.builders.posted import stream
from tests.builders.seeded import Seeded
from tests.dashboard.browsing import Browser, browse
from tests.dashboard.reading import links_of, rows_of
from tests.running_api import Api

COLUMNS = [
    Column("name", "Name"),
    Column("cost", "Cost", Kind.MONEY),
    Column("share", "Share", Kind.SHARE),
    Column("at", "At", Kind.TIME),
    Column("why", "Why", Kind.PROSE),
]
ROWS: list[dict[str, Any]] = [
    {"name": "beta", "cost": Decimal(9), "share": (1, 3), "at": datetime(2026, 11, 2, tzinfo=UTC)},
    {"name": "Alpha", "cost": Decimal(100), "share": (1, 2), "at": None},
    {"name": None, "cost": None, "share": (0, 0), "at": datetime(2026, 11, 1, tzinfo=UTC)},
    {"name": "gamma", "cost": Decimal(-20), "share": (1, 9), "at": datetime(2026, 11, 3, tzinfo=UTC)},
]


def table(**changes: Any) -> Table:
    return Table(**{"name": "t", "title": "", "columns": COLUMNS, "rows": ROWS, "empty": "", **changes})


def order(sort: str, **changes: Any) -> list[Any]:
    arranged = Arrangement({"sort-t": sort})(table(**changes)).table
    return [row["name"] for row in arranged.rows]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("cost", ["gamma", "beta", "Alpha", None]),
        ("-cost", ["Alpha", "beta", "gamma", None]),
        ("share", ["gamma", "beta", "Alpha", None]),
        ("name", ["Alpha", "beta", "gamma", None]),
        ("-name", ["gamma", "beta", "Alpha", None]),
        ("at", [None, "beta", "gamma", "Alpha"]),
        ("-at", ["gamma", "beta", None, "Alpha"]),
    ],
)
def test_numbers_sort_by_value_and_texts_without_case_and_unknown_is_last(sort: str, names: list[Any]) -> None:
    assert order(sort) == names


def test_a_customer_sorts_by_its_name() -> None:
    rows = [{"c": Cell("a", customer=True)}, {"c": Cell("b", customer=True)}]
    given = table(columns=[Column("c", "Customer")], rows=rows)
    found = Arrangement({"sort-t": "c"}, True, {"a": "Zoo", "b": "Bolt"})(given).table
    assert [row["c"].name for row in found.rows if isinstance(row["c"], Cell)] == ["Bolt", "Zoo"]


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidFilterError, match="sort-t: one of name, cost, share"):
        order("price")


@pytest.mark.parametrize("part", [{"more": "/next"}, {"whole": False}, {"rest": {"name": "others"}}])
def test_a_part_of_a_list_is_not_sorted_as_if_it_were_all(part: dict[str, Any]) -> None:
    assert order("cost", **part) == ["beta", "Alpha", None, "gamma"]
    heads = Arrangement({})(table(**part, sorts=("cost",))).headings
    assert [head.leads_to for head in heads] == [None, "-cost", None, None, None]


def test_heads_lead_to_the_other_direction_and_begin_with_what_people_want_first() -> None:
    heads = Arrangement({"sort-t": "-cost"})(table()).headings
    assert [head.leads_to for head in heads] == ["name", "cost", "-share", "-at", None]
    assert [head.now for head in heads] == [None, "descending", None, None, None]


def test_a_column_of_amounts_has_one_precision_and_aligns_its_points() -> None:
    rows = [
        {"cost": Decimal("36"), "exact": Decimal("0.5")},
        {"cost": Decimal("0.0005"), "exact": Decimal("1.25")},
    ]
    columns = [Column("cost", "Cost", Kind.MONEY), Column("exact", "Exact", Kind.EXACT_MONEY)]
    found = Arrangement({})(table(columns=columns, rows=rows))
    shown = [[found.amount(Cell(row[each.key]), each) for each in columns] for row in rows]
    assert [(each.first, each.rest) for each, _ in shown] == [("$0.36", "00"), ("<$0.00", "01")]
    assert [(each.first, each.rest, each.room) for _, each in shown] == [("$0.00", "5", "0"), ("$0.01", "25", "")]


def heads_of(page: str) -> dict[str, str]:
    """The headings of a page that say how it is sorted."""
    return {re.sub(r"<[^>]+>", "", text): says for says, text in re.findall(r'aria-sort="(\w+)">(.*?)</th>', page)}


def test_a_page_sorts_where_its_heads_lead_and_its_file_is_sorted_as_well(admin: Browser, seeded: Seeded) -> None:
    path = f"customers?month={seeded.period}"
    assert heads_of(admin.get(path).text) == {"Cost": "descending"}
    found = next(each for each in links_of(admin.get(path).text) if "sort-customers=-streams" in each)
    link = found.partition("#")[0]
    page = admin.http.get(link).text
    assert heads_of(page) == {"Streams": "descending"}
    counts = [int(row["streams"]) for row in rows_of(admin.http.get(f"{link}&csv=customers").text)]
    assert counts == sorted(counts, reverse=True)
    assert counts != sorted(counts)


def test_names_of_customers_are_above_their_ids_on_every_page(admin: Browser, seeded: Seeded) -> None:
    for path in (
        f"customers?month={seeded.period}",
        "backlog",
        "alerts",
        "drift",
        f"month-end?month={seeded.period}",
    ):
        page = admin.get(path).text
        assert re.search(r'customer_id=(\w+)[^"]*">[A-Z][^<]*</a><span class="under">\1<', page), path


@pytest.fixture(scope="module")
def many(shared_api: Api) -> Browser:
    """More customers than a page has, with as many streams in two months as their numbers say."""
    for number in range(MANY):
        month = 10 + number % 2
        shared_api.post(
            [
                each
                for place in range(number % 4 + 1)
                for each in stream(f"s{place}", customer=f"c{number:03}", time=f"2026-{month}-05T10:00:00Z")
            ]
        )
    while shared_api.client.get("/readyz").json()["streams_due"]:
        shared_api.finalize()
    return browse(shared_api)


MANY = 130


@pytest.mark.parametrize("column", ["cost", "streams", "before", "change"])
@pytest.mark.parametrize("direction", ["", "-"])
def test_a_list_of_many_customers_is_paged_in_its_order(many: Browser, column: str, direction: str) -> None:
    sort = {"sort-customers": f"{direction}{column}", "month": "2026-11"}
    rows = rows_of(many.get("customers", **sort, csv="customers").text)
    whole = [row["customer_id"] for row in rows if row["customer_id"].startswith("c")]
    assert len(whole) == MANY
    name = {"cost": "cost_usd", "streams": "streams", "before": "before_usd", "change": "change_usd"}[column]
    values = [Decimal(row[name]) for row in rows]
    assert values == sorted(values, reverse=bool(direction))
    seen: list[str] = []
    page = many.get("customers", **sort).text
    while True:
        seen += re.findall(r'<th scope="row"><a href="/dashboard/customer\?customer_id=(c\d\d\d)', page)
        following = [each for each in links_of(page) if "behind=" in each]
        if not following:
            break
        page = many.http.get(following[0].partition("#")[0]).text
    assert seen == whole


def test_a_position_of_another_list_is_refused(many: Browser) -> None:
    for position in ("p.a.b.c.d", "p.1.2.3", "p.9e999.1..c001"):
        assert many.http.get(f"/dashboard/customers?behind={position}").status_code == 422
