/** A stream ends exactly once, with what the upstream reported or what was counted of it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { usageOf } from "stream-metering-emitter";

import { decimalText, picounits } from "../dist/answers/decimal.js";
import { startEmitter, startSink } from "./sink.js";

const asked = { customerId: "acme", provider: "openai", model: "gpt-4o", streamId: "s" };

/** The data of the events of the stream that `run` meters. */
async function metered(t, run, options = {}) {
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url, { flushIntervalMs: 0 });
  let thrown;
  try {
    await run(emitter, { ...asked, ...options });
  } catch (error) {
    thrown = error;
  }
  assert.equal(await emitter.close(), true);
  assert.deepEqual([emitter.stats().rejected, emitter.stats().dropped], [0, 0]);
  const { "s:start": start, "s:end": end, ...told } = Object.fromEntries(sink.events);
  const ends = sink.requests.flatMap(({ events }) => events).filter(({ type }) => type === "stream-end");
  assert.ok(ends.length <= 1);
  return {
    start: start.data,
    end: end?.data,
    told: Object.values(told).map(({ data }) => data),
    thrown,
    time: end?.time,
  };
}

const chunk = (delta, more = {}) => ({
  id: "chatcmpl-1",
  object: "chat.completion.chunk",
  model: "gpt-4o-2024-08-06",
  choices: [{ index: 0, delta, finish_reason: null }],
  ...more,
});
const finished = { ...chunk({}), choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
const usage = { ...chunk({}), choices: [], usage: { prompt_tokens: 9, completion_tokens: 5, total_tokens: 14 } };

async function* of(...chunks) {
  yield* chunks;
}

test("chat chunks: the usage, the ids and the finish reason are the upstream's", async (t) => {
  const { start, end } = await metered(t, (emitter, options) =>
    emitter.metered({ ...options, inputTokens: 8 }, (stream) => {
      for (const each of [chunk({ role: "assistant", content: "Hello" }), finished, usage]) stream.take(each);
    }),
  );
  assert.equal(start.input_tokens, 8);
  assert.deepEqual(end, {
    stream_id: "s",
    outcome: "completed",
    usage: { input_tokens: 9, output_tokens: 5 },
    usage_source: "provider",
    finish_reasons: ["stop"],
    response_model: "gpt-4o-2024-08-06",
    response_id: "chatcmpl-1",
  });
});

test("Anthropic's events: text, thinking and tools are output, and the cache is in the input", async (t) => {
  const { end } = await metered(
    t,
    (emitter, options) =>
      emitter.metered(options, (stream) => {
        const first = {
          input_tokens: 10,
          cache_read_input_tokens: 90,
          output_tokens: 1,
          service_tier: "priority",
        };
        stream.take({ type: "message_start", message: { id: "msg_1", model: "claude-x", usage: first } });
        stream.take({ type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "Hm" } });
        stream.take({ type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "Hi" } });
        stream.take({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 42 } });
        stream.take({ type: "message_stop" });
      }),
    { provider: "anthropic" },
  );
  assert.deepEqual(end.usage, { input_tokens: 100, output_tokens: 42, cache_read_input_tokens: 90 });
  assert.deepEqual([end.response_id, end.response_model, end.service_tier], ["msg_1", "claude-x", "priority"]);
  assert.deepEqual([end.usage_source, end.finish_reasons], ["provider", ["end_turn"]]);
});

test("Responses events: deltas are counted once, and the response that ends the stream has the usage", async (t) => {
  const { end } = await metered(t, (emitter, options) =>
    emitter.metered(options, (stream) => {
      const text = "x".repeat(400);
      stream.take({ type: "response.output_text.delta", output_index: 0, content_index: 0, delta: text });
      const output = [{ type: "message", content: [{ type: "output_text", text }] }];
      const counts = { input_tokens: 7, output_tokens: 100, output_tokens_details: { reasoning_tokens: 60 } };
      const response = { id: "resp_1", model: "gpt-5", status: "completed", output, usage: counts };
      stream.take({ type: "response.completed", response });
    }),
  );
  assert.deepEqual(end.usage, { input_tokens: 7, output_tokens: 100, reasoning_output_tokens: 60 });
  assert.deepEqual([end.response_id, end.finish_reasons], ["resp_1", ["completed"]]);
});

