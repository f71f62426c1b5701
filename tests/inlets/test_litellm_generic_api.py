"""A real LiteLLM proxy with its own logger `generic_api`, as docs/gateways.md sets it up, and a real API."""

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psycopg
import pytest
import yaml

from metering.access.scopes import Role
from metering.events.wire.bodies import unpack_body
from metering.server.embedded.data_dir import Services
from tests.database import Database, Template, clone
from tests.emitter.sink import eventually
from tests.gateway.asking import MESSAGES
from tests.gateway.hostile.behaviours import (
    DONE,
    PROMPT,
    TEXT,
    TOKENS,
    Behaviour,
    Expected,
    Pause,
    Write,
    finish,
    openai_usage,
    usage_chunk,
    words,
)
from tests.gateway.hostile.upstream import HostileUpstream
from tests.inlets.litellm_proxy import ROOT, litellm_world
from tests.running_api import Api, put, signed_in

pytestmark = pytest.mark.long

_NOTHING = Expected(usage=None)
_CACHED = openai_usage(prompt_tokens_details={"cached_tokens": 3})
_ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
}  # fmt: skip


def _whole(name: str, **more: Any) -> Behaviour:
    body = Write(json.dumps({**_ANSWER, **more}).encode())
    return Behaviour(name, [body], _NOTHING, content_type="application/json")


_BEHAVIOURS = [
    Behaviour("good", [*words(), finish(), usage_chunk(_CACHED), DONE], _NOTHING),
    Behaviour("silent", [*words(), finish(), DONE], _NOTHING),
    Behaviour("slow", [*words(4), Pause(5), *words(), finish(), usage_chunk(_CACHED), DONE], _NOTHING),
    _whole("whole", usage=openai_usage()),
    _whole("whole-silent"),
    Behaviour("busy", [Write(b'{"error": {"message": "slow down"}}')], _NOTHING, status=429),
    Behaviour("refused", [Write(b'{"error": {"message": "no"}}')], _NOTHING, status=500),
]


