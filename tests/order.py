"""The order of the tests: the long ones first, so that at the end none is left to run alone."""

from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

# Those of more than ten seconds that share no fixture with others of their file, the longest first.
LONG = (
    "tests/lab/test_chaos.py::test_a_short_run_reaches_every_fault_and_is_exact",
    "tests/lab/test_demo.py::test_the_demo_plays_to_its_end_and_leaves_no_process",
    "tests/simulation/test_simulation.py::test_whatever_happens_every_cent_is_where_the_oracle_says",
    "tests/api/test_generated_client.py::test_a_generated_client_posts_reads_is_refused_with_types_and_downloads",
    "tests/db/test_upgrade.py::test_the_previous_release_goes_on_and_restarts_beside_the_next_on_its_schema",
    "tests/lab/test_bench.py::test_ingest_is_measured_alone_beside_a_worker_grown_and_for_long",
    "tests/months/test_random_months.py"
    "::test_over_many_months_of_random_bookings_each_invoice_is_what_the_contract_says",
    "tests/docs/test_first_month_end.py::test_a_month_is_closed_by_commands_and_by_the_dashboard",
    "tests/docs/test_connect_a_gateway.py::test_a_call_of_the_stock_client_is_seen_with_its_cost",
    "tests/server/test_up.py::test_up_greets_with_a_key_once_keeps_data_and_stops_in_time",
    "tests/server/test_up.py::test_addresses_stay_where_they_were_and_are_printed_as_json",
    "tests/cli/test_terminal.py::test_ctrl_c_in_the_middle_of_the_demo_says_so",
    "tests/lab/test_bench.py::test_the_gateway_is_measured_beside_a_bare_pass_through",
    "tests/prices/test_against_genai_prices.py"
    "::test_every_model_costs_what_genai_prices_says_at_every_date_size_tier_and_hour",
    "tests/lab/test_bench.py::test_each_kind_and_format_of_an_export_is_measured",
    "tests/server/test_up.py::test_killed_parts_come_back_and_an_ephemeral_run_leaves_nothing_behind",
    "tests/alerts/test_workers.py"
    "::test_a_worker_that_dies_between_sending_and_recording_is_followed_by_one_that_sends_the_same_again",
    "tests/workers/test_workers.py::test_a_worker_writes_a_heartbeat_and_every_api_shows_its_work",
)


def long_first(items: Sequence[pytest.Item], *, processes: int) -> Iterator[pytest.Item]:
    """The tests with the long ones spread over the beginnings of the equal parts that `processes` begin with."""
    place = {name: number for number, name in enumerate(LONG)}
    long = sorted((each for each in items if _name(each) in place), key=lambda each: place[_name(each)])
    others = iter([each for each in items if _name(each) not in place])
    left = len(items)
    for number in range(processes):
        part = left // (processes - number)
        left -= part
        begin = long[number::processes]
        yield from begin
        yield from islice(others, max(part - len(begin), 0))
    yield from others


def _name(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