test("without usage, the output is estimated at four bytes a token, or counted by a tokenizer", async (t) => {
  const take = (emitter, options) =>
    emitter.metered(options, (stream) => {
      stream.take(chunk({ content: "é".repeat(10) }));
      stream.take(chunk({ content: "" }));
      stream.text("abcd", { reasoning: true });
    });
  const estimated = await metered(t, take, { inputTokens: 3 });
  assert.deepEqual(estimated.end.usage, { input_tokens: 3, output_tokens: 6, reasoning_output_tokens: 1 });
  assert.equal(estimated.end.usage_source, "estimate");
  const counted = await metered(t, take, { tokenizer: (text, model) => (model === "gpt-4o" ? text.length : 0) });
  assert.deepEqual(counted.end.usage, { output_tokens: 14, reasoning_output_tokens: 4 });
  assert.equal(counted.end.usage_source, "gateway_count");
  const broken = await metered(t, take, { tokenizer: () => Number.NaN });
  assert.deepEqual([broken.end.usage.output_tokens, broken.end.usage_source], [6, "estimate"]);
});

test("token-delivered comes every 16 tokens, and carries the highest counts", async (t) => {
  const { told } = await metered(t, async (emitter, options) => {
    const stream = emitter.stream(options);
    for (let tokens = 1; tokens <= 40; tokens += 1)
      stream.delivered({ outputTokens: tokens, reasoningOutputTokens: 2 });
    await new Promise((resolve) => setTimeout(resolve, 300));
    stream.delivered({ outputTokens: 41 });
    stream.end({ outcome: "cancelled" });
  });
  assert.deepEqual(told[0], { stream_id: "s", seq: 2, output_tokens: 32, reasoning_output_tokens: 2 });
  assert.deepEqual(told.at(-1), { stream_id: "s", seq: 3, output_tokens: 41 });
});

class APIUserAbortError extends Error {}
class APIConnectionTimeoutError extends Error {}
const named = (name, message = "x") => Object.assign(new Error(message), { name });
const outcomes = [
  [new DOMException("gone", "AbortError"), "cancelled", undefined],
  [new DOMException("late", "TimeoutError"), "timed_out", "TimeoutError"],
  [new APIUserAbortError("gone"), "cancelled", undefined],
  [new APIConnectionTimeoutError("late"), "timed_out", "APIConnectionTimeoutError"],
  [new TypeError("fetch failed", { cause: named("ConnectTimeoutError") }), "timed_out", "TypeError"],
  [Object.assign(new Error("closed"), { code: "ERR_STREAM_PREMATURE_CLOSE" }), "cancelled", undefined],
  [new RangeError("no"), "failed", "RangeError"],
  ["a string", "failed", "string"],
  [undefined, "failed", "Error"],
];
for (const [error, outcome, errorType] of outcomes) {
  test(`${String(error)} ends a metered stream as ${outcome}, and passes on`, async (t) => {
    const { end, thrown } = await metered(t, (emitter, options) =>
      emitter.metered(options, (stream) => {
        stream.text("abcd");
        throw error;
      }),
    );
    assert.equal(thrown, error);
    assert.deepEqual([end.outcome, end.error_type], [outcome, errorType]);
    assert.deepEqual(end.usage, { output_tokens: 1 });
  });
}

test("the signal decides, whatever is thrown", async (t) => {
  const gone = new AbortController();
  gone.abort("the client left");
  const cancelled = await metered(t, (emitter, options) => emitter.metered(options, () => Promise.reject("?")), {
    signal: gone.signal,
  });
  assert.deepEqual([cancelled.end.outcome, cancelled.end.usage], ["cancelled", undefined]);
  const late = AbortSignal.timeout(1);
  await new Promise((resolve) => setTimeout(resolve, 20));
  const timedOut = await metered(t, (emitter, options) => emitter.metered(options, () => Promise.reject("?")), {
    signal: late,
  });
  assert.deepEqual([timedOut.end.outcome, timedOut.end.error_type], ["timed_out", "TimeoutError"]);
});

test("a stream ends once: what comes later is not counted", async (t) => {
  const { end } = await metered(t, (emitter, options) =>
    emitter.metered(options, (stream) => {
      stream.text("abcd");
      stream.end({ outcome: "failed", errorType: "content_filter", finishReason: "content_filter" });
      stream.text("abcdefgh");
      stream.end();
      throw new Error("later");
    }),
  );
  assert.deepEqual([end.outcome, end.error_type, end.usage.output_tokens], ["failed", "content_filter", 1]);
  assert.deepEqual(end.finish_reasons, ["content_filter"]);
});

test("who leaves after the last token and its usage has got everything", async (t) => {
  const { end } = await metered(t, (emitter, options) => {
    const stream = emitter.stream(options);
    for (const each of [chunk({ content: "Hi" }), finished, usage]) stream.take(each);
    stream.end({ outcome: "cancelled" });
  });
  assert.equal(end.outcome, "completed");
});

