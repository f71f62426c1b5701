"""Faults in archives, in sums by quarters of hours, and in what is removed past its retention."""

from tests.planted.fault import Fault

_ARCHIVE = "tests/archive/test_archive.py::"
_QUARTERS = "tests/totals/test_quarters.py::"

ARCHIVE = (
    Fault(
        "a late event of an archived stream is billed as a new stream",
        "metering/ledger/finalize_batch.py",
        "archived = find_archived(connection, [_key(each) for each in claimed if each.revision is None])",
        "archived = find_archived(connection, [])",
        (_ARCHIVE + "test_a_late_event_of_an_archived_stream_is_never_billed_as_a_new_stream",),
    ),
    Fault(
        "a stream that changed since it was archived is removed with its new facts",
        "metering/archive/store.py",
        "      AND s.last_received_at = r.last_received_at AND s.revision = r.revision\n",
        "",
        (_ARCHIVE + "test_a_stream_that_changed_since_it_was_written_stays",),
    ),
    Fault(
        "a stream is archived before its month is closed",
        "metering/archive/queries.py",
        "      AND c.period <= k.closed_through\n",
        "",
        (_ARCHIVE + "test_a_stream_of_a_month_that_is_open_in_its_zone_stays",),
    ),
    Fault(
        "a restored stream forgets what arrived meanwhile",
        "metering/archive/restore_archive.py",
        "    for each in late:\n        _join(connection, each, abandon_after)\n",
        "",
        (_ARCHIVE + "test_a_late_event_of_an_archived_stream_is_never_billed_as_a_new_stream",),
    ),
    Fault(
        "exports of an archived month lose the tags",
        "metering/exports/queries/charges.py",
        "coalesce(s.start_data -> 'tags', archived.tags)",
        "coalesce(s.start_data -> 'tags', NULL)",
        (_ARCHIVE + "test_exports_of_an_archived_month_are_those_of_before",),
    ),
    Fault(
        "an archive is used whose files were changed",
        "metering/archive/manifest.py",
        "        if found[name] != expected:\n",
        "        if found[name] is None:\n",
        (_ARCHIVE + "test_files_that_were_changed_remove_and_restore_nothing",),
    ),
    Fault(
        "the audit trusts the facts of archived streams",
        "metering/audit/tasks.py",
        "        archives = map(_archive_name, self.plan.folded_archives)\n",
        "        archives = map(_archive_name, ())\n",
        (_ARCHIVE + "test_the_audit_derives_every_bill_from_the_database_and_the_archives",),
    ),
    Fault(
        "a quarter of an hour is rounded",
        "metering/ledger/store/rollups.py",
        "utc.minute // QUARTER_MINUTES",
        "min(3, round(utc.minute / QUARTER_MINUTES))",
        (_QUARTERS + "test_days_are_summed_without_a_single_bill",),
    ),
    Fault(
        "an hour without quarters is taken for one with quarters",
        "metering/totals/queries/quarters.py",
        """UNION SELECT hour FROM totals_pending WHERE quarter IS NULL AND""",
        """UNION SELECT hour FROM totals_pending WHERE quarter = 4 AND""",
        (_QUARTERS + "test_hours_that_an_earlier_release_booked_are_read_from_their_bills",),
    ),
    Fault(
        "sums of an earlier release are rolled up as if they had quarters",
        "metering/ledger/store/rollups.py",
        "CASE WHEN quarter IS NULL THEN hour ELSE hour + interval '1 microsecond' END",
        "hour + interval '1 microsecond'",
        (_QUARTERS + "test_hours_that_an_earlier_release_booked_are_read_from_their_bills",),
    ),
    Fault(
        "open holds are removed past their retention",
        "metering/budgets/store/holds.py",
        "SELECT customer_id, stream_id FROM holds WHERE closed_at < :before ORDER BY closed_at LIMIT :limit",
        "SELECT customer_id, stream_id FROM holds WHERE made_at < :before ORDER BY closed_at LIMIT :limit",
        (
            "tests/budgets/test_prune_holds.py"
            "::test_only_closed_holds_past_their_retention_are_removed_and_nothing_else_changes",
        ),
    ),
)