def _documented() -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration and the variables of the page."""
    page = (ROOT / "docs" / "gateways.md").read_text()
    section = page.split("### Without the callback")[1]
    found = re.search(r"<<'EOF'\n(.*?)EOF\nexport (.*?)\n", section, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1]), dict(part.split("=", 1) for part in shlex.split(found[2]))  # type: ignore[misc]


@dataclass(frozen=True)
class World:
    """A proxy that posts to an API."""

    client: openai.OpenAI
    api: Api
    database: Database
    upstream: HostileUpstream

    def ask(self, model: str, payer: str, **options: Any) -> Any:
        return self.client.chat.completions.create(model=model, messages=MESSAGES, user=payer, **options)

    def streams_of(self, customer: str, count: int = 1) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            self.api.finalize()
            data = self.api.client.get("/v1/charges", params={"customer_id": customer}).json()["data"]
            return sorted(data, key=lambda charge: str(charge["ended_at"]))

        # LiteLLM posts every five seconds.
        billed = f"{count} streams of {customer} are billed"
        eventually(lambda: len(found()) >= count, what=billed, seconds=30, every=0.2)
        return found()


@pytest.fixture(scope="module")
def world(
    litellm_python: Path,
    services: Services,
    rated_template: Template,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    config, variables = _documented()
    names = [behaviour.name for behaviour in _BEHAVIOURS]
    config["model_list"] = [
        {"model_name": name, "litellm_params": {"model": f"openai/gpt-4o:{name}", "api_key": "sk"}}
        for name in names
    ] + [
        {"model_name": name, "litellm_params": {"model": f"openai/gpt-4o:{asked}", "api_key": "sk", **more}}
        for name, asked, more in (
            ("falls", "refused", {}),
            ("repeats", "refused", {"num_retries": 2}),
            ("repeats-busy", "busy", {"num_retries": 2}),
        )
    ]
    config["litellm_settings"] |= {"num_retries": 0, "cache": True, "cache_params": {"type": "local"}}
    config["router_settings"] = {
        "fallbacks": [{name: ["whole"]} for name in ("falls", "repeats", "repeats-busy")],
        "num_retries": 0,
        "disable_cooldowns": True,
    }
    with (
        clone(services, rated_template) as database,
        database.service() as service,
        signed_in(service) as api,
        api.client_with(Role.INGEST) as client,
    ):
        rates = [{"kind": kind, "usd_per_million": usd} for kind, usd in (("input", "2.5"), ("output", "10"))]
        for behaviour in _BEHAVIOURS:
            # The upstream tells its behaviours apart by the model's name, which no catalogue has.
            put(
                api,
                f"/v1/rates/openai/gpt-4o:{behaviour.name}",
                rates=rates,
                effective_from="2026-01-01T00:00:00Z",
            )
        key = client.headers["authorization"].removeprefix("Bearer ")
        asked = {name: value.replace("mk_…", key) for name, value in variables.items()}
        asked["GENERIC_LOGGER_ENDPOINT"] = asked["GENERIC_LOGGER_ENDPOINT"].replace(
            "http://127.0.0.1:8000", api.url
        )
        folder = tmp_path_factory.mktemp("litellm")
        with (
            litellm_world(litellm_python, _BEHAVIOURS, folder, config=config, **asked) as proxy,
            proxy.client() as litellm,
        ):
            yield World(litellm, api, database, proxy.upstream)


NO_CACHE = {"extra_body": {"cache": {"no-cache": True}}}


def usage_of(charge: dict[str, Any]) -> tuple[Any, ...]:
    return (
        charge["outcome"],
        charge["usage"]["input_tokens"],
        charge["usage"]["output_tokens"],
        charge["usage_source"],
    )


def test_a_streamed_answer_costs_what_the_upstream_reports(world: World) -> None:
    list(world.ask("good", "streams", stream=True, **NO_CACHE))
    [charge] = world.streams_of("streams")
    assert usage_of(charge) == ("completed", PROMPT, TOKENS, "provider")
    assert (charge["usage"]["cache_read_input_tokens"], charge["inlet"]) == (3, "litellm")


def test_what_litellm_has_counted_itself_is_an_estimate(world: World) -> None:
    list(world.ask("silent", "counted", stream=True, **NO_CACHE))
    [charge] = world.streams_of("counted")
    assert usage_of(charge) == ("completed", PROMPT, TOKENS, "estimate")


def test_a_whole_answer_is_billed_once_and_one_of_the_cache_not_at_all(world: World) -> None:
    for _ in range(3):
        world.ask("whole", "cached")
    world.ask("whole", "cached", **NO_CACHE)
    charges = world.streams_of("cached", count=2)
    assert [usage_of(charge) for charge in charges] == [("completed", PROMPT, TOKENS, "provider")] * 2


def test_a_client_that_leaves_pays_for_what_litellm_has_read(world: World) -> None:
    answer = world.ask("slow", "leaves", stream=True, **NO_CACHE)
    for _ in range(3):
        next(answer)
    answer.response.close()
    [charge] = world.streams_of("leaves")
    outcome, _, output, source = usage_of(charge)
    assert (outcome, source) == ("cancelled", "estimate")
    assert 0 < output < TOKENS


def test_a_fallback_is_a_stream_of_its_own_that_is_linked(world: World) -> None:
    world.ask("falls", "falls", **NO_CACHE)
    first, second = world.streams_of("falls", count=2)
    assert (first["outcome"], first["cost_usd_cents"]) == ("failed", "0")
    assert usage_of(second) == ("completed", PROMPT, TOKENS, "provider")
    assert second["retry_of"] == first["stream_id"]


@pytest.mark.parametrize(("model", "asked"), [("repeats", "refused"), ("repeats-busy", "busy")])
def test_a_fallback_is_linked_to_the_one_failure_that_litellm_tells_of_several_retries(
    world: World, model: str, asked: str
) -> None:
    before = len(world.upstream.records.get(asked, ()))
    world.ask(model, model, **NO_CACHE)
    assert len(world.upstream.records[asked]) - before == 3
    failed, answered = world.streams_of(model, count=2)
    assert (failed["outcome"], failed["cost_usd_cents"]) == ("failed", "0")
    assert usage_of(answered) == ("completed", PROMPT, TOKENS, "provider")
    assert answered["retry_of"] == failed["stream_id"]


def test_two_requests_at_once_are_not_retries_of_each_other(world: World) -> None:
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: world.ask("falls", "twice", **NO_CACHE), range(2)))
    charges = world.streams_of("twice", count=4)
    linked = {charge["retry_of"] for charge in charges if charge["outcome"] == "completed"}
    assert linked == {charge["stream_id"] for charge in charges if charge["outcome"] == "failed"}


def test_an_answer_without_usage_is_left_out_and_a_failure_costs_nothing(world: World) -> None:
    world.ask("whole-silent", "silent", **NO_CACHE)
    with pytest.raises(openai.InternalServerError):
        world.ask("refused", "silent", **NO_CACHE)
    [charge] = world.streams_of("silent")
    assert (charge["outcome"], charge["cost_usd_cents"]) == ("failed", "0")

    def left_out() -> bool:
        return "metering_records_left_out_total" in world.api.client.get("/metrics").text

    eventually(left_out, what="the answer without usage is counted")


def test_nothing_that_was_said_is_stored(world: World) -> None:
    list(world.ask("good", "private", stream=True, **NO_CACHE))
    world.streams_of("private")
    with psycopg.connect(world.database.url) as connection:
        bodies = b"".join(unpack_body(body) for (body,) in connection.execute("SELECT body FROM journal"))
    assert b"private" in bodies
    assert MESSAGES[0]["content"].encode() not in bodies
    assert TEXT.split()[3].encode() not in bodies
