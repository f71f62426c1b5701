"""Faults in the holds of the emitter and the gateway."""

from tests.planted.fault import Fault

HOLDS = (
    Fault(
        "a service that is away lets everything pass",
        "metering/emitter/allowance.py",
        "if self._most is None:\n            return False",
        "if self._most is None:\n            return True",
        (
            "tests/emitter/test_holds.py::test_a_service_that_is_away_lets_nothing_pass",
            "tests/gateway/holds/test_holds_and_faults.py"
            "::test_without_the_service_no_request_passes_and_nothing_is_billed",
        ),
    ),
    Fault(
        "a task that is cancelled keeps its hold",
        "metering/emitter/holds.py",
        "            useless = job.may_be_held and job.given_up\n",
        "            useless = False\n",
        ("tests/emitter/test_holds.py::test_a_task_that_is_cancelled_while_it_waits_releases_what_it_gets",),
    ),
    Fault(
        "a stream that passed without a hold does not say so",
        "metering/emitter/stream.py",
        "if self.hold is not None and self.hold.failed_open:",
        "if self.hold is None:",
        ("tests/emitter/test_holds.py::test_an_amount_a_minute_passes_without_an_answer_and_says_so",),
    ),
    Fault(
        "a stop is read and forgotten",
        "metering/emitter/pump.py",
        "if verdict.stop and self._on_stop is not None:",
        "if not verdict.stop and self._on_stop is not None:",
        ("tests/emitter/test_stops.py::test_without_an_event_loop_the_thread_that_posts_calls",),
    ),
    Fault(
        "the limit of one answer is that of all",
        "metering/gateway/holds.py",
        "min(each * request.billed_choices, MAX_COUNT)",
        "min(each, MAX_COUNT)",
        ("tests/gateway/holds/test_refused_holds.py::test_the_limit_of_each_answer_counts_for_all_of_them",),
    ),
    Fault(
        "an answer in one piece is held by the slice",
        "metering/gateway/holds.py",
        'if most is None or (settings.mode == "sliding" and request.streaming):',
        'if most is None or settings.mode == "sliding":',
        (
            "tests/gateway/holds/test_refused_holds.py"
            "::test_an_answer_in_one_piece_holds_its_worst_case_also_where_others_are_sliding",
        ),
    ),
)
