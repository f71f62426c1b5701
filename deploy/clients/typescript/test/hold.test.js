/** Holds: asked for first, repeated when an answer is lost; a stream that has to stop ends as cancelled. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { HoldRefused, HoldUnavailable } from "stream-metering-emitter";

import { answer, eventually, startEmitter, startSink } from "./sink.js";

const asked = { customerId: "acme", provider: "openai", model: "gpt-4o", streamId: "s", inputTokens: 12 };
const request = { ...asked, hold: "worst_case", maxOutputTokens: 100 };
const EXHAUSTED = {
  type: "/problems/budget-exhausted",
  detail: "budget b has 1 cents left; 2.5 are needed",
  budget_id: "b",
  limit_usd_cents: "10",
  needed_usd_cents: "2.5",
  max_output_tokens_that_fit: 40,
  resets_at: "2026-12-01T00:00:00Z",
};
const patient = { holds: { timeoutMs: 20_000 } };
const dropped = (_, response) => response.destroy();

async function start(t, options = patient) {
  const sink = await startSink(t);
  return { sink, ...startEmitter(t, sink.url, options) };
}

test("a stream asks for its hold, and then begins", async (t) => {
  const { sink, emitter } = await start(t);
  const more = { maxOutputTokens: 100, tags: { team: "ink" }, sliceOutputTokens: 50, leaseSeconds: 30 };
  await emitter.metered({ ...asked, ...more, hold: "sliding" }, (stream) => {
    assert.equal(stream.hold.heldUsdCents, "2.5");
    assert.equal(stream.stopped, false);
    stream.text("Three rings");
  });
  assert.equal(await emitter.close(), true);
  assert.deepEqual(JSON.parse(sink.asked[0].body), {
    customer_id: "acme",
    stream_id: "s",
    provider: "openai",
    model: "gpt-4o",
    mode: "sliding",
    input_tokens: 12,
    max_output_tokens: 100,
    tags: { team: "ink" },
    slice_output_tokens: 50,
    lease_seconds: 30,
  });
  assert.equal(sink.events.get("s:end").data.outcome, "completed");
  assert.equal("failed_open" in sink.events.get("s:start").data, false);
});

test("a refused hold has its figures, and no stream", async (t) => {
  const { sink, emitter } = await start(t);
  sink.holds.push(answer(402, EXHAUSTED), answer(422, { type: "/problems/price-unknown", detail: "no rate" }));
  const never = () => assert.fail("called without a hold");
  await assert.rejects(emitter.metered({ ...asked, hold: "sliding" }, never), (error) => {
    assert.ok(error instanceof HoldRefused);
    assert.equal(error.code, "budget_exhausted");
    assert.equal(error.figures.maxOutputTokensThatFit, 40);
    assert.equal(error.figures.resetsAt, "2026-12-01T00:00:00Z");
    return true;
  });
  await assert.rejects(emitter.hold(request), { code: "price_unknown", message: "no rate" });
  assert.equal(await emitter.close(), true);
  assert.equal(sink.events.size, 0);
  assert.equal(emitter.holdStats().refused, 2);
});

test("a lost answer is asked for again with the same body", async (t) => {
  const { sink, emitter } = await start(t);
  sink.holds.push(dropped, answer(503));
  assert.equal((await emitter.hold(request)).holdId, "hold_1");
  assert.equal(sink.asked.length, 3);
  assert.equal(new Set(sink.asked.map(({ body }) => body)).size, 1);
  assert.equal(await emitter.release("acme", "s"), true);
});

test("a service that hangs or is away lets nothing pass", async (t) => {
  const { sink, emitter } = await start(t, { holds: { timeoutMs: 200 } });
  sink.holds.push(() => undefined);
  await assert.rejects(emitter.hold(request), HoldUnavailable);
  await sink.stop();
  await assert.rejects(emitter.hold(request), HoldUnavailable);
  assert.equal(emitter.holdStats().unavailable, 2);
});

test("an amount a minute passes without an answer, and says so", async (t) => {
  const holds = { timeoutMs: 20_000, failOpenUsdCentsPerMinute: "6", failOpenUsdCentsPerStream: "99" };
  const { sink, emitter } = await start(t, { holds });
  await emitter.hold(request); // held 2.5 cents: so much counts for the next two
  sink.holds.push(...Array.from({ length: 9 }, () => answer(503)));
  for (const streamId of ["a", "b"]) {
    await emitter.metered({ ...asked, streamId, hold: "sliding" }, () => undefined);
  }
  await assert.rejects(emitter.metered({ ...asked, hold: "sliding" }, () => undefined), HoldUnavailable);
  assert.equal(await emitter.close(), true);
  assert.equal(sink.events.get("a:start").data.failed_open, true);
  assert.deepEqual([emitter.holdStats().failedOpen, emitter.holdStats().unavailable], [2, 1]);
});

for (const ending of ["returns", "throws"]) {
  test(`a stream that has to stop ends as cancelled when its function ${ending}`, async (t) => {
    const { sink, emitter, lines } = await start(t);
    sink.stopping.add("s");
    const called = [];
    const run = emitter.metered({ ...asked, hold: "sliding" }, async (stream) => {
      stream.onStop(() => called.push("first"));
      stream.onStop(() => {
        throw new Error("of the caller");
      });
      for (let tokens = 1; tokens < 10_000 && !stream.stopped; tokens += 1) {
        stream.delivered({ outputTokens: tokens });
        await pause(1);
      }
      assert.ok(stream.stopSignal.aborted);
      stream.onStop(() => called.push("late"));
      if (ending === "throws") throw stream.stopSignal.reason;
    });
    if (ending === "throws") await assert.rejects(run, { name: "BudgetExhausted" });
    else await run;
    assert.equal(await emitter.close(), true);
    const { outcome, error_type } = sink.events.get("s:end").data;
    assert.deepEqual([outcome, error_type, called], ["cancelled", "budget", ["first", "late"]]);
    assert.ok(lines.some((line) => line.includes("of the caller")));
    assert.equal(emitter.holdStats().stopped, 1);
  });
}

test("an answer that is complete stays completed after a stop", async (t) => {
  const { sink, emitter } = await start(t);
  sink.stopping.add("s");
  const finished = { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
  await emitter.metered({ ...asked, hold: "sliding" }, async (stream) => {
    stream.take(finished);
    stream.delivered({ outputTokens: 40 });
    await eventually(() => stream.stopped, "the stream has to stop");
  });
  assert.equal(await emitter.close(), true);
  assert.equal(sink.events.get("s:end").data.outcome, "completed");
});

test("a client that leaves while the hold is asked for gives it back", async (t) => {
  const { sink, emitter } = await start(t);
  const client = new AbortController();
  sink.holds.push(async (_, response) => {
    client.abort();
    response.writeHead(201, { "content-type": "application/json" }).end('{"hold_id": "hold_1"}');
  });
  const options = { ...asked, hold: "sliding", signal: client.signal };
  await assert.rejects(emitter.metered(options, () => undefined), { name: "AbortError" });
  await eventually(() => sink.asked.some(({ method }) => method === "DELETE"), "the hold is released");
  assert.equal(sink.events.size, 0);
});

test("a wrong field is refused before anything is asked", async (t) => {
  const { sink, emitter } = await start(t);
  await assert.rejects(emitter.hold({ ...request, hold: "some" }), /hold: expected one of worst_case, sliding/);
  await assert.rejects(emitter.hold({ ...request, leaseSeconds: 3601 }), /leaseSeconds: expected 1 to 3600/);
  assert.equal(sink.asked.length, 0);
});
