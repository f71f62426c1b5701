"""What the gateway drains and what the service bills are compared, and a difference is said clearly."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metering.gateway.policy_check import disagreements, policies_in_force
from metering.gateway.settings import Upstream
from tests.emitter.sink import RunningServer, eventually
from tests.gateway.world import running_gateway, settings_of

_NOW = datetime(2026, 11, 29, tzinfo=UTC)


def _upstream(drain_seconds: float) -> Upstream:
    return Upstream(
        provider="OpenAI", base_url="https://llm.example/v1", models=("*",), drain_seconds=drain_seconds
    )


def _policy(policy: str, since: str, version: int = 1, provider: str = "openai") -> dict[str, object]:
    return {"provider": provider, "policy": policy, "version": version, "effective_from": since}


def test_the_newest_policy_that_has_come_into_force_counts() -> None:
    listed = [
        _policy("drain", "2026-11-01T00:00:00Z", 2),
        _policy("zero", "2026-12-01T00:00:00Z", 3),
        _policy("delivered", "2026-01-01T00:00:00+00:00", 1),
        _policy("zero", "2026-01-01T00:00:00Z", provider="Other"),
    ]
    assert policies_in_force(listed, now=_NOW) == {"openai": "drain", "other": "zero"}


@pytest.mark.parametrize(
    ("policy", "drain_seconds", "says"),
    [
        (None, 0.0, None),
        ("delivered", 0.0, None),
        ("zero", 0.0, None),
        ("drain", 60.0, None),
        ("drain", 0.0, "Set drain_seconds, or the policy delivered"),
        ("delivered", 60.0, "Set drain_seconds = 0, or the policy drain"),
        (None, 60.0, "the cancel policy delivered: clients that leave pay for the whole answer"),
        ("zero", 60.0, "the cancel policy zero"),
    ],
)
def test_a_disagreement_names_both_settings(policy: str | None, drain_seconds: float, says: str | None) -> None:
    found = disagreements([_upstream(drain_seconds)], {} if policy is None else {"openai": policy})
    if says is None:
        assert found == []
    else:
        assert len(found) == 1
        assert says in found[0]


def test_a_disagreement_is_logged_when_the_gateway_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys: list[str] = []

    async def policies(request: Request) -> Response:
        keys.append(request.headers["authorization"])
        return JSONResponse({"data": [_policy("drain", "2026-01-01T00:00:00Z")]})

    service = Starlette(routes=[Route("/v1/cancel-policies", policies)])
    with RunningServer(service) as server:
        settings = settings_of(sink_url=server.url, spool=tmp_path, upstreams=(_upstream(0.0),))
        with running_gateway(settings):
            eventually(lambda: "Set drain_seconds, or the policy delivered" in caplog.text, what="it is said")
    assert keys == ["Bearer mk_test_secret"]
