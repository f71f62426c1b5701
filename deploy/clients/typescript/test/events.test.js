/** Events are refused when they are made if a field is wrong, and are written as the contract says. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { StreamEnd, StreamStart, TokenDelivered } from "stream-metering-emitter";

import { coalesce, encodeEvent } from "../dist/cloudevents.js";

const time = new Date("2026-11-23T15:00:00.123Z");
const known = { customerId: "acme", streamId: "01J9", time };
const start = { ...known, provider: "anthropic", model: "claude-opus-4.7" };
const end = { ...known, outcome: "completed" };

const wrong = [
  [StreamStart, start, { customerId: "" }, /^customerId: expected 1 to 128 characters/],
  [StreamStart, start, { customerId: "x".repeat(129) }, /^customerId: .*got 129/],
  [StreamStart, start, { streamId: ".." }, /^streamId: expected an id other than/],
  [StreamStart, start, { streamId: 7 }, /^streamId: expected text, got 7/],
  [StreamStart, start, { time: "2026-11-23" }, /^time: expected a Date/],
  [StreamStart, start, { time: new Date(Number.NaN) }, /^time: expected a valid Date/],
  [StreamStart, start, { provider: undefined }, /^provider: expected text/],
  [StreamStart, start, { model: "a\0b" }, /^model: expected text without NUL/],
  [StreamStart, start, { model: "a\ud800" }, /^model: expected text without lone surrogates/],
  [StreamStart, start, { inputTokens: -4 }, /^inputTokens: expected a whole number from 0/],
  [StreamStart, start, { inputTokens: "4" }, /^inputTokens: expected a whole number, got "4"/],
  [StreamStart, start, { maxOutputTokens: 2 ** 53 }, /^maxOutputTokens: /],
  [StreamStart, start, { streaming: 1 }, /^streaming: expected true or false/],
  [StreamStart, start, { tags: { team: 7 } }, /^tags, "team": expected text/],
  [
    StreamStart,
    start,
    { tags: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [n, ""])) },
    /^tags: .*at most 16/,
  ],
  [TokenDelivered, { ...known, seq: 1 }, { outputTokens: 1.5 }, /^outputTokens: /],
  [TokenDelivered, { ...known, outputTokens: 1 }, { seq: undefined }, /^seq: expected a whole number/],
  [StreamEnd, end, { outcome: "abandoned" }, /^outcome: expected one of completed, cancelled, failed, timed_out/],
  [StreamEnd, end, { usageSource: "guess" }, /^usageSource: expected one of provider/],
  [StreamEnd, end, { usage: { prompt_tokens: 3 } }, /^usage: no counter is called prompt_tokens/],
  [StreamEnd, end, { usage: { outputTokens: -1 } }, /^outputTokens: /],
  [StreamEnd, end, { usage: { audioSeconds: "1.2345" } }, /^audioSeconds: .* 3 decimal places/],
  [StreamEnd, end, { upstreamCostUsd: "1e3" }, /^upstreamCostUsd: /],
  [StreamEnd, end, { upstreamCostUsd: "1000000000.1" }, /^upstreamCostUsd: /],
  [StreamEnd, end, { finishReasons: "stop" }, /^finishReasons: expected an array/],
];

for (const [Kind, fields, change, message] of wrong) {
  test(`${Kind.name} with ${Object.keys(change)[0]} ${JSON.stringify(Object.values(change)[0])} is refused`, () => {
    assert.throws(() => new Kind({ ...fields, ...change }), { message });
  });
}

test("128 characters outside the basic plane are 128 characters", () => {
  assert.equal(new StreamStart({ ...start, customerId: "😀".repeat(128) }).fields.customerId.length, 256);
});

test("a start is written as the contract says", () => {
  const event = new StreamStart({ ...start, inputTokens: 812, apiKeyId: "k1", tags: { team: "ink" } });
  assert.deepEqual(JSON.parse(encodeEvent(event, "/gateways/eu-1")), {
    specversion: "1.0",
    type: "stream-start",
    source: "/gateways/eu-1",
    id: "01J9:start",
    subject: "acme",
    time: "2026-11-23T15:00:00.123Z",
    data: {
      stream_id: "01J9",
      provider: "anthropic",
      model: "claude-opus-4.7",
      streaming: true,
      operation: "chat",
      input_tokens: 812,
      api_key_id: "k1",
      tags: { team: "ink" },
    },
  });
});

test("an end is written as the contract says, its cost within the usage", () => {
  const usage = { inputTokens: 812, outputTokens: 37, cacheWrite1hInputTokens: 2, audioSeconds: 12.5 };
  const event = new StreamEnd({
    ...end,
    usage,
    usageSource: "gateway_count",
    finishReasons: ["stop"],
    responseModel: "claude",
    errorType: "x",
    upstreamCostUsd: "0.0120",
  });
  assert.deepEqual(JSON.parse(encodeEvent(event, "/g")).data, {
    stream_id: "01J9",
    outcome: "completed",
    usage: {
      input_tokens: 812,
      output_tokens: 37,
      cache_write_1h_input_tokens: 2,
      audio_seconds: "12.5",
      upstream_cost_usd: "0.012",
    },
    usage_source: "gateway_count",
    finish_reasons: ["stop"],
    response_model: "claude",
    error_type: "x",
  });
});

test("a line is ASCII", () => {
  const line = encodeEvent(new StreamStart({ ...start, customerId: "Ünïcödé 😀\u007f" }), "/g");
  assert.match(line, /^[\x20-\x7e]+$/);
  assert.equal(JSON.parse(line).subject, "Ünïcödé 😀\u007f");
});

test("only the highest token-delivered event of each stream is kept", () => {
  const told = (streamId, seq, outputTokens) => new TokenDelivered({ ...known, streamId, seq, outputTokens });
  const [first, later, other] = [told("a", 1, 16), told("a", 2, 40), told("b", 1, 3)];
  const begun = new StreamStart(start);
  assert.deepEqual(coalesce([begun, first, other, later, told("a", 1, 16)]), [begun, later, other]);
  const sideways = told("a", 3, 20);
  assert.deepEqual(coalesce([later, sideways]), [later, sideways]);
});
