"""Closed months are moved to files and back; money, and what late events do, stay as they were."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from sqlalchemy import text

from metering.archive.manifest import DamagedArchiveError, read_manifest
from metering.archive.queries import list_archives
from metering.archive.remove_archived import JournalInUseError
from metering.archive.restore_archive import NotArchivedError, Restored
from metering.archive.write_archive import ArchiveRefusedError
from metering.core.folders import FolderError
from metering.core.period import BillingPeriod
from metering.corrections.queries import get_backlog_item
from metering.corrections.rerate import rerate
from metering.customers.store import CustomerDetails
from metering.db.engine import transaction
from metering.events.events import UsageSource
from metering.exports.queries.charges import copy_entries
from metering.exports.queries.months import iterate_months
from metering.ledger.queries.charges import BillFilter
from metering.ledger.queries.streams import get_stream
from metering.streams.settlement import State
from metering.streams.store.archived import StreamArchivedError
from metering.stripe.put_customer import put_customer
from tests.builders.archives import BOOKED, SEPTEMBER, Archives
from tests.builders.events import NOW, end, start

MONEY = (
    "charges",
    "adjustments",
    "totals_hourly",
    "totals_pending",
    "invoices",
    "invoice_lines",
    "billing_periods",
)


def _streams(archives: Archives) -> set[str]:
    return {row["stream_id"] for row in archives.rows("streams")}


def test_a_closed_month_is_written_as_files_with_its_final_streams_and_removes_nothing(archives: Archives) -> None:
    before = archives.rows("streams"), archives.rows("journal")
    manifest = archives.write("2026-09")
    assert (manifest.stream_count, manifest.request_count, manifest.event_count) == (2, 4, 8)
    assert (archives.rows("streams"), archives.rows("journal")) == before
    folder = archives.folder("2026-09")
    assert read_manifest(folder) == manifest
    assert sorted(path.name for path in folder.iterdir()) == [
        "journal.parquet",
        "manifest.json",
        "streams.parquet",
    ]
    streams = parquet.read_table(folder / "streams.parquet").to_pylist()
    assert [row["stream_id"] for row in streams] == ["first", "second"]
    bodies = parquet.read_table(folder / "journal.parquet").column("body").to_pylist()
    assert sum(body.count(b'"stream-start"') for body in bodies) == 3


def test_what_is_removed_stays_in_the_files_and_money_stays_where_it_was(archives: Archives) -> None:
    money = {table: archives.rows(table) for table in MONEY}
    removed = archives.move("2026-09")
    assert (removed.streams, removed.changed) == (2, 0)
    assert _streams(archives) == {"third", "across", "orphan"}
    assert {row["received_at"].month for row in archives.rows("journal")} == {10}
    assert {table: archives.rows(table) for table in MONEY} == money
    assert "journal_2026_09" not in {row["relname"] for row in archives.rows("pg_class")}
    [view] = [each for each in _list(archives) if each[0] == "2026-09"]
    assert view == ("2026-09", 2, 4, NOW)


def _list(archives: Archives) -> list[tuple[object, ...]]:
    with transaction(archives.books.service.engine) as connection:
        found = list_archives(connection)
    return [(each.archive_id, each.stream_count, each.request_count, each.completed_at) for each in found]


def test_the_audit_derives_every_bill_from_the_database_and_the_archives(archives: Archives) -> None:
    archives.move("2026-09")
    archives.move("2026-10")
    folders = [archives.folder("2026-09"), archives.folder("2026-10")]
    assert archives.books.audit() == []
    assert archives.books.audit(archives=folders) == []
    with transaction(archives.owner) as connection:
        connection.execute(text("UPDATE charges SET output_tokens = 38 WHERE stream_id = 'second'"))
    found = archives.books.audit(archives=folders)
    assert ("charges", "acme/second") in {(table, key) for table, key, _ in found}
    with transaction(archives.owner) as connection:
        connection.execute(text("UPDATE charges SET output_tokens = 37 WHERE stream_id = 'second'"))


def test_restored_archives_leave_every_row_as_it_was(archives: Archives) -> None:
    tables = ("streams", *MONEY)
    before = {table: archives.rows(table) for table in tables}
    requests = [{**row, "body": None} for row in archives.rows("journal")]
    archives.move("2026-09")
    archives.move("2026-10")
    assert archives.restore("2026-10") == Restored(streams=2, late=0, requests=2)
    assert archives.restore("2026-09") == Restored(streams=2, late=0, requests=4)
    assert {table: archives.rows(table) for table in tables} == before
    assert [{**row, "body": None} for row in archives.rows("journal")] == requests
    assert archives.rows("archives") == archives.rows("archived_streams") == []
    assert archives.books.audit() == []


def test_a_late_event_of_an_archived_stream_is_never_billed_as_a_new_stream(archives: Archives) -> None:
    archives.move("2026-09")
    books = archives.books
    late = end("first", 500, time=SEPTEMBER + timedelta(seconds=9), usage_source=UsageSource.PROVIDER)
    books.receive([late], at=NOW)
    assert books.finalize(now=NOW).charged == 0
    stream = books.stream("first").stream
    assert stream.state is State.FAILED
    assert books.audit() == books.audit(archives=[archives.folder("2026-09")]) == []
    assert stream.state_reason == (
        "an event arrived for an archived stream: its other facts are in the archive 2026-09"
    )
    assert archives.restore("2026-09", "acme", "first") == Restored(streams=1, late=1, requests=0)
    books.finalize(now=NOW)
    view = books.stream("first")
    assert view.stream.state is State.FINALIZED
    assert [each.period for each in view.adjustments] == ["2026-11"]
    assert view.newest_bill is not None
    assert view.newest_bill.usage.output_tokens == 500
    assert books.audit(archives=[archives.folder("2026-09")]) == []


def test_a_duplicate_of_an_archived_event_changes_no_bill(archives: Archives) -> None:
    archives.move("2026-09")
    books = archives.books
    booked = archives.rows("charges"), archives.rows("adjustments")
    books.receive([end("second", time=SEPTEMBER + timedelta(seconds=4))], at=NOW)
    books.finalize(now=NOW)
    archives.restore("2026-09", "acme", "second")
    books.finalize(now=NOW)
    assert (archives.rows("charges"), archives.rows("adjustments")) == booked
    assert books.stream("second").stream.state is State.FINALIZED


def test_exports_of_an_archived_month_are_those_of_before(archives: Archives) -> None:
    before = _export(archives)
    assert "first" in str(before)
    archives.move("2026-09")
    assert _export(archives) == before


def _export(archives: Archives) -> list[object]:
    with transaction(archives.books.service.engine) as connection:
        months = list(iterate_months(connection, period=BillingPeriod.parse("2026-09"), customer_id=None))
        return [line for batch in copy_entries(connection, months) for line in batch]


def test_a_stream_that_is_asked_for_says_where_its_facts_are(archives: Archives) -> None:
    archives.move("2026-09")
    with transaction(archives.books.service.engine) as connection:
        with pytest.raises(StreamArchivedError, match=r"archive 2026-09.*--stream acme/first"):
            get_stream(connection, customer_id="acme", stream_id="first")
        assert get_stream(connection, customer_id="acme", stream_id="never") is None


@pytest.mark.parametrize(
    ("month", "says"),
    [
        ("2026-10", "2026-09 is not archived"),
        ("2026-11", "2026-11 has not ended"),
        ("2026-01", "the journal has no 2026-01"),
    ],
)
def test_months_go_from_the_oldest_and_only_what_has_ended(archives: Archives, month: str, says: str) -> None:
    with pytest.raises(ArchiveRefusedError, match=says):
        archives.write(month)
    assert not archives.folder(month).exists()


def test_a_month_that_is_open_for_a_customer_is_refused(archives: Archives) -> None:
    with transaction(archives.owner) as connection:
        connection.execute(text("UPDATE customers SET closed_through = '2026-08'"))
    with pytest.raises(ArchiveRefusedError, match="not closed for 1 customers, such as acme"):
        archives.write("2026-09")
    with transaction(archives.owner) as connection:
        connection.execute(text("UPDATE customers SET closed_through = '2026-10'"))


def test_an_existing_folder_and_a_second_archive_of_a_month_are_refused(
    archives: Archives, tmp_path: Path
) -> None:
    archives.write("2026-09")
    with pytest.raises(FolderError, match="exists"):
        archives.write("2026-09")
    archives.remove("2026-09")
    with pytest.raises(ArchiveRefusedError, match="archived already"):
        archives.write("2026-09", folder=tmp_path / "again")


def test_files_that_were_changed_remove_and_restore_nothing(archives: Archives) -> None:
    archives.write("2026-09")
    file = archives.folder("2026-09") / "streams.parquet"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:100] + b"x" + whole[101:]):
        file.write_bytes(damaged)
        with pytest.raises(DamagedArchiveError, match=r"streams.parquet was changed"):
            archives.remove("2026-09")
    file.unlink()
    with pytest.raises(DamagedArchiveError, match=r"streams.parquet is missing"):
        archives.remove("2026-09")
    assert _streams(archives) == {"first", "second", "third", "across", "orphan"}


@pytest.mark.parametrize("billed_again", [False, True])
def test_a_stream_that_changed_since_it_was_written_stays(archives: Archives, billed_again: bool) -> None:
    archives.write("2026-09")
    late = end("first", 90, time=SEPTEMBER + timedelta(seconds=9), usage_source=UsageSource.PROVIDER)
    archives.books.receive([late], at=NOW)
    if billed_again:
        archives.books.finalize(now=NOW)
    removed = archives.remove("2026-09")
    assert (removed.streams, removed.changed) == (1, 1)
    archives.books.finalize(now=NOW)
    assert [each.period for each in archives.books.stream("first").adjustments] == ["2026-11"]
    assert archives.books.audit(archives=[archives.folder("2026-09")]) == []


def test_an_interrupted_removal_goes_on_where_it_was(archives: Archives, monkeypatch: pytest.MonkeyPatch) -> None:
    archives.write("2026-09")
    monkeypatch.setattr("metering.archive.remove_archived.complete_removal", _stop)
    with pytest.raises(KeyboardInterrupt):
        archives.remove("2026-09")
    assert _list(archives) == [("2026-09", 2, 4, None)]
    assert archives.books.audit(archives=[archives.folder("2026-09")]) == []
    monkeypatch.undo()
    removed = archives.remove("2026-09")
    assert (removed.streams, removed.changed) == (0, 2)
    assert _list(archives) == [("2026-09", 2, 4, NOW)]
    assert archives.books.audit(archives=[archives.folder("2026-09")]) == []


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_stream_is_restored_once_and_only_from_its_archive(archives: Archives) -> None:
    archives.move("2026-09")
    for stream_id in ("third", "never"):
        with pytest.raises(NotArchivedError, match=stream_id):
            archives.restore("2026-09", "acme", stream_id)
    archives.restore("2026-09", "acme", "first")
    with pytest.raises(NotArchivedError, match="in the database already"):
        archives.restore("2026-09", "acme", "first")
    assert archives.restore("2026-09") == Restored(streams=1, late=0, requests=4)


def test_a_stream_across_two_months_goes_with_the_second(archives: Archives) -> None:
    archives.move("2026-09")
    assert "across" in _streams(archives)
    assert archives.move("2026-10").streams == 2
    assert _streams(archives) == {"orphan"}


def test_a_month_with_archived_streams_is_not_rerated(archives: Archives) -> None:
    archives.move("2026-09")
    terms: dict[str, Any] = {
        "engine": archives.books.service.engine,
        "price_books": archives.books.service.price_books,
        "now": NOW,
        "book": True,
    }
    with pytest.raises(StreamArchivedError, match="2026-09"):
        rerate(**terms, where=BillFilter(period=BillingPeriod.parse("2026-09")))
    assert rerate(**terms, where=BillFilter(period=BillingPeriod.parse("2026-10"))) == []


def test_a_stream_with_a_late_event_is_told_in_the_backlog_with_what_to_do(archives: Archives) -> None:
    archives.move("2026-09")
    archives.books.receive([end("first", 90, time=SEPTEMBER + timedelta(seconds=9))], at=NOW)
    archives.books.finalize(now=NOW)
    with transaction(archives.books.service.engine) as connection:
        item = get_backlog_item(connection, customer_id="acme", stream_id="first")
    assert item is not None
    assert item.actions == ()
    assert item.fix == (
        "`metering archive restore FOLDER --stream acme/first`, then the stream is billed again by itself"
    )


def test_a_stream_of_a_month_that_is_open_in_its_zone_stays(archives: Archives) -> None:
    """Its last event came in September of UTC, when October had begun in Tokyo."""
    books, at = archives.books, datetime(2026, 9, 30, 20, tzinfo=UTC)
    details = CustomerDetails(time_zone="Asia/Tokyo")
    put_customer(engine=books.service.engine, customer_id="tokyo", details=details, now=SEPTEMBER)
    late = {"customer_id": "tokyo", "time": at}
    books.receive([start("morning", **late), end("morning", **late)], at=at)
    books.finalize(now=BOOKED)
    with transaction(archives.owner) as connection:
        connection.execute(text("UPDATE customers SET closed_through = '2026-09' WHERE customer_id = 'tokyo'"))
    archives.move("2026-09")
    assert "morning" in _streams(archives)
    with transaction(archives.owner) as connection:
        connection.execute(text("UPDATE customers SET closed_through = '' WHERE customer_id = 'tokyo'"))


def test_a_journal_that_is_being_read_is_removed_when_asked_again(archives: Archives) -> None:
    archives.write("2026-09")
    with transaction(archives.books.service.engine) as reading:
        reading.execute(text("SELECT FROM journal"))
        with pytest.raises(JournalInUseError, match="run `metering archive remove` again"):
            archives.remove("2026-09")
    assert "journal_2026_09" in {row["relname"] for row in archives.rows("pg_class")}
    archives.remove("2026-09")
    assert "journal_2026_09" not in {row["relname"] for row in archives.rows("pg_class")}
