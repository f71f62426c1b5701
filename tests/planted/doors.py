"""Faults in access, corrections, alerts, exports, the emitter and the gateway."""

from tests.planted.fault import Fault

DOORS = (
    Fault(
        "a key is remembered for a quarter of an hour",
        "metering/api/auth.py",
        "CACHE_SECONDS = 5.0",
        "CACHE_SECONDS = 900.0",
        ("tests/api/test_auth.py::test_a_key_is_remembered_for_at_most_five_seconds_as_the_docs_promise",),
    ),
    Fault(
        "JSON bodies are read as Python reads JSON",
        "metering/api/routes.py",
        "return with_strict_json(super().get_route_handler())",
        "return super().get_route_handler()",
        ("tests/api/test_odd_values.py::test_odd_json_is_refused_by_every_route_that_reads_json",),
    ),
    Fault(
        "any key with a scope has every scope",
        "metering/api/auth.py",
        "if scope not in key.scopes:",
        "if not key.scopes:",
        ("tests/api/test_access.py::test_each_key_gets_what_its_scopes_allow_and_nothing_else",),
    ),
    Fault(
        "a key that is bound to a customer reads others",
        "metering/api/auth.py",
        'raise ForbiddenError(f"this key reads only customer {key.customer_id!r}")',
        "return customer_id",
        ("tests/api/test_access.py::test_a_bound_key_gets_nothing_of_another_customer",),
    ),
    Fault(
        "a revoked key is accepted",
        "metering/access/store/keys.py",
        "WHERE key_id = ANY(:key_ids) AND revoked_at IS NULL AND",
        "WHERE key_id = ANY(:key_ids) AND",
        ("tests/api/test_auth.py::test_a_revoked_key_is_refused_within_five_seconds_by_every_process",),
    ),
    Fault(
        "a bound key may do what concerns everybody",
        "metering/access/scopes.py",
        "return scopes if customer_id is None else scopes & OF_ONE_CUSTOMER",
        "return scopes",
        ("tests/access/test_scopes.py::test_a_key_of_one_customer_changes_nothing_of_the_deployment",),
    ),
    Fault(
        "a repeated request books a second credit",
        "metering/corrections/adjust_manually.py",
        "        if earlier is not None:\n",
        "        if earlier is not None and usd_cents > 0:\n",
        ("tests/api/test_adjustments.py::test_a_credit_is_booked_once_however_often_it_is_asked_for",),
    ),
    Fault(
        "a decision is recorded although its stream has changed",
        "metering/corrections/resolve_stream.py",
        "if version is not None and price_books is not None and stream.state in NEEDS_PERSON:",
        "if version is None and price_books is not None and stream.state in NEEDS_PERSON:",
        (
            "tests/dashboard/test_settling.py::test_a_confirmation_is_refused_with_what_changed_and_shows_what_is_there_now",
        ),
    ),
    Fault(
        "an idempotency key does not know its amount",
        "metering/corrections/adjust_manually.py",
        "kind.value, cents_text(usd_cents), reason)",
        "kind.value, reason)",
        ("tests/api/test_adjustments.py::test_a_key_that_was_used_for_another_request_is_refused",),
    ),
    Fault(
        "an occurrence that another worker stored is sent again",
        "metering/alerts/store/alerts.py",
        "return [each for each in occurrences if each.occurrence_id in new]",
        "return [each for each in occurrences if new is not None]",
        ("tests/alerts/test_evaluation.py::test_two_that_find_the_same_at_once_keep_it_once",),
    ),
    Fault(
        "a budget that is used up to the last digit is not reached",
        "metering/alerts/queries/crossings.py",
        "f.usd_cents * 100 >= t.threshold * a.budget_usd_cents",
        "f.usd_cents * 100 > t.threshold * a.budget_usd_cents",
        (
            "tests/alerts/test_spend.py::test_a_threshold_occurs_when_it_is_reached_to_the_last_digit_and_not_before",
        ),
    ),
    Fault(
        "a limit that is spent to the last digit is not reached",
        "metering/alerts/queries/crossings.py",
        "f.usd_cents * 100 >= t.threshold * f.limit_usd_cents",
        "f.usd_cents * 100 > t.threshold * f.limit_usd_cents",
        (
            "tests/alerts/test_budget_alerts.py::test_a_threshold_fires_when_it_is_reached_to_the_last_digit_and_not_before",
            "tests/alerts/test_budget_exhausted.py::test_the_message_is_received_once_when_the_last_digit_of_the_limit_is_spent",
        ),
    ),
    Fault(
        "expired money is a balance until its expiry is booked",
        "metering/alerts/queries/budget_figures.py",
        "CASE WHEN g.expires_at <= :now THEN 0 ELSE g.balance_usd_cents END",
        "g.balance_usd_cents",
        (
            "tests/alerts/test_balance_below.py::test_expired_money_is_no_balance_though_nothing_has_booked_its_expiry",
        ),
    ),
    Fault(
        "a top-up does not arm an alert again",
        "metering/alerts/queries/budget_figures.py",
        "concat('grants/', s.unlimited_count)",
        "concat('grants/', s.unlimited_count > 0)",
        ("tests/alerts/test_balance_below.py::test_a_top_up_arms_it_again",),
    ),
    Fault(
        "an old occurrence goes although its window has no end",
        "metering/alerts/store/alerts.py",
        "            o.window_has_end\n",
        "            true\n",
        (
            "tests/alerts/test_budget_alerts.py::test_a_budget_for_all_time_does_not_fire_twice_however_old_its_occurrence_is",
            "tests/alerts/test_balance_below.py"
            "::test_it_does_not_fire_twice_however_old_its_occurrence_is_and_what_is_superseded_goes",
        ),
    ),
    Fault(
        "a second group of refusals in a minute replaces the count of the first",
        "metering/budgets/store/refusals.py",
        "refusal_count = h.refusal_count + excluded.refusal_count",
        "refusal_count = excluded.refusal_count",
        (
            "tests/alerts/test_hold_refused.py::test_each_budget_and_each_minute_has_a_message_with_its_first_refusal",
        ),
    ),
    Fault(
        "an export loses the last rows of its last month",
        "metering/exports/month_rows.py",
        "    yield open_months.close_before(len(months))\n",
        "    open_months.close_before(len(months))\n",
        (
            "tests/exports/test_exports_sum_to_invoices.py::test_every_month_sums_to_its_invoices_and_to_their_lines",
        ),
    ),
    Fault(
        "an export does not compare its rows with the invoice",
        "metering/exports/month_rows.py",
        "if expected is not None and total != expected:",
        "if expected is not None and total is None:",
        ("tests/exports/test_charges_and_lines.py::test_rows_that_do_not_sum_to_the_invoice_make_no_file",),
    ),
    Fault(
        "what a dead process left is sent newest first",
        "metering/emitter/spool.py",
        'for path in sorted(folder.glob("*.ndjson")):',
        'for path in sorted(folder.glob("*.ndjson"), reverse=True):',
        (
            "tests/emitter/test_spool_order.py"
            "::test_events_of_a_process_that_ended_come_in_their_order_and_before_new_ones",
        ),
    ),
    Fault(
        "what could not be sent goes behind what came later",
        "metering/emitter/spool.py",
        "self._waiting.appendleft(segment)",
        "self._waiting.append(segment)",
        ("tests/emitter/test_spool_order.py::test_a_segment_that_was_not_sent_is_the_next_again",),
    ),
    Fault(
        "the spool of a living process is taken over",
        "metering/emitter/spool.py",
        "            if not lock.try_acquire():\n                continue\n",
        "            lock.try_acquire()\n",
        ("tests/emitter/test_emitter_spool.py::test_a_process_never_takes_the_folder_of_a_living_one",),
    ),
    Fault(
        "the kernel takes all of an answer that is not read",
        "metering/api/protocol.py",
        "        _bound_kernel_buffer(transport)\n",
        "",
        ("tests/api/test_slow_clients.py::test_the_kernel_takes_little_of_an_answer_that_is_not_read",),
    ),
    Fault(
        "what follows a deflated body is left out",
        "metering/streams/ingest/body.py",
        "    if inflater.unused_data:\n",
        "    if not inflater.eof:\n",
        ("tests/api/test_ingest.py::test_a_bad_body_gets_the_right_answer",),
    ),
    Fault(
        "an event that comes as the emitter closes is neither spooled nor counted",
        "metering/emitter/pump.py",
        "            item = self._queue.pop()\n",
        "            return\n",
        (
            "tests/emitter/test_emitter_spool.py"
            "::test_an_event_that_comes_as_the_emitter_closes_is_counted_as_dropped",
        ),
    ),
    Fault(
        "events are removed before the server has answered for them",
        "metering/emitter/pump.py",
        "            verdict = self._delivery.post(contents.lines)\n            if verdict.done:\n",
        "            verdict = self._delivery.post(contents.lines)\n            if verdict:\n",
        ("tests/emitter/test_emitter_delivery.py::test_a_server_that_comes_up_late_gets_everything",),
    ),
    Fault(
        "output after the client has left counts as delivered",
        "metering/emitter/meter.py",
        "if pieces and delivered:",
        "if pieces:",
        ("tests/emitter/test_meter.py::test_output_after_the_client_has_left_is_not_counted_but_its_usage_is",),
    ),
    Fault(
        "a plain chunk after the client has left counts as delivered",
        "metering/emitter/meter.py",
        "            if delivered:\n                self._add((plain,))",
        "            if plain:\n                self._add((plain,))",
        ("tests/emitter/test_meter.py::test_output_after_the_client_has_left_is_not_counted_but_its_usage_is",),
    ),
    Fault(
        "a reported count falls",
        "metering/emitter/meter.py",
        "self._reported_tokens = max(self._reported_tokens, output)",
        "self._reported_tokens = output",
        ("tests/emitter/test_meter.py::test_a_count_that_falls_when_pieces_merge_is_told_as_it_was",),
    ),
    Fault(
        "a stream ends twice",
        "metering/emitter/meter.py",
        "        self._ended = True\n",
        "        self._ended = outcome is Outcome.TIMED_OUT\n",
        ("tests/emitter/test_meter.py::test_it_ends_once",),
    ),
    Fault(
        "a usage that tokens have overtaken is believed",
        "metering/answers/end_usage.py",
        "output_is_right = is_current if output_tokens else",
        "output_is_right = bool(is_current or output_tokens) if output_tokens else",
        ("tests/answers/test_end_usage.py::test_a_completed_stream",),
    ),
    Fault(
        "an X-Resume-Key finds the answers of other customers",
        "metering/gateway/resume/sealing.py",
        "parts = (resume_key, client_key, customer_id)",
        "parts = (resume_key,)",
        (
            "tests/gateway/resume/test_resume.py::test_another_customer_with_the_same_key_gets_a_completion_of_its_own",
        ),
    ),
    Fault(
        "an X-Resume-Key answers any request with what it kept of one",
        "metering/gateway/resume/copies.py",
        "if head.request_hash != request_hash:",
        "if not head.request_hash:",
        ("tests/gateway/resume/test_resume.py::test_a_key_belongs_to_one_request",),
    ),
    Fault(
        "a piece of a kept answer can stand in another place",
        "metering/gateway/resume/sealing.py",
        'return owner + number.to_bytes(8, "big")',
        'return owner or number.to_bytes(8, "big")',
        ("tests/gateway/resume/test_resume_rules.py::test_a_piece_can_be_opened_in_its_own_place_only",),
    ),
    Fault(
        "an answer is kept only while its client is there",
        "metering/gateway/client.py",
        "return not self.left or (self.copy is not None and self.copy.is_kept)",
        "return not self.left or (self.copy is not None and self.copy.has_ended)",
        (
            "tests/gateway/resume/test_resume.py::test_a_client_that_drops_before_the_first_token_gets_the_whole_text_once",
        ),
    ),
    Fault(
        "a completion to which nobody comes back goes on",
        "metering/gateway/completions.py",
        "if seconds <= 0 and await copies.give_up(copy):",
        "if seconds < -600 and await copies.give_up(copy):",
        (
            "tests/gateway/resume/test_resume_bounds.py::test_a_completion_to_which_nobody_comes_back_is_cancelled_and_billed_as_written",
        ),
    ),
)
