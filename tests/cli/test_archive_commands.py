"""`metering archive`, as an operator runs it."""

import json
from pathlib import Path

import pytest

from tests.builders import Books
from tests.builders.archives import file_two_months
from tests.command_line import CommandLine


@pytest.fixture
def metering(books: Books) -> CommandLine:
    file_two_months(books)
    return CommandLine(books.database)


def test_a_month_is_written_removed_audited_and_restored(metering: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "2026-09"
    written = metering.run("archive", "write", "2026-09", "--out", str(folder))
    assert written.returncode == 0, written.stderr
    assert "2 streams and 4 requests with 8 events" in written.stderr
    assert f"metering archive remove {folder}" in written.stderr

    removed = metering.run("archive", "remove", str(folder), "--json")
    assert removed.returncode == 0, removed.stderr
    facts = json.loads(removed.stdout)
    assert (facts["removed_streams"], facts["changed_streams"], facts["archive_id"]) == (2, 0, "2026-09")

    shown = metering.run("streams", "show", "acme", "first")
    assert shown.returncode == 1
    assert "in the archive 2026-09" in shown.stderr

    alone = metering.run("audit")
    assert alone.returncode == 0
    assert "2 streams are archived" in alone.stderr
    whole = metering.run("audit", "--archive", str(folder), "--json")
    assert whole.returncode == 0, whole.stdout
    assert json.loads(whole.stdout)["streams"] == 5

    [listed] = json.loads(metering.run("archive", "list", "--json").stdout)
    assert (listed["archive_id"], listed["streams"], listed["requests"]) == ("2026-09", 2, 4)

    one = metering.run("archive", "restore", str(folder), "--stream", "acme/first")
    assert one.returncode == 0, one.stderr
    assert "1 stream and 0 requests are restored" in one.stderr
    rest = metering.run("archive", "restore", str(folder), "--json")
    assert json.loads(rest.stdout) == {"streams": 1, "late": 0, "requests": 4}
    assert "nothing is archived" in metering.run("archive", "list").stdout
    log = json.loads(metering.run("audit-log", "list", "--json").stdout)
    assert [each["what"] for each in log if each["what"].startswith("archive")] == [
        "archive restore",
        "archive restore",
        "archive remove",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("write", "2026-10", "--out", "{}"), "2026-09 is not archived: archive the oldest month first"),
        (("write", "2026-99", "--out", "{}"), "expected a month such as 2026-10"),
        (("remove", "/tmp"), "/tmp is no archive: manifest.json"),
        (("restore", "/tmp", "--stream", "acme"), "expected customer/stream, such as acme/01J9"),
    ],
    ids=["not the oldest", "no month", "no archive", "no stream"],
)
def test_what_cannot_be_done_is_said(
    metering: CommandLine, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    refused = metering.run("archive", *(each.format(tmp_path / "new") for each in arguments))
    assert refused.returncode != 0
    assert says in " ".join(refused.stderr.replace("│", " ").split())
    assert "Traceback" not in refused.stderr