test("through ends a stream with its chunks, with the loop, or with the error", async (t) => {
  const loop = (chunks, stopAt) => async (emitter, options) => {
    let seen = 0;
    for await (const each of emitter.stream(options).through(chunks)) {
      assert.ok(each.id);
      if (++seen === stopAt) break;
    }
  };
  const all = await metered(t, loop(of(chunk({ content: "Hi" }), finished, usage)));
  assert.deepEqual([all.end.outcome, all.end.usage_source], ["completed", "provider"]);
  const left = await metered(t, loop(of(chunk({ content: "abcdefgh" }), chunk({ content: "x" })), 1));
  assert.deepEqual([left.end.outcome, left.end.usage], ["cancelled", { output_tokens: 2 }]);
  const broken = await metered(t, loop(of(chunk({ content: "abcd" }), null)));
  assert.deepEqual([broken.end.outcome, broken.end.error_type], ["failed", "TypeError"]);
});

test("a block that is left without an end ends the stream: Node does not say why", async (t) => {
  const leave = (prepare, options) =>
    metered(
      t,
      async (emitter, known) => {
        const stream = emitter.stream(known);
        prepare(stream);
        await stream[Symbol.asyncDispose]();
        stream[Symbol.dispose]();
      },
      options,
    );
  const open = await leave((stream) => stream.take(chunk({ content: "Hi" })));
  assert.deepEqual([open.end.outcome, open.end.error_type], ["failed", "not_ended"]);
  const whole = await leave((stream) => stream.take(finished));
  assert.equal(whole.end.outcome, "completed");
  const aborted = await leave(() => undefined, { signal: AbortSignal.abort() });
  assert.equal(aborted.end.outcome, "cancelled");
});

test("usage is an upstream's object, or ours with who counted", async (t) => {
  const { end } = await metered(t, (emitter, options) => {
    const stream = emitter.stream(options);
    assert.throws(() => stream.end({ usage: { inputTokens: 3 } }), { message: /^usageSource: say who counted/ });
    assert.throws(() => stream.end({ usage: { inputTokens: 3 }, usageSource: "me" }), {
      message: /^usageSource: /,
    });
    assert.throws(() => stream.end({ outcome: "abandoned" }), { message: /^outcome: expected one of/ });
    stream.answeredBy({ provider: "azure", model: "gpt-4o-eu" });
    stream.end({ usage: { inputTokens: 3, outputTokens: 4 }, usageSource: "gateway_count" });
  });
  assert.deepEqual([end.usage, end.usage_source], [{ input_tokens: 3, output_tokens: 4 }, "gateway_count"]);
  assert.deepEqual([end.response_provider, end.response_model], ["azure", "gpt-4o-eu"]);
});

test("times of a stream do not follow a clock that jumps back", async (t) => {
  const now = Date.now;
  const { time } = await metered(t, (emitter, options) => {
    const stream = emitter.stream(options);
    Date.now = () => now() - 3_600_000;
    stream.end();
    Date.now = now;
  });
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
});

test("closing waits for streams that are running", async (t) => {
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url);
  const running = emitter.metered(asked, () => new Promise((resolve) => setTimeout(resolve, 100)));
  assert.equal(await emitter.close(), true);
  await running;
  assert.equal(sink.events.get("s:end").data.outcome, "completed");
  assert.equal(emitter.stats().dropped, 0);
});

test("a field that is wrong is named when the stream is made, and nothing is emitted", (t) => {
  const { emitter } = startEmitter(t, "http://127.0.0.1:9");
  assert.throws(() => emitter.stream({ ...asked, customerId: "" }), { message: /^customerId: / });
  assert.throws(() => emitter.stream(asked).delivered({ outputTokens: -1 }), { message: /^outputTokens: / });
  assert.throws(() => emitter.stream(asked).take("data: {}"), { message: /^chunk: expected an object/ });
});

test("usageOf reads vendors' usage objects", () => {
  const xai = { prompt_tokens: 9, completion_tokens: 50, completion_tokens_details: { reasoning_tokens: 40 } };
  assert.deepEqual(usageOf(xai, "x-ai"), { inputTokens: 9, outputTokens: 90, reasoningOutputTokens: 40 });
  const gemini = { promptTokenCount: 5, candidatesTokenCount: 3, thoughtsTokenCount: 4, totalTokenCount: 12 };
  assert.deepEqual(usageOf(gemini, "google"), { inputTokens: 5, outputTokens: 7, reasoningOutputTokens: 4 });
});

test("decimals of upstreams are exact", () => {
  const read = (value, places = 12) => {
    const amount = picounits(value, places);
    return amount === undefined ? undefined : decimalText(amount);
  };
  assert.deepEqual(
    [0.1, "1e-7", 12.5, "0.0000000000005", 1e21].map((value) => read(value)),
    ["0.1", "0.0000001", "12.5", "0", undefined],
  );
  assert.deepEqual(
    ["1.0005", "1.0015", "-1", "x", null, true].map((value) => read(value, 3)),
    ["1", "1.002", undefined, undefined, undefined, undefined],
  );
});
