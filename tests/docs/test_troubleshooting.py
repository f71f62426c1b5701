"""docs/troubleshooting.md names every state of the backlog and every 503, and has the words that are answered."""

from typing import Any

from metering.access.scopes import Role
from metering.api.problems import PROBLEMS
from metering.streams.settlement import NEEDS_PERSON
from tests.builders import Months
from tests.builders.posted import end, start
from tests.docs.pages import DOCS
from tests.running_api import Api, http_client, put
from tests.stripe.reconciling import look

T0 = "2026-11-01T00:00:00Z"
PAGE = " ".join((DOCS / "troubleshooting.md").read_text().split())


def section(title: str) -> str:
    text = (DOCS / "troubleshooting.md").read_text()
    return text.split(f"\n### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]


def test_each_state_of_the_backlog_has_a_fix() -> None:
    table = section("It is in the backlog")
    assert [each for each in NEEDS_PERSON if f"| `{each.value}` |" not in table] == []


def test_each_503_has_a_cause() -> None:
    titles = {problem.title for problem in PROBLEMS.values() if problem.status == 503}
    assert [each for each in sorted(titles) if f"`{each}`" not in section("503")] == []


def test_refusals_of_keys_are_found_by_their_words(shared_api: Api) -> None:
    with http_client(shared_api.url, headers={"authorization": "Bearer mk_no_key"}) as unknown:
        detail = unknown.get("/v1/customers").json()["detail"]
    assert f"*{detail}*" in section("401")
    with shared_api.client_with(Role.INGEST) as client:
        assert client.get("/v1/customers").status_code == 403
        key = client.headers["authorization"].removeprefix("Bearer ")
    with http_client(shared_api.url) as browser:
        refused = browser.post("/dashboard/sign-in", data={"key": key}).text
    assert "a key with role ingest reads nothing" in refused
    assert "*a key with role ingest reads nothing*" in PAGE


def test_a_misspelt_counter_is_warned_of_in_the_words_of_the_page(api: Api) -> None:
    ended = end()
    ended["data"]["usage"]["output_tokns"] = ended["data"]["usage"].pop("output_tokens")
    [warning] = api.post([start(), ended]).json()["warnings"]
    assert f"*{warning['hint']}*" in section("It is too low, or too high")


def state_and_cost(api: Api, stream_id: str) -> tuple[str, str | None]:
    api.finalize()
    shape = api.client.get(f"/v1/streams/acme/{stream_id}").json()
    return shape["state"], shape["cost_usd_cents"]


def post_without_usage(api: Api, stream_id: str, **changes: Any) -> None:
    begun, ended = start(stream_id), end(stream_id)
    del begun["data"]["input_tokens"], ended["data"]["usage"], ended["data"]["usage_source"]
    begun["data"].update(changes)
    ended["data"]["outcome"] = stream_id
    assert api.post([begun, ended]).status_code == 200


def test_a_failed_stream_of_which_nothing_is_known_is_free(api: Api) -> None:
    post_without_usage(api, "failed")
    assert state_and_cost(api, "failed") == ("finalized", "0")


def test_a_completed_one_waits_for_a_stream_end_with_its_usage(api: Api) -> None:
    post_without_usage(api, "completed")
    assert state_and_cost(api, "completed") == ("unmeasured", None)
    late = end("completed")
    late["data"]["outcome"] = "completed"
    assert api.post([{**late, "id": "late"}]).status_code == 200
    assert state_and_cost(api, "completed") == ("finalized", "0.4985")


def test_a_rate_from_before_its_start_bills_an_unpriced_stream(api: Api) -> None:
    begun, ended = start(model="house-1"), end()
    assert api.post([begun, ended]).status_code == 200
    assert state_and_cost(api, "s") == ("unpriced", None)
    rates = [{"kind": "input", "usd_per_million": "5"}, {"kind": "output", "usd_per_million": "25"}]
    for effective_from, found in (("2026-11-24T00:00:00Z", ("unpriced", None)), (T0, ("finalized", "0.4985"))):
        put(api, "/v1/rates/anthropic/house-1", rates=rates, effective_from=effective_from)
        assert state_and_cost(api, "s") == found


def test_a_second_stream_end_of_the_same_source_conflicts(api: Api) -> None:
    assert api.post([start(), end(), {**end(output=99), "id": "other"}]).status_code == 200
    assert state_and_cost(api, "s")[0] == "conflicting"


def test_a_stuck_invoice_is_not_pushed_again_but_by_a_repair(months: Months) -> None:
    months.month("acme")
    months.execute("UPDATE invoice_pushes SET state = 'stuck', due_at = NULL")
    months.push_all()
    assert months.rows("SELECT state FROM invoice_pushes") == [("stuck",)]
    look(months, repair=True)
    assert months.rows("SELECT state FROM invoice_pushes") == [("final",)]
