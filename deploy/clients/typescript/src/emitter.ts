/** The emitter takes events, spools them to disk, and posts them until they are acknowledged. */

import { randomUUID } from "node:crypto";

import { type Tokenizer, estimateTokens } from "./answers/outputCount.js";
import type { Key } from "./delivery.js";
import { StreamEnd, StreamStart, TokenDelivered, type UsageEvent } from "./events.js";
import type { Hold, HoldOptions, HoldRequest } from "./hold.js";
import { type HoldSettings, type HoldStats, Holds } from "./holds.js";
import { type StreamIdentity, StreamMeter, type TextCounter } from "./meter.js";
import { Pump } from "./pump.js";
import { type EmitterStats, type Log, safeLog } from "./reports.js";
import { Signal } from "./signal.js";
import { MeteredStream } from "./stream.js";

/** Options of an emitter; times in milliseconds. */
export interface EmitterOptions {
  /** The root of the API. */
  readonly url: string;
  /** A key with the role `ingest`. A function is asked for each request, so that a key can be replaced. */
  readonly key: Key;
  /** Names this gateway instance, e.g. "/gateways/eu-1". */
  readonly source: string;
  /** The folder for events until they are acknowledged. Emitters of this package may share it, others may not. */
  readonly spool: string;
  /** Events are gathered for this long before they are written. Default: 50. */
  readonly flushIntervalMs?: number;
  /** Events in memory that wait for the disk. Default: 100,000. */
  readonly maxQueueEvents?: number;
  /** Default: 1 GiB. */
  readonly maxSpoolBytes?: number;
  /** The time of one request. Default: 10,000. */
  readonly timeoutMs?: number;
  /** The pause while a setting is wrong, such as the key. Default: 30,000. */
  readonly slowRetryMs?: number;
  /** Acknowledged events are kept for this long, for a server that is restored from a backup. Default: 0. */
  readonly keepSentMs?: number;
  /** Default: 1 GiB. */
  readonly maxSentBytes?: number;
  /** Counts the tokens of texts. Default: an estimate of a token per four bytes of UTF-8. */
  readonly tokenizer?: Tokenizer;
  /** Default: `console.warn` and `console.error`. */
  readonly log?: Log;
  /** How long a hold is waited for, and what passes without one. */
  readonly holds?: HoldSettings;
}

/** Options of one stream: the fields of its start, and how it is metered. */
export interface StreamOptions extends Omit<StreamIdentity, "streamId"> {
  /** Made up if you give none. */
  readonly streamId?: string | undefined;
  /** Aborted when the client goes away or the time is over: decides between cancelled, timed out and failed. */
  readonly signal?: AbortSignal | undefined;
  /** In place of the emitter's. */
  readonly tokenizer?: Tokenizer | undefined;
}

/** Options of `metered`. With `hold`, money is set aside first. */
export interface MeteredOptions extends StreamOptions, Partial<HoldOptions> {
  /** Wait until the stream-start is on disk, one second at most, before the function is called. Default: false. */
  readonly durable?: boolean;
}

const CLOSE_MS = 5_000;

/** Posts usage events to the ingest API; one per process and spool is enough. */
export class Emitter {
  readonly #pump: Pump;
  readonly #holds: Holds;
  /** The open streams with a hold, which the service may stop. */
  readonly #held = new Map<string, MeteredStream>();
  readonly #log: Log;
  readonly #tokenizer: Tokenizer | undefined;
  /** The calls of `metered` that have not returned. */
  #running = 0;
  readonly #ran = new Signal();

