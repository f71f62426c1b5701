/** Events reach a server that is slow, down, wrong or picky; troubles are said once. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { StreamEnd, StreamStart, TokenDelivered } from "stream-metering-emitter";

import { Backoff, retryAfterMs } from "../dist/backoff.js";
import { accept, answer, eventually, folder, startEmitter, startSink } from "./sink.js";

function startOf(streamId) {
  return new StreamStart({ customerId: "acme", streamId, time: new Date(), provider: "openai", model: "gpt-4o" });
}

test("events are posted in batches of at most 1,000, compressed, with the key", async (t) => {
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url);
  for (let n = 0; n < 2_500; n += 1) emitter.emit(startOf(`s${n}`));
  assert.equal(await emitter.close(), true);
  assert.equal(sink.events.size, 2_500);
  assert.ok(sink.requests.every(({ events }) => events.length <= 1_000));
  const [{ url, headers }] = sink.requests;
  assert.equal(url, "/v1/events");
  assert.equal(headers.authorization, "Bearer mk_test_key");
  assert.equal(headers["content-type"], "application/cloudevents-batch+json");
  for (const request of sink.requests) {
    assert.equal(request.headers["content-encoding"], request.bytes >= 4_096 ? "gzip" : undefined);
  }
  const stats = emitter.stats();
  assert.deepEqual([stats.emitted, stats.sent, stats.spooled, stats.dropped], [2_500, 2_500, 0, 0]);
});

test("a server that fails gets the events again, and the trouble is said once, and once when it is over", async (t) => {
  const sink = await startSink(t, { answers: [answer(503), answer(500), answer(429)] });
  const { emitter, lines } = startEmitter(t, sink.url);
  emitter.emit(startOf("a"));
  await eventually(() => sink.events.size === 1, "the event arrives");
  await eventually(() => lines.length === 2, "the log says that it is over");
  assert.match(lines[0], /^error: 503 from .*usage events wait in the spool \(1 now\)/);
  assert.match(lines[1], /^warn: the server accepts usage events again, after \d+ s/);
  assert.equal(emitter.stats().retries, 3);
});

test("the pause is as long as the server asks", async (t) => {
  const sink = await startSink(t, { answers: [answer(503, {}, { "retry-after": "1" })] });
  const { emitter } = startEmitter(t, sink.url);
  emitter.emit(startOf("a"));
  await eventually(() => sink.events.size === 1, "the event arrives");
  const pause = sink.requests[1].at - sink.requests[0].at;
  assert.ok(pause >= 1_000 && pause < 2_000, `${pause} ms`);
});

test("Retry-After is read in both forms", () => {
  assert.equal(retryAfterMs("7"), 7_000);
  const inAMinute = retryAfterMs(new Date(Date.now() + 60_000).toUTCString());
  assert.ok(inAMinute > 58_000 && inAMinute <= 60_000);
  assert.equal(retryAfterMs("soon"), undefined);
  assert.equal(retryAfterMs(null), undefined);
});

test("pauses grow with jitter, up to 30 seconds, and are short again after a success", () => {
  const backoff = new Backoff(5_000);
  const failed = { retryAfterMs: undefined, misconfigured: false };
  for (let attempt = 0; attempt < 15; attempt += 1) {
    const ceiling = Math.min(100 * 2 ** attempt, 30_000);
    const pause = backoff.pauseMs(failed);
    assert.ok(pause >= ceiling / 2 && pause <= ceiling, `${attempt}: ${pause}`);
  }
  backoff.reset();
  assert.ok(backoff.pauseMs(failed) <= 100);
  assert.equal(backoff.pauseMs({ ...failed, misconfigured: true }), 5_000);
  assert.ok(backoff.pauseMs({ ...failed, retryAfterMs: 3_600_000 }) <= 72_000);
});

test("a batch that is too large is halved, and an event that is too large is set aside", async (t) => {
  const tooLarge = (events, response, sink) =>
    events.some(({ subject }) => subject === "large")
      ? answer(413)(events, response)
      : accept(events, response, sink);
  const sink = await startSink(t, { answers: Array.from({ length: 30 }, () => tooLarge) });
  const spool = folder(t);
  const { emitter } = startEmitter(t, sink.url, { spool });
  for (let n = 0; n < 100; n += 1) emitter.emit(startOf(`s${n}`));
  const large = { customerId: "large", streamId: "l", time: new Date(), outcome: "failed" };
  emitter.emit(new StreamEnd(large));
  assert.equal(await emitter.close(), true);
  assert.equal(sink.events.size, 100);
  const kept = JSON.parse(readFileSync(join(spool, "rejected.ndjson"), "utf8"));
  assert.match(kept.reason, /^413: /);
  assert.equal(JSON.parse(kept.event).id, "l:end");
  assert.equal(emitter.stats().rejected, 1);
});

test("a wrong key is said once, and the events go out once it is right", async (t) => {
  const sink = await startSink(t, { answers: [answer(401), answer(403)] });
  let key = "mk_old_key";
  const { emitter, lines } = startEmitter(t, sink.url, { key: () => key, slowRetryMs: 30 });
  emitter.emit(startOf("a"));
  await eventually(() => sink.requests.length === 2, "two attempts");
  key = "mk_new_key";
  await eventually(() => sink.events.size === 1, "the event arrives");
  assert.equal(sink.requests.at(-1).headers.authorization, "Bearer mk_new_key");
  assert.equal(lines.filter((line) => line.includes("`key` is wrong or lacks the role ingest")).length, 1);
});

test("a key function that fails loses nothing", async (t) => {
  const sink = await startSink(t);
  let calls = 0;
  const key = async () => {
    calls += 1;
    if (calls === 1) throw new Error("no vault");
    return calls === 2 ? "mk_…" : "mk_good_key";
  };
  const { emitter, lines } = startEmitter(t, sink.url, { key, slowRetryMs: 10 });
  emitter.emit(startOf("a"));
  await eventually(() => sink.events.size === 1, "the event arrives");
  assert.match(lines[0], /the emitter's `key` cannot be read: Error: no vault/);
});

test("an option that cannot be right is refused at once", (t) => {
  assert.throws(() => startEmitter(t, "http://127.0.0.1:1", { key: "mk_…" }), { message: /^key: / });
  assert.throws(() => startEmitter(t, "ftp://127.0.0.1"), { message: /^url: / });
  assert.throws(() => startEmitter(t, "http://127.0.0.1:1", { spool: import.meta.filename }), {
    name: "SpoolError",
  });
});

test("an address that is no ingest API is a wrong setting, also with a redirect", async (t) => {
  const sink = await startSink(t, { answers: [answer(404), answer(301, {}, { location: "/elsewhere" })] });
  const { emitter, lines } = startEmitter(t, sink.url, { slowRetryMs: 10 });
  emitter.emit(startOf("a"));
  await eventually(() => sink.events.size === 1, "the event arrives");
  assert.match(lines[0], /404 from .*the emitter's `url` does not lead to the ingest API/);
});

test("rejected events are kept with the reason, and the others are sent", async (t) => {
  const rejected = [{ index: 1, id: "b:start", code: "invalid-field", detail: "data.model: too long" }];
  const sink = await startSink(t, { answers: [answer(200, { accepted: 2, rejected })] });
  const spool = folder(t);
  const { emitter, lines } = startEmitter(t, sink.url, { spool });
  for (const id of ["a", "b", "c"]) emitter.emit(startOf(id));
  assert.equal(await emitter.close(), true);
  const kept = JSON.parse(readFileSync(join(spool, "rejected.ndjson"), "utf8"));
  assert.equal(kept.reason, "invalid-field: data.model: too long");
  assert.equal(JSON.parse(kept.event).id, "b:start");
  assert.deepEqual([emitter.stats().sent, emitter.stats().rejected], [2, 1]);
  assert.match(lines[0], /the server rejected an event, which is kept in rejected.ndjson/);
});

test("all events of an answer 422 are rejected, also those that it does not name", async (t) => {
  const rejected = [{ index: 0, code: "invalid-field", detail: "no" }];
  const sink = await startSink(t, { answers: [answer(422, { rejected })] });
  const spool = folder(t);
  const { emitter } = startEmitter(t, sink.url, { spool });
  for (const id of ["a", "b"]) emitter.emit(startOf(id));
  assert.equal(await emitter.close(), true);
  const kept = readFileSync(join(spool, "rejected.ndjson"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.equal(kept[0].reason, "invalid-field: no");
  assert.match(kept[1].reason, /^422: /);
});

test("warnings are logged, each once", async (t) => {
  const warning = { index: 0, id: "a:start", field: "data.reasoning", hint: "send it as x" };
  const sink = await startSink(t, {
    answers: [answer(200, { accepted: 2, rejected: [], warnings: [warning, warning] })],
  });
  const { emitter, lines } = startEmitter(t, sink.url);
  emitter.emit(startOf("a"));
  await emitter.close();
  const said = /does not know a field: data.reasoning: send it as x \(1 since the last such line\)/;
  assert.match(lines[0], said);
});

test("a server that hangs is given up after the time of a request, and asked again", async (t) => {
  const sink = await startSink(t, { answers: [() => undefined] });
  const { emitter, lines } = startEmitter(t, sink.url, { timeoutMs: 100 });
  emitter.emit(startOf("a"));
  await eventually(() => sink.events.size === 1, "the event arrives");
  assert.match(lines[0], /cannot be reached: Error: no answer within 100 ms/);
});

test("nonsense in an answer does no harm", async (t) => {
  const nonsense = { rejected: [{ index: 99 }, { index: "x" }, null, 7], warnings: "none" };
  const sink = await startSink(t, { answers: [answer(200, nonsense)] });
  const { emitter } = startEmitter(t, sink.url);
  emitter.emit(startOf("a"));
  assert.equal(await emitter.close(), true);
  assert.equal(emitter.stats().sent, 1);
});

test("emit takes anything at any time, and loses only what it says", async (t) => {
  const sink = await startSink(t);
  const { emitter, lines } = startEmitter(t, sink.url);
  for (const junk of [undefined, null, 7, {}, "event"]) emitter.emit(junk);
  await emitter.close();
  emitter.emit(startOf("late"));
  assert.equal(emitter.stats().dropped, 6);
  assert.equal(lines.length, 1); // the second line comes ten seconds later
  assert.match(lines[0], /usage events are being lost: emit was given something that is no event/);
});

test("a full spool refuses token-delivered first, then the rest, and says so", async (t) => {
  const { emitter, lines } = startEmitter(t, "http://127.0.0.1:9", { maxSpoolBytes: 40_000, slowRetryMs: 10 });
  for (let n = 0; n < 400; n += 1) {
    emitter.emit(
      new TokenDelivered({ customerId: "acme", streamId: `s${n}`, time: new Date(), seq: 1, outputTokens: n }),
    );
  }
  await eventually(() => emitter.stats().dropped > 0, "token-delivered events are refused");
  const before = emitter.stats().dropped;
  for (let n = 0; n < 20; n += 1) emitter.emit(startOf(`s${n}`));
  await emitter.close(50);
  assert.equal(emitter.stats().dropped, before);
  assert.ok(lines.some((line) => line.includes("the spool is full")));
  const { emitted, coalesced, sent, rejected, dropped, spooled } = emitter.stats();
  assert.equal(emitted, coalesced + sent + rejected + dropped + spooled);
});
