"""The lines of docs/gateways.md about OpenTelemetry run as they are pasted, but for address and key."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from metering.access.scopes import Role
from metering.lab.demo.upstream import create_upstream
from metering.lab.stripe_local.app import DroppingProtocol
from metering.server.otlp_settings import OtlpSettings
from metering.server.settings import variable_of
from tests.emitter.sink import RunningServer
from tests.running_api import Api

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs" / "gateways.md").read_text().split("\n## OpenTelemetry\n")[1].split("\n## ")[0]


def example(language: str) -> str:
    [code] = re.findall(rf"```{language}\n(.*?)```", SECTION, flags=re.DOTALL)
    return str(code)


@pytest.fixture
def key(api: Api) -> str:
    with api.client_with(Role.INGEST) as client:
        return str(client.headers["authorization"]).removeprefix("Bearer ")


@pytest.fixture
def upstream() -> Iterator[str]:
    with RunningServer(create_upstream(rate=1000), http=DroppingProtocol) as server:
        yield server.url


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def billed(api: Api) -> list[tuple[str, str, str]]:
    api.finalize()
    charges = api.client.get("/v1/charges").json()["data"]
    return [(each["customer_id"], each["outcome"], each["model"]) for each in charges]


def test_the_lines_of_python_meter_a_call(api: Api, key: str, upstream: str) -> None:
    code = example("python").replace("http://127.0.0.1:8000", api.url).replace("mk_…", key)
    run(sys.executable, "-c", code, OPENAI_BASE_URL=f"{upstream}/v1", OPENAI_API_KEY="sk")
    assert billed(api) == [("acme", "completed", "gpt-4o")]


def test_the_lines_of_the_shell_are_the_environment_of_an_exporter(api: Api, key: str, upstream: str) -> None:
    exported = example("sh").replace("http://127.0.0.1:8000", api.url).replace("mk_…", key)
    script = [sys.executable, "-m", "tests.api.use_otlp_instrumentation", "openinference", upstream]
    run("sh", "-e", "-c", f"{exported}\n{shlex.join(script)}")
    assert sorted(billed(api)) == [("acme", outcome, "gpt-4o") for outcome in ("completed", "completed", "failed")]


def test_the_collector_exports_over_http_and_keeps_what_waits() -> None:
    config = yaml.safe_load(example("yaml"))
    exporter = config["exporters"]["otlphttp/metering"]
    assert exporter["endpoint"] == "http://127.0.0.1:8000"
    assert exporter["sending_queue"]["storage"] in config["extensions"]
    assert config["processors"]["batch"]["send_batch_max_size"] <= 5_000


def test_the_page_has_every_setting_with_its_default() -> None:
    for page in (SECTION, (ROOT / "docs" / "operations.md").read_text()):
        for name, setting in OtlpSettings.model_fields.items():
            assert f"`{variable_of(name)}`" in page, name
            assert not setting.default or f"`{setting.default}`" in page, name


def test_settings_that_make_no_sense_are_refused_with_what_is_expected() -> None:
    for wrong in (
        {"otlp_span_kinds": "clients"},
        {"otlp_customer": " , "},
        {"otlp_tags": ",".join("abcdefghijklmnopq")},
    ):
        with pytest.raises(ValueError, match="expected"):
            OtlpSettings(**wrong)  # type: ignore[arg-type]
    rules = OtlpSettings(otlp_span_kinds="Client, SERVER", otlp_tags="team").otlp_rules
    assert (rules.kinds, rules.tags, rules.scopes) == (("client", "server"), ("team",), ("*",))
