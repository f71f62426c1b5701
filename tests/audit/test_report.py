"""A report counts all differences, and keeps the first ones."""

from metering.audit.difference import Difference
from metering.audit.report import MAX_SHOWN, AuditReport


def differences(count: int, table: str) -> list[Difference]:
    return [Difference(table, str(number), "differs") for number in range(count)]


def test_parts_add_up_and_the_first_differences_are_kept() -> None:
    report = AuditReport()
    for table, count in (("streams", MAX_SHOWN - 1), ("charges", 5), ("journal", 3)):
        part = AuditReport(requests=1, events=2, streams=3, pending=4, before_journal=5)
        part.add(differences(count, table))
        report.include(part)
    assert (report.requests, report.events, report.streams) == (3, 6, 9)
    assert (report.pending, report.before_journal) == (12, 15)
    assert report.difference_count == MAX_SHOWN + 7
    assert [each.table for each in report.differences].count("charges") == 1
    assert len(report.differences) == MAX_SHOWN


def test_a_part_keeps_no_more_than_is_shown() -> None:
    report = AuditReport()
    report.add(differences(MAX_SHOWN + 10, "streams"))
    assert (report.difference_count, len(report.differences)) == (MAX_SHOWN + 10, MAX_SHOWN)
