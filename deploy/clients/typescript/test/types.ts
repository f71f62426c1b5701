/** What must compile, and what must not: checked by `npm test`, never run. */

import {
  Emitter,
  type EmitterStats,
  type MeteredStream,
  type Outcome,
  StreamEnd,
  StreamStart,
  type Usage,
  usageOf,
} from "stream-metering-emitter";

const emitter = new Emitter({ url: "http://127.0.0.1:8000", key: async () => "mk_a_b", source: "/g", spool: "s" });
const options = { customerId: "acme", provider: "openai", model: "gpt-4o" };

interface Chunk {
  readonly id: string;
}

export async function everyWay(chunks: AsyncIterable<Chunk>): Promise<number> {
  using stream = emitter.stream({ ...options, inputTokens: 3, tags: { team: "ink" } });
  await using other = emitter.stream(options);
  for await (const chunk of stream.through(chunks)) chunk.id.trim();
  other.end({ outcome: "cancelled", usage: { inputTokens: 3, outputTokens: 1 }, usageSource: "gateway_count" });
  const length: number = await emitter.metered({ ...options, durable: true }, (metered: MeteredStream) => {
    metered.take({ choices: [] });
    return metered.streamId.length;
  });
  return length;
}

const usage: Usage = usageOf({ prompt_tokens: 3 }, "openai");
const stats: EmitterStats = emitter.stats();
const outcome: Outcome = "timed_out";
const known = { customerId: "acme", streamId: "s", time: new Date() };
emitter.emit(new StreamEnd({ ...known, outcome, usage, responseId: stats.sent > 0 ? "x" : undefined }));

// @ts-expect-error a start has a model
emitter.emit(new StreamStart({ ...known, provider: "openai" }));
// @ts-expect-error abandoned is what the service derives
emitter.emit(new StreamEnd({ ...known, outcome: "abandoned" }));
// @ts-expect-error names are those of our counters
emitter.emit(new StreamEnd({ ...known, outcome, usage: { prompt_tokens: 3 } }));
// @ts-expect-error an emitter has a spool
new Emitter({ url: "http://127.0.0.1:8000", key: "mk_a_b", source: "/g" });
