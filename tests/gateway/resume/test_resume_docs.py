"""The client of docs/gateway.md survives a network that breaks, and the service books one charge."""

import io
import re
from contextlib import redirect_stdout
from decimal import Decimal
from pathlib import Path

from metering.access.scopes import Role
from metering.gateway import create_app
from metering.gateway.resume.settings import ResumeSettings
from metering.gateway.server import GatewayProtocol
from tests.emitter.sink import RunningServer, eventually
from tests.gateway.resume.cutting_proxy import cutting_proxy
from tests.gateway.resume.valkey import RunningValkey
from tests.gateway.world import KEY, demo_upstream, settings_of
from tests.running_api import Api

PAGE = (Path(__file__).parents[3] / "docs" / "gateway.md").read_text()


def test_the_client_of_the_documentation_gets_one_text_for_one_charge(
    api: Api, demo_url: str, valkey: RunningValkey, tmp_path: Path
) -> None:
    section = PAGE.split("\n## Resume\n")[1].split("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    with api.client_with(Role.INGEST) as client:
        ingest_key = str(client.headers["authorization"]).removeprefix("Bearer ")
    settings = settings_of(
        sink_url=api.url,
        spool=tmp_path / "spool",
        upstreams=(demo_upstream(demo_url, "claude-*"),),
        ingest_key=ingest_key,
        resume=ResumeSettings(url=valkey.url, timeout_seconds=10),
    )
    app = create_app(settings=settings)
    with (
        RunningServer(app, http=GatewayProtocol, timeout_graceful_shutdown=1) as gateway,
        # The SDK itself repeats requests that break before the answer begins.
        cutting_proxy(gateway.url, [3_000, 0, 7_000, 100]) as network,
    ):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(code.replace("http://127.0.0.1:8080", network.url).replace("gk_…", KEY), {})
        assert network.connections == 5
        eventually(lambda: _finalized_charges(api) != [], what="the charge is booked")
    [charge] = _finalized_charges(api)
    assert (charge["outcome"], charge["usage_source"]) == ("completed", "provider")
    assert Decimal(charge["cost_usd_cents"]) > 0
    assert len(printed.getvalue()) > 100
    streams = api.client.get("/v1/totals?from=2020-01-01T00:00:00Z&to=2030-01-01T00:00:00Z").json()["data"]
    assert sum(row["stream_count"] for row in streams) == 1


def _finalized_charges(api: Api) -> list[dict[str, str]]:
    api.finalize()
    charges: list[dict[str, str]] = api.client.get("/v1/charges").json()["data"]
    return charges
