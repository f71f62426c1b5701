"""The models that clients can ask for: exact names, and what upstreams list for the configured patterns."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from metering.gateway.environment import GatewayConfigError
from metering.gateway.settings import Upstream, settings_from_environment
from tests.emitter.sink import RunningServer
from tests.gateway.world import KEY, running_gateway, settings_of


class Listing:
    """An upstream that lists models, to whom has its key in the right header."""

    def __init__(self, *names: str, header: str = "authorization", value: str = "Bearer sk-o") -> None:
        self.names, self.header, self.value = names, header, value
        self.asked = 0
        self.works = True
        self.app = Starlette(routes=[Route("/v1/models", self._list)])

    async def _list(self, request: Request) -> Response:
        self.asked += 1
        if not self.works:
            return Response("<h1>later</h1>", status_code=503)
        if request.headers.get(self.header) != self.value:
            return JSONResponse({"error": {"message": "who are you?"}}, status_code=401)
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.names]})


@contextmanager
def gateway_before(folder: Path, *upstreams: Upstream, **options: object) -> Iterator[str]:
    settings = settings_of(sink_url="http://127.0.0.1:9", spool=folder / "spool", upstreams=upstreams, **options)  # type: ignore[arg-type]
    with running_gateway(settings) as gateway:
        yield gateway.url


def listed(url: str) -> dict[str, str]:
    models = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0).models.list()
    return {each.id: each.owned_by for each in models}


def test_patterns_list_what_the_upstream_has_and_exact_names_need_no_upstream(tmp_path: Path) -> None:
    one = Listing("gpt-4o", "gpt-5", "o3", "whisper-1")
    other = Listing("claude-opus-4.7", "claude-haiku", "gpt-4o", header="x-api-key", value="sk-a")
    with RunningServer(one.app) as first, RunningServer(other.app) as second:
        upstreams = (
            Upstream(provider="openai", base_url=f"{first.url}/v1", models=("gpt-*", "my-own"), api_key="sk-o"),
            Upstream(provider="anthropic", base_url=f"{second.url}/v1", models=("*",), api_key="sk-a"),
            Upstream(provider="dead", base_url="http://127.0.0.1:9/v1", models=("exact", "x-*"), api_key="sk"),
        )
        with gateway_before(tmp_path, *upstreams) as url:
            found = {
                "my-own": "openai", "gpt-4o": "openai", "gpt-5": "openai",
                "claude-opus-4.7": "anthropic", "claude-haiku": "anthropic", "exact": "dead",
            }  # fmt: skip
            assert listed(url) == found
            one.works = False
            assert listed(url) == found, "what was listed holds for some minutes"
            assert one.asked == 1
            client = anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0)
            assert [each.id for each in client.models.list()] == list(found)
            assert client.models.retrieve("claude-haiku").id == "claude-haiku"


def test_an_upstream_that_lists_nothing_is_asked_once_and_serves_all_the_same(tmp_path: Path) -> None:
    upstream = Listing("gpt-4o")
    upstream.works = False
    with RunningServer(upstream.app) as server:
        served = Upstream(provider="openai", base_url=f"{server.url}/v1", models=("*",), api_key="sk-o")
        with gateway_before(tmp_path, served) as url:
            assert listed(url) == listed(url) == {}
            assert upstream.asked == 2, "once with each header, and no more for five minutes"
            assert openai.OpenAI(base_url=f"{url}/v1", api_key=KEY).models.retrieve("any").id == "any"


def test_browsers_of_the_configured_origins_may_call_and_read_the_streams_id(tmp_path: Path) -> None:
    upstream = Upstream(provider="openai", base_url="http://127.0.0.1:9/v1", models=("gpt-4o",))
    with gateway_before(tmp_path, upstream, cors_origins=("https://app.example",)) as url:
        wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        path = f"{url}/v1/chat/completions"
        allowed = httpx2.options(path, headers={"origin": "https://app.example", **wanted})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (
            200,
            "https://app.example",
        )
        assert "authorization" in allowed.headers["access-control-allow-headers"].lower()
        refused = httpx2.options(path, headers={"origin": "https://evil.example", **wanted})
        assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (400, False)
        headers = {"origin": "https://app.example", "authorization": f"Bearer {KEY}"}
        answer = httpx2.post(path, headers=headers, json={"model": "gpt-4o", "messages": []}, timeout=30)
        exposed = answer.headers["access-control-expose-headers"].split(", ")
        assert exposed == ["x-metering-stream-id", "x-metering-resumed", "x-metering-resumable"]
        assert answer.headers["x-metering-stream-id"]


def test_without_the_setting_no_browser_may(tmp_path: Path) -> None:
    upstream = Upstream(provider="openai", base_url="http://127.0.0.1:9/v1", models=("gpt-4o",))
    with gateway_before(tmp_path, upstream) as url:
        answer = httpx2.options(f"{url}/v1/models", headers={"origin": "https://app.example"})
        assert answer.status_code == 405
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        ("https://a.example, http://b.example:8080/", ("https://a.example", "http://b.example:8080")),
        ("*", ("*",)),
        ("a.example", None),
        ("https://a.example/path", None),
    ],
)
def test_origins_are_read_from_the_environment(
    tmp_path: Path, value: str, origins: tuple[str, ...] | None
) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[[upstreams]]\nprovider = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["*"]\n'
        '[[keys]]\nkey = "gk_1"\ncustomer_id = "acme"\n'
    )
    environment = {
        "METERING_GATEWAY_CONFIG": str(config),
        "METERING_GATEWAY_INGEST_KEY": "mk_a_b",
        "METERING_GATEWAY_CORS_ORIGINS": value,
    }
    if origins is None:
        with pytest.raises(GatewayConfigError, match="METERING_GATEWAY_CORS_ORIGINS: expected origins such as"):
            settings_from_environment(environment=environment)
    else:
        assert settings_from_environment(environment=environment).cors_origins == origins
