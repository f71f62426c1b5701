"""Holds of the Node emitter against the real API: refused before the stream, and cut within it."""

from decimal import Decimal
from pathlib import Path

from tests.deploy.typescript_client import Package
from tests.gateway.holds.world import HeldWorld, set_up
from tests.gateway.other_upstream import OtherUpstream
from tests.running_api import Api

# A machine that is busy with tests may take longer than a second to answer.
_PROGRAM = """
await emitter.close();
const patient = new Emitter({
  url: process.env.METERING_URL, key: process.env.METERING_INGEST_KEY, source: "/gateways/node",
  spool: process.env.SPOOL, holds: { timeoutMs: 20_000 }, log: (level, message) => console.error(message),
});
const words = { customerId: "acme", provider: "openai", model: "words-plain", inputTokens: 9 };
const report = {};
await patient.metered({ ...words, hold: "worst_case", maxOutputTokens: 61 }, () => {}).catch((error) => {
  report.refused = { name: error.name, code: error.code, ...error.figures };
});
await patient.metered({ ...words, streamId: "cut", hold: "sliding", sliceOutputTokens: 20 }, async (stream) => {
  report.held = stream.hold.heldUsdCents;
  for (let tokens = 1; tokens < 10_000 && !stream.stopped; tokens += 1) {
    stream.delivered({ outputTokens: tokens });
    await pause(10);
  }
  report.stopped = stream.stopped;
});
report.released = (await patient.hold({ ...words, streamId: "no", hold: "worst_case", maxOutputTokens: 0 })).holdId
  !== undefined && (await patient.release("acme", "no"));
say({ ...report, closed: await patient.close(), stats: patient.holdStats() });
"""


def test_node_is_refused_and_cut_as_the_budget_says(api: Api, package: Package, tmp_path: Path) -> None:
    env = {"METERING_URL": api.url, "METERING_INGEST_KEY": set_up(api, limit="60"), "SPOOL": str(tmp_path)}
    with package.running(_PROGRAM, **env) as process:
        said = process.hear()
        process.finish()
    refused = said["refused"]
    assert (refused["name"], refused["code"], refused["budgetId"]) == ("HoldRefused", "budget_exhausted", "b")
    assert (refused["neededUsdCents"], refused["maxOutputTokensThatFit"]) == ("61", 60)
    assert (said["held"], said["stopped"], said["released"], said["closed"]) == ("20", True, True, True)
    assert said["stats"]["stopped"] == 1
    world = HeldWorld(api, "", OtherUpstream())
    [charge] = world.charges(1)
    assert world.ending(charge["stream_id"]) == ("cancelled", "budget")
    assert world.figures() == (charge["cost_usd_cents"], "0", 0)
    assert 30 <= Decimal(charge["cost_usd_cents"]) <= 260
