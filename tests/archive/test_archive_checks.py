"""Archives prove themselves: with the database, from their files alone, and to other tools."""

import json

import pytest
from msgspec.structs import replace
from pyarrow import parquet
from sqlalchemy import text

from metering.archive.manifest import checksums, read_manifest, write_manifest
from metering.archive.read_archive import ArchivesMissingError
from metering.audit.verify_archive import verify_archive
from metering.db.engine import transaction
from tests.builders.archives import Archives


def test_a_corrupted_mark_of_an_archived_stream_is_found(archives: Archives) -> None:
    archives.move("2026-09")
    with transaction(archives.owner) as connection:
        connection.execute(text("DELETE FROM archived_streams WHERE stream_id = 'first'"))
    assert archives.books.audit() == [
        ("charges", "acme/first", "the stream is neither stored nor archived"),
        ("archives", "2026-09", "stream_count: stored 2, derived 1"),
    ]
    with transaction(archives.owner) as connection:
        connection.execute(
            text(
                "INSERT INTO archived_streams (customer_id, stream_id, archive_id)"
                " VALUES ('acme', 'first', '2026-09'), ('acme', 'x', '2026-09')"
            )
        )
    assert (
        "archived_streams",
        "acme/x",
        "the stream is archived, and no charge is booked",
    ) in archives.books.audit()
    with transaction(archives.owner) as connection:
        connection.execute(text("DELETE FROM archived_streams WHERE stream_id = 'x'"))


def test_the_folders_of_all_archives_are_needed_to_audit_them(archives: Archives) -> None:
    archives.write("2026-09")
    with pytest.raises(ArchivesMissingError, match="nothing of 2026-09 was removed"):
        archives.books.audit(archives=[archives.folder("2026-09")])
    archives.remove("2026-09")
    archives.move("2026-10")
    with pytest.raises(ArchivesMissingError, match="2026-09 too"):
        archives.books.audit(archives=[archives.folder("2026-10")])


def test_an_archive_is_verified_from_its_files_alone(archives: Archives) -> None:
    archives.move("2026-09")
    archives.move("2026-10")
    for month in ("2026-09", "2026-10"):
        assert [check.fault for check in verify_archive(archives.folder(month))] == [None] * 4
    file = archives.folder("2026-09") / "streams.parquet"
    table = parquet.read_table(file)
    place = table.schema.get_field_index("delivered_output_tokens")
    changed = table.set_column(place, table.schema.field(place), [[21, 20]])
    parquet.write_table(changed, file)
    assert "streams.parquet was changed" in (verify_archive(archives.folder("2026-09"))[0].fault or "")
    manifest = read_manifest(archives.folder("2026-09"))
    (archives.folder("2026-09") / "manifest.json").unlink()
    write_manifest(replace(manifest, files=checksums(archives.folder("2026-09"))), archives.folder("2026-09"))
    assert [check.fault for check in verify_archive(archives.folder("2026-09"))] == [
        None,
        None,
        None,
        "acme/first: delivered.output_tokens: stored 21, derived 20",
    ]


def test_other_tools_read_the_events_as_they_were_sent(archives: Archives) -> None:
    archives.write("2026-09")
    table = parquet.read_table(archives.folder("2026-09") / "journal.parquet", columns=["received_at", "body"])
    events = [event for body in table.column("body").to_pylist() for event in json.loads(body)]
    assert [event["type"] for event in events if event["data"]["stream_id"] == "first"] == [
        "stream-start",
        "token-delivered",
        "stream-end",
    ]
