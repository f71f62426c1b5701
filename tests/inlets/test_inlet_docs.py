"""The lines of docs/gateways.md for OpenMeter, Kong and logs run as they are pasted, but for address and key."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from metering.access.scopes import Role
from metering.api.inlets.access_log import DIALECTS
from metering.server.inlet_settings import InletSettings
from metering.server.settings import variable_of
from metering.translations.openmeter_types import declared_types
from tests.running_api import Api
from tests.tools import need
from tests.translations.records import APISIX, KONG

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "gateways.md").read_text()


def examples(section: str, language: str) -> list[str]:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def key(api: Api) -> str:
    with api.client_with(Role.INGEST) as client:
        return str(client.headers["authorization"]).removeprefix("Bearer ")


def cents(api: Api, customer: str) -> list[str]:
    api.finalize()
    charges = api.client.get("/v1/charges", params={"customer_id": customer}).json()["data"]
    return [charge["cost_usd_cents"] for charge in charges]


def test_openmeters_sdk_posts_as_the_page_says(api: Api, key: str) -> None:
    [code] = examples("OpenMeter's events, and Kong", "python")
    exec(code.replace("http://127.0.0.1:8000", api.url).replace("mk_…", key), {})
    assert cents(api, "acme") == ["0.203"]


def test_kong_is_sent_where_its_events_are_taken_with_what_joins_them(api: Api, key: str) -> None:
    [text] = examples("OpenMeter's events, and Kong", "yaml")
    config: dict[str, Any] = yaml.safe_load(text)["plugins"][0]["config"]
    [attribute] = config["attributes"]
    named = {**KONG["data"], attribute["event_property_name"]: "c1"}
    events = [
        {**KONG, "subject": "acme", "id": type_, "data": {**named, "type": type_}}
        for type_ in ("request", "response")
    ]
    with api.client_of(key) as client:
        url = config["ingest_endpoint"].replace("http://127.0.0.1:8000", api.url)
        assert client.post(url, json=events).status_code == 204
    assert cents(api, "acme") == ["0.02875"]


def test_the_types_of_the_page_are_a_mapping() -> None:
    [text] = examples("OpenMeter's events, and Kong", "toml")
    types = declared_types(text)
    assert {"translate", "llm.completion", "prompt", "tokens", "kong.llm_request"} == set(types.types)
    assert ("heartbeat" in types.ignored, types.provider_of("llama-3")) == (True, "groq")


def test_a_log_is_posted_as_the_page_says(api: Api, key: str, tmp_path: Path) -> None:
    need("curl")
    [code] = examples("Access logs", "sh")
    code = code.replace("http://127.0.0.1:8000", api.url).replace("mk_…", key)
    done = subprocess.run(
        ["sh", "-e", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {"accepted": 1, "rejected": []}
    assert cents(api, "acme") == ["0.000645"]


def test_apisix_posts_where_its_lines_are_taken_with_the_fields_that_are_read(api: Api, key: str) -> None:
    [text] = examples("Access logs", "json")
    logger = json.loads(text)["http-logger"]
    extra = {"llm_provider": logger["log_format_extra"]["llm_provider"], "request_id": "5c5e0b95"}
    headers = {"authorization": logger["auth_header"].replace("mk_…", key)}
    with api.client_of(key) as client:
        url = logger["uri"].replace("http://127.0.0.1:8000", api.url)
        answer = client.post(url, json=[{**APISIX, **extra, "upstream": None}], headers=headers)
    assert answer.json() == {"accepted": 1, "rejected": []}
    assert cents(api, "jack") == ["0.117"]
    [charge] = api.client.get("/v1/charges", params={"customer_id": "jack"}).json()["data"]
    assert charge["stream_id"].startswith("access_log:5c5e0b95:")


def test_the_pages_have_every_dialect_field_and_setting() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text()
    text = PAGE.split("\n## Access logs\n")[1].split("\n## ")[0]
    for dialect in DIALECTS.values():
        assert ", ".join(f"`{field}`" for field in dialect.customer) in text
        assert f"| `{dialect.name}` |" in text
    for name in InletSettings.model_fields:
        variable = variable_of(name)
        short = variable.replace("METERING_LITELLM_", "…_")
        assert f"`{variable}`" in operations or f"`{short}`" in operations
