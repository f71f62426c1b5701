"""Faults in what makes a bill: ingest, the join, settlement, retries, prices and rating."""

from tests.planted.fault import Fault

STREAMS = (
    Fault(
        "the later of two contradicting ends counts",
        "metering/streams/stream.py",
        "first = min(a, b, key=_precedence)",
        "first = max(a, b, key=_precedence)",
        ("tests/streams/test_stream.py::test_equally_believed_ends_that_differ_conflict_and_the_earlier_counts",),
    ),
    Fault(
        "an estimate overrules the provider's count",
        "metering/streams/stream.py",
        "return a if a.rank < b.rank else b",
        "return a if a.rank > b.rank else b",
        ("tests/streams/test_stream.py::test_an_end_that_is_believed_more_wins_and_contradicts_no_other",),
    ),
    Fault(
        "a provider's report of a cancelled stream without output is dropped",
        "metering/streams/stream.py",
        "if not completed and not (source is UsageSource.PROVIDER and reported != NO_USAGE):",
        "if not completed:",
        (
            "tests/streams/test_stream.py"
            "::test_a_stream_that_delivered_nothing_is_billed_nothing_unless_its_provider_reports_usage",
        ),
    ),
    Fault(
        "the stored join breaks ties otherwise than the pure one",
        "metering/streams/store/streams.py",
        "{table}.{time}, {table}.{name}_fingerprint, COALESCE(",
        "{table}.{time}, -{table}.{name}_fingerprint, COALESCE(",
        ("tests/streams/test_join_in_sql.py::test_the_upsert_is_the_same_join_in_sql",),
    ),
    Fault(
        "a duplicate wakes a stream that is booked",
        "metering/streams/store/streams.py",
        'WHERE {_CHANGES_ROW} OR {_CAME_FIRST}\n"""',
        '"""',
        ("tests/streams/test_join_in_sql.py::test_facts_that_are_known_already_write_nothing",),
    ),
    Fault(
        "counters of a late event replace higher ones",
        "metering/streams/store/streams.py",
        '{", ".join(f"{name} = GREATEST(s.{name}, excluded.{name})" for name in _MAXIMA)},',
        '{", ".join(f"{name} = COALESCE(excluded.{name}, s.{name})" for name in _MAXIMA)},',
        ("tests/streams/test_join_in_sql.py::test_the_upsert_is_the_same_join_in_sql",),
    ),
    Fault(
        "a stream that goes on stays interrupted",
        "metering/ledger/finalize_batch.py",
        "        elif stream.state in NEEDS_PERSON:\n",
        "        elif False:\n",
        (
            "tests/ledger/test_retries.py"
            "::test_a_stream_in_the_backlog_that_goes_on_and_completes_was_not_interrupted",
        ),
    ),
    Fault(
        "a duplicate that came first is not found by its stream",
        "metering/streams/store/streams.py",
        " OR {_CAME_FIRST}\n",
        "\n",
        (
            "tests/audit/test_arrivals.py::test_a_duplicate_by_a_process_whose_clock_is_behind_is_found_and_changes_nothing",
        ),
    ),
    Fault(
        "due streams are claimed without a lock",
        "metering/streams/store/due.py",
        "LIMIT :limit\n        FOR UPDATE SKIP LOCKED\n",
        "LIMIT :limit\n",
        ("tests/ledger/test_finalize_due.py::test_several_workers_at_once_book_every_stream_exactly_once",),
    ),
    Fault(
        "an upsert locks its rows in any order",
        "metering/streams/store/streams.py",
        'ORDER BY customer_id COLLATE "C", stream_id COLLATE "C"\nON CONFLICT (customer_id, stream_id) DO UPDATE',
        "ORDER BY random()\nON CONFLICT (customer_id, stream_id) DO UPDATE",
        ("tests/streams/test_many_writers.py",),
    ),
    Fault(
        "requests are answered before their commit",
        "metering/streams/ingest/lane.py",
        "            await self._write_with_retries(group)\n",
        "            _succeed(group)\n            await self._write_with_retries(group)\n",
        ("tests/streams/test_writer.py::test_without_a_database_requests_fail_and_the_writer_goes_on",),
    ),
    Fault(
        "one poisoned request fails its neighbours",
        "metering/streams/ingest/lane.py",
        "if len(group) > 1:\n            for submission in group:",
        "if len(group) > 1_000:\n            for submission in group:",
        ("tests/streams/test_writer.py::test_one_poisoned_request_does_not_fail_its_neighbours",),
    ),
    Fault(
        "a silent stream is swept an instant late",
        "metering/streams/settlement.py",
        "now >= last_received_at + waits.abandon_after",
        "now > last_received_at + waits.abandon_after",
        (
            "tests/streams/test_settlement.py"
            "::test_a_silent_stream_is_open_until_its_time_is_up_and_then_abandoned",
        ),
    ),
    Fault(
        "contradicting starts are billed",
        "metering/streams/settlement.py",
        "    if facts.conflicting:\n",
        "    if facts.conflicting and facts.start is None:\n",
        ("tests/streams/test_settlement.py::test_two_starts_that_contradict_each_other_need_a_person",),
    ),
    Fault(
        "a price that came later changes what is booked",
        "metering/streams/billing.py",
        "terms = _booked_terms(booked, start, answered, prices) or _terms(start, answered, prices)",
        "terms = _terms(start, answered, prices)",
        ("tests/streams/test_settlement.py::test_a_card_that_was_added_later_does_not_alter_what_is_booked",),
    ),
    Fault(
        "the rate of the time of day is chosen by the end",
        "metering/streams/billing.py",
        "priced = _priced(usage.usage, end, answered, terms, prices.rates)",
        "answered_late = _Answered(answered.provider, answered.model, answered.service_tier, facts.ended_at)\n"
        "        priced = _priced(usage.usage, end, answered_late, terms, prices.rates)",
        (
            "tests/streams/test_settlement.py"
            "::test_the_rate_of_the_time_of_day_is_chosen_by_the_start_and_by_no_later_event",
        ),
    ),
    Fault(
        "a customer's agreed price is marked up",
        "metering/streams/billing.py",
        "percent = ZERO if is_own else prices.markups.find(",
        "percent = prices.markups.find(",
        ("tests/streams/test_settlement.py::test_a_customers_own_price_is_not_marked_up",),
    ),
    Fault(
        "completed streams are waived as cancelled ones are",
        "metering/prices/cancel_policies.py",
        "return self is CancelPolicy.ZERO and outcome is not Outcome.COMPLETED",
        "return self is CancelPolicy.ZERO",
        ("tests/prices/test_cancel_policies.py::test_only_zero_waives_and_never_what_completed",),
    ),
    Fault(
        "a repeat counts as a retry however late it comes",
        "metering/streams/store/retries.py",
        "AND i.ended_at >= a.started_at - CAST(:window AS interval)\n    ORDER BY i.ended_at DESC",
        "AND CAST(:window AS interval) IS NOT NULL\n    ORDER BY i.ended_at DESC",
        ("tests/ledger/test_retries.py::test_only_a_start_shortly_after_the_early_end_is_a_retry",),
    ),
    Fault(
        "on Citus a stream that is no longer due is finalized again",
        "metering/streams/store/streams.py",
        "WHERE s.due_at <= :now ORDER BY",
        "ORDER BY",
        ("tests/streams/test_lanes.py::test_a_stream_that_is_no_longer_due_once_it_is_locked_is_left_alone",),
    ),
    Fault(
        "retries are looked up while a booking that could not see the interruption goes on",
        "metering/streams/store/retries.py",
        '_to_link("barrier <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint")',
        '_to_link("barrier IS NOT NULL")',
        (
            "tests/ledger/test_retries.py"
            "::test_an_interruption_is_not_looked_up_while_a_transaction_that_could_not_see_it_is_under_way",
        ),
    ),
    Fault(
        "a size tier begins at its threshold",
        "metering/prices/rates.py",
        "if input_tokens > above:",
        "if input_tokens >= above:",
        ("tests/prices/test_rating.py::test_a_tier_prices_the_whole_request_once_its_size_is_exceeded",),
    ),
    Fault(
        "a window contains its end",
        "metering/prices/windows.py",
        "return self.start <= clock < self.end and",
        "return self.start <= clock <= self.end and",
        ("tests/prices/test_windows.py::test_a_window_on_workdays_is_half_open_and_closed_at_the_weekend",),
    ),
    Fault(
        "the night of a window belongs to the day on which it ends",
        "metering/prices/windows.py",
        "clock < self.end and self._opens_on(today - 1)",
        "clock < self.end and self._opens_on(today)",
        ("tests/prices/test_windows.py::test_a_window_that_spans_midnight_belongs_to_the_day_on_which_it_opens",),
    ),
    Fault(
        "input that was written to the cache is charged twice",
        "metering/events/nesting.py",
        "(rest := entered - (read or 0) - (written or 0))",
        "(rest := entered - (read or 0))",
        ("tests/events/test_nesting.py::test_the_parts_of_a_known_whole_add_up_to_it",),
    ),
    Fault(
        "each line is rounded",
        "metering/core/money.py",
        "return _scaleb(_multiply(Decimal(quantity), usd_per_million), _CENTS_PER_UNIT_EXPONENT)",
        "return _scaleb(_multiply(Decimal(quantity), usd_per_million), _CENTS_PER_UNIT_EXPONENT)"
        '.quantize(Decimal("0.000001"))',
        ("tests/prices/test_rating.py::test_an_amount_is_exactly_quantity_times_rate",),
    ),
    Fault(
        "sums have the 28 digits of the default context",
        "metering/core/money.py",
        "return reduce(EXACT.add, amounts, ZERO)",
        "return sum(amounts, ZERO)",
        ("tests/streams/test_bill.py::test_the_last_digit_of_a_small_line_is_kept_beside_a_huge_one",),
    ),
    Fault(
        "a worker's statement on a silent link waits as long as one that closes a month",
        "workers/deadlines.py",
        "service.engine if before else service.quick_engine",
        "service.engine",
        ("tests/workers/test_slow_work.py::test_work_has_the_longer_deadline_until_it_is_fast_again",),
    ),
    Fault(
        "a batch that is slower than its deadline is tried as it is, for ever",
        "workers/finalizing.py",
        "limit=attempt.share_of(service.settings.finalize_batch),\n                        newest_first",
        "limit=service.settings.finalize_batch,\n                        newest_first",
        (
            "tests/workers/test_slow_work.py::test_a_batch_that_takes_longer_than_any_deadline_is_halved_until_it_does_not",
        ),
    ),
    Fault(
        "a heartbeat whose commit was not answered is counted twice",
        "metering/server/store.py",
        "    WHERE w.seen_at < excluded.seen_at\n",
        "",
        ("tests/workers/test_silent_links.py::test_a_heartbeat_whose_commit_was_not_answered_is_counted_once",),
    ),
    Fault(
        "large requests never rest",
        "metering/streams/ingest/writer.py",
        "CommitLane(terms, makes_room_for=self._small)",
        "CommitLane(terms)",
        ("tests/streams/test_writer.py::test_large_requests_rest_while_small_ones_are_committed",),
    ),
)