  /**
   * Start its tasks, and resend the events that dead processes left in the same spool.
   *
   * Throws a SpoolError if the folder cannot be used, a TypeError or a RangeError if an option is wrong.
   */
  constructor(options: EmitterOptions) {
    const gib = 2 ** 30;
    this.#log = safeLog(options.log);
    this.#tokenizer = options.tokenizer;
    this.#pump = new Pump({
      url: options.url,
      key: options.key,
      source: options.source,
      spool: options.spool,
      flushIntervalMs: options.flushIntervalMs ?? 50,
      maxQueueEvents: options.maxQueueEvents ?? 100_000,
      maxSpoolBytes: options.maxSpoolBytes ?? gib,
      timeoutMs: options.timeoutMs ?? 10_000,
      slowRetryMs: options.slowRetryMs ?? 30_000,
      keepSentMs: options.keepSentMs ?? 0,
      maxSentBytes: options.maxSentBytes ?? gib,
      log: this.#log,
      onStop: (streamIds) => this.#stop(streamIds),
    });
    this.#holds = new Holds(options.url, options.key, options.holds ?? {}, this.#log);
    openAtExit(this, this.#pump);
  }

  /** Take one event. Returns at once and never throws, in any state of server, network and disk. */
  emit(event: UsageEvent): void {
    if (event instanceof StreamStart || event instanceof TokenDelivered || event instanceof StreamEnd) {
      this.#pump.put(event);
    } else {
      this.#pump.refuse("emit was given something that is no event");
    }
  }

  /**
   * Begin a stream: its start is emitted now, before the first byte goes upstream. See `MeteredStream`.
   *
   * Throws a TypeError or a RangeError that names the field which is wrong.
   */
  stream(options: StreamOptions): MeteredStream {
    return this.#begin(options);
  }

  #begin(options: StreamOptions, hold?: Hold): MeteredStream {
    const { signal, tokenizer, streamId, ...identity } = options;
    const counter = this.#counterFor(options.model, tokenizer ?? this.#tokenizer);
    const known = { ...identity, streamId: streamId ?? randomUUID().replaceAll("-", "") };
    const meter = new StreamMeter(known, counter, (event) => this.emit(event));
    this.emit(meter.start);
    const onEnd = (): boolean => this.#held.delete(known.streamId);
    return new MeteredStream(meter, signal, () => this.#pump.spooledSoFar(), { hold, onEnd, log: this.#log });
  }

  #stop(streamIds: readonly string[]): void {
    for (const streamId of streamIds) {
      const stream = this.#held.get(streamId);
      if (stream === undefined || !this.#held.delete(streamId)) continue;
      this.#holds.counters.stopped += 1;
      stream.stop();
    }
  }

  /**
   * Call a function with a stream that ends exactly once: as completed when the function returns, as cancelled
   * with an AbortError, as timed out with a TimeoutError, and as failed with any other error. Errors pass on.
   *
   * With `hold`, it rejects with a HoldRefused or a HoldUnavailable, and calls and emits nothing, if there is no
   * money. After a stop, the stream ends as cancelled, with the error type `budget`.
   */
  async metered<T>(options: MeteredOptions, run: (stream: MeteredStream) => T | PromiseLike<T>): Promise<T> {
    const { durable = false, hold, sliceOutputTokens, leaseSeconds, ...known } = options;
    const stream =
      hold === undefined
        ? this.stream(known)
        : await this.heldStream({ ...known, hold, sliceOutputTokens, leaseSeconds });
    this.#running += 1;
    try {
      if (durable) await stream.startOnDisk();
      const result = await run(stream);
      stream.endBy(undefined);
      return result;
    } catch (error) {
      stream.endBy(error ?? new Error("no reason"));
      throw error;
    } finally {
      this.#running -= 1;
      this.#ran.notify();
    }
  }

  /**
   * Ask for a hold, and begin the stream once there is one. Rejects with a HoldRefused if it must not begin, and
   * with a HoldUnavailable if the service did not answer in time; then nothing is emitted.
   */
  async heldStream(options: StreamOptions & HoldOptions): Promise<MeteredStream> {
    const { hold, sliceOutputTokens, leaseSeconds, ...known } = options;
    const streamId = known.streamId ?? randomUUID().replaceAll("-", "");
    const asked = { ...known, streamId, hold, sliceOutputTokens, leaseSeconds };
    const held = await this.#holds.take(asked, known.signal);
    const failedOpen = held.failedOpen ? true : undefined;
    const stream = this.#begin({ ...known, streamId, failedOpen }, held);
    this.#held.set(streamId, stream);
    return stream;
  }

  /** The hold of a stream whose events you make yourself. If it has `failedOpen`, its stream-start has it, too. */
  hold(request: HoldRequest): Promise<Hold> {
    return this.#holds.take(request);
  }

  /** Release a hold of which nothing went upstream; false if the stream has begun: then post its stream-end. */
  release(customerId: string, streamId: string): Promise<boolean> {
    return this.#holds.release(customerId, streamId);
  }

  /** The number of holds of this process by what became of them. */
  holdStats(): HoldStats {
    return { ...this.#holds.counters };
  }

  /** The number of events by what happened to them so far. */
  stats(): EmitterStats {
    return { ...this.#pump.counters, spooled: this.#pump.spooled };
  }

  /**
   * Wait for running `metered` calls, spool all events, and send until all are acknowledged. `timeoutMs` is for
   * all of this.
   *
   * Resolves to whether all were acknowledged; the others stay on disk for the next process. Further calls are
   * harmless.
   */
  async close(timeoutMs = CLOSE_MS): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    const left = (): number => Math.max(0, deadline - performance.now());
    this.#ran.keepAlive();
    while (this.#running > 0 && left() > 0) await this.#ran.wait(left());
    const done = await this.#pump.close(left());
    emitters.delete(this);
    return done;
  }

  #counterFor(model: string, tokenizer: Tokenizer | undefined): TextCounter {
    if (tokenizer === undefined) return { count: estimateTokens, source: () => "estimate" };
    let failed = false;
    const count = (text: string): number => {
      try {
        const tokens = tokenizer(text, model);
        if (Number.isSafeInteger(tokens) && tokens >= 0) return tokens;
        throw new RangeError(`it gave ${String(tokens)}`);
      } catch (error) {
        if (!failed) this.#log("error", `the tokenizer fails, output is estimated: ${String(error)}`);
        failed = true;
        return estimateTokens(text);
      }
    };
    return { count, source: () => (failed ? "estimate" : "gateway_count") };
  }
}

/** Those that are open. One listener is for all: Node warns of many. */
const emitters = new Map<Emitter, Pump>();
let listens = false;

function openAtExit(emitter: Emitter, pump: Pump): void {
  if (!listens) process.on("beforeExit", closeAll).on("exit", spoolAll);
  listens = true;
  emitters.set(emitter, pump);
}

/** Nothing keeps the process alive any more: send what is left. */
function closeAll(): void {
  for (const emitter of emitters.keys()) void emitter.close();
}

/** The process exits: what is not on disk is written now, for the next one. */
function spoolAll(): void {
  for (const pump of emitters.values()) pump.spoolNow();
}
