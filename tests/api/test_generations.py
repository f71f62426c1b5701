"""A completion's state, tokens and cost, by the stream's id or the upstream's, with a gateway's own key."""

from typing import Any

import psycopg
import pytest

from metering.access.scopes import Role
from tests.builders.posted import event, stream
from tests.database import Database
from tests.running_api import Api


def responded(stream_id: str, response_id: str, *, customer: str = "acme", **more: Any) -> list[dict[str, Any]]:
    events = stream(stream_id, customer=customer, **more)
    events[-1]["data"]["response_id"] = response_id
    return events


def ask(api: Api, id: str, customer_id: str = "acme", role: Role = Role.INGEST) -> Any:
    with api.client_with(role) as client:
        return client.get("/v1/generations", params={"customer_id": customer_id, "id": id})


@pytest.mark.parametrize("id", ["s1", "chatcmpl-7/?#%"])
def test_a_gateways_key_reads_what_a_completion_costs(api: Api, id: str) -> None:
    assert api.post(responded("s1", "chatcmpl-7/?#%")).status_code == 200
    before = ask(api, id).json()
    assert (before["state"], before["cost_usd_cents"], before["accrued_usd_cents"]) == ("ended", None, "0.4985")
    api.finalize()
    answer = ask(api, id)
    assert answer.status_code == 200
    shape = answer.json()
    assert shape["usage"] == {"input_tokens": 812, "output_tokens": 37}
    told = ("stream_id", "response_id", "state", "outcome", "cost_usd_cents", "accrued_usd_cents")
    assert [shape[name] for name in told] == [
        "s1", "chatcmpl-7/?#%", "finalized", "completed", "0.4985", None,
    ]  # fmt: skip


def test_a_stream_that_runs_is_found_by_its_own_id(api: Api) -> None:
    data = {"stream_id": "s1", "provider": "anthropic", "model": "claude-opus-4.7", "input_tokens": 812}
    api.post([event("stream-start", data)])
    shape = ask(api, "s1").json()
    assert (shape["state"], shape["response_id"], shape["accrued_usd_cents"]) == ("open", None, "0")


def test_another_customers_completion_is_not_found(api: Api) -> None:
    api.post(responded("s1", "chatcmpl-7"))
    for id in ("s1", "chatcmpl-7"):
        assert ask(api, id, customer_id="umbrella").status_code == 404
    assert ask(api, "nothing").status_code == 404


def test_of_two_streams_with_one_response_the_newer_is_found(api: Api) -> None:
    api.post(responded("older", "chatcmpl-7"))
    api.post(responded("newer", "chatcmpl-7"))
    assert ask(api, "chatcmpl-7").json()["stream_id"] == "newer"
    assert ask(api, "older").json()["stream_id"] == "older"


def test_the_look_up_uses_its_index(api: Api, rated_database: Database) -> None:
    for number in range(40):
        api.post(responded(f"s{number}", f"chatcmpl-{number}"))
    with psycopg.connect(rated_database.url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            """
            EXPLAIN SELECT s.stream_id FROM streams s WHERE s.customer_id = 'acme'
              AND hashtextextended(s.customer_id || chr(31) || (s.end_data ->> 'response_id'), 0)
                = hashtextextended('acme' || chr(31) || 'chatcmpl-7', 0)
              AND s.end_data ->> 'response_id' = 'chatcmpl-7'
            """
        ).fetchall()
    assert "streams_by_response" in str(plan)
