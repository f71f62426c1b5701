/**
 * The tasks of an emitter, from the queue in memory to the server's acknowledgement.
 *
 * The *spooler* writes emitted events to disk every few milliseconds, the *sender* posts them from disk to the
 * server, and the *keeper* takes over what dead processes left. A server that is down or hangs never delays the
 * spooler, and a crash of the process loses at most the events of one flush interval.
 */

import { Backoff } from "./backoff.js";
import { coalesce, encodeEvent } from "./cloudevents.js";
import { Delivery, type Key, type Verdict } from "./delivery.js";
import { TokenDelivered, type UsageEvent } from "./events.js";
import { type Counters, ErrorLog, type Log, Troubles, newCounters } from "./reports.js";
import { type Contents, type Segment, readSegment } from "./segments.js";
import { SentEvents } from "./sent.js";
import { Signal } from "./signal.js";
import { Spool } from "./spool.js";

const MAX_BATCH_EVENTS = 1_000;
/** Starts and ends get a quarter more room than token-delivered events, which later events make up for. */
const HEADROOM = 4;
const KEEPER_MS = 10_000;
const IDLE_MS = 60_000;
/** A disk that hangs holds up closing for this long after the time is over. */
const GRACE_MS = 500;
/** The most different warnings of an answer in one line of the log. */
const MAX_WARNINGS = 5;
const SERVER = "server";

/** What `Emitter` is given, with the defaults filled in. */
export interface PumpOptions {
  readonly url: string;
  readonly key: Key;
  readonly source: string;
  readonly spool: string;
  readonly flushIntervalMs: number;
  readonly maxQueueEvents: number;
  readonly maxSpoolBytes: number;
  readonly timeoutMs: number;
  readonly slowRetryMs: number;
  readonly keepSentMs: number;
  readonly maxSentBytes: number;
  readonly log: Log;
  /** Called with the ids of streams that have to end, as the server's answer says. */
  readonly onStop: (streamIds: readonly string[]) => void;
}

export class Pump {
  readonly counters: Counters = newCounters();
  readonly #options: PumpOptions;
  readonly #errors: ErrorLog;
  readonly #troubles: Troubles;
  readonly #queued = new Signal();
  readonly #hurry = new Signal();
  readonly #closing = new Signal();
  readonly #delivery: Delivery;
  readonly #spool: Spool;
  readonly #sent: SentEvents;
  readonly #backoff: Backoff;
  readonly #spooler: Promise<void>;
  readonly #sender: Promise<void>;
  readonly #keeper: Promise<void>;
  #queue: UsageEvent[] = [];
  /** The batch that is being written. */
  #batch: readonly UsageEvent[] = [];
  /** Who waits until that many events were written, in order. */
  #waiting: { readonly count: number; readonly tell: () => void }[] = [];
  #queuedCount = 0;
  #writtenCount = 0;
  #deadline: number | undefined;
  /** The tasks that bring segments. */
  #bringing = 2;
  #closed: Promise<boolean> | undefined;

  /** Throws a SpoolError if the folder cannot be used, a RangeError or TypeError if an option is wrong. */
  constructor(options: PumpOptions) {
    this.#options = options;
    this.#errors = new ErrorLog(options.log);
    this.#troubles = new Troubles(options.log);
    this.#delivery = new Delivery(options.url, options.key, options.timeoutMs);
    this.#spool = new Spool({
      root: options.spool,
      softBytes: options.maxSpoolBytes,
      hardBytes: options.maxSpoolBytes + Math.floor(options.maxSpoolBytes / HEADROOM),
      segmentEvents: MAX_BATCH_EVENTS,
      log: options.log,
    });
    this.#sent = new SentEvents(options.spool, options.keepSentMs, options.maxSentBytes, this.#errors);
    this.#backoff = new Backoff(options.slowRetryMs);
    this.#spooler = this.#runSpooler();
    this.#sender = this.#runSender();
    this.#keeper = this.#runKeeper();
  }

  /** The number of events on disk that are not acknowledged. */
  get spooled(): number {
    return this.#spool.pendingEvents;
  }

  /** Take one event; see `Emitter.emit`. */
  put(event: UsageEvent): void {
    this.counters.emitted += 1;
    const closed = this.#deadline !== undefined;
    if (closed || this.#queue.length >= this.#queueLimit(event)) {
      this.#drop(
        1,
        closed ? "the emitter is closed" : "the queue in memory is full: the spool's disk is too slow",
      );
      return;
    }
    this.#queue.push(event);
    this.#queuedCount += 1;
    if (this.#queue.length === 1) this.#queued.notify();
    if (this.#queue.length === MAX_BATCH_EVENTS) this.#hurry.notify();
  }

  /** Write what was put so far without delay; resolves when that is done, also when it has failed. */
  spooledSoFar(): Promise<void> {
    if (this.#writtenCount === this.#queuedCount) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push({ count: this.#queuedCount, tell: resolve });
      this.#hurry.notify();
    });
  }

  /** Count what is no event, and log it. */
  refuse(reason: string): void {
    this.counters.emitted += 1;
    this.#drop(1, reason);
  }

  /** Spool all events, and send until all are acknowledged or the time is over; see `Emitter.close`. */
  close(timeoutMs: number): Promise<boolean> {
    this.#closed ??= this.#close(timeoutMs);
    return this.#closed;
  }

  /**
   * Write what is not on disk yet at once, because the process exits. The batch that is being written goes again.
   */
  spoolNow(): void {
    const events = coalesce([...this.#batch, ...this.#queue.splice(0)]);
    this.#deadline ??= performance.now();
    try {
      const lines = events.map((event) => encodeEvent(event, this.#options.source));
      if (lines.length > 0) this.#spool.appendNow(lines);
    } catch (error) {
      this.#drop(events.length, `the process exits, and the spool cannot be written: ${String(error)}`);
    }
  }

  async #close(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    this.#deadline = deadline;
    for (const signal of [this.#queued, this.#hurry, this.#closing, this.#spool.changed]) {
      signal.keepAlive();
      signal.notify();
    }
    this.#backoff.interrupt();
    const abort = setTimeout(() => this.#delivery.abort(), timeoutMs);
    const over = new Signal();
    over.keepAlive();
    const finished = Promise.all([this.#spooler, this.#sender, this.#keeper]).then(() => true);
    const inTime = await Promise.race([finished, over.wait(timeoutMs + GRACE_MS).then(() => false)]);
    over.notify();
    clearTimeout(abort);
    if (inTime) await this.#spool.close();
    return inTime && this.#spool.pendingEvents === 0;
  }

  #drop(count: number, reason: string): void {
    this.counters.dropped += count;
    this.#errors.error("usage events are being lost", reason, count);
  }

  #queueLimit(event: UsageEvent): number {
    const most = this.#options.maxQueueEvents;
    return event instanceof TokenDelivered ? most : most + Math.floor(most / HEADROOM);
  }

  async #runSpooler(): Promise<void> {
    for (;;) {
      if (this.#queue.length === 0) {
        if (this.#deadline !== undefined) break;
        await this.#queued.wait(IDLE_MS);
        continue;
      }
      if (this.#deadline === undefined && this.#waiting.length === 0 && this.#queue.length < MAX_BATCH_EVENTS) {
        await this.#hurry.wait(this.#options.flushIntervalMs);
      }
      this.#batch = this.#queue.splice(0, MAX_BATCH_EVENTS);
      await this.#spoolBatch(this.#batch);
      this.#writtenCount += this.#batch.length;
      this.#batch = [];
      this.#tellSpooled();
    }
    this.#bringing -= 1;
    this.#spool.changed.notify();
  }

  /** Call those whose events were in the batches so far. */
  #tellSpooled(): void {
    const later = this.#waiting.findIndex(({ count }) => count > this.#writtenCount);
    for (const { tell } of this.#waiting.splice(0, later < 0 ? this.#waiting.length : later)) tell();
  }

  async #spoolBatch(batch: readonly UsageEvent[]): Promise<void> {
    const needed: string[] = [];
    const spare: string[] = [];
    const coalesced = coalesce(batch);
    this.counters.coalesced += batch.length - coalesced.length;
    for (const event of coalesced) {
      try {
        const line = encodeEvent(event, this.#options.source);
        (event instanceof TokenDelivered ? spare : needed).push(line);
      } catch (error) {
        this.#drop(1, `an event cannot be written as JSON: ${String(error)}`);
      }
    }
    const refused = await this.#spool.append(needed, spare);
    if (refused > 0) this.#drop(refused, "the spool is full, and the server does not accept events");
  }

  async #runKeeper(): Promise<void> {
    while (this.#deadline === undefined) {
      try {
        this.counters.inherited += await this.#spool.keepHouse();
      } catch (error) {
        this.#errors.error("what dead processes left in the spool cannot be taken over", String(error));
      }
      if (this.#deadline === undefined) await this.#closing.wait(KEEPER_MS);
    }
    this.#bringing -= 1;
    this.#spool.changed.notify();
  }

  async #runSender(): Promise<void> {
    for (;;) {
      const drained = this.#bringing === 0;
      const segment = await this.#spool.claim();
      if (segment === undefined) {
        if (drained) return;
        await this.#spool.changed.wait(IDLE_MS);
      } else if (!(await this.#sendUntilDone(segment))) {
        return;
      }
    }
  }

  /** Post one segment until the server has answered for each event; false if closing ran out of time. */
  async #sendUntilDone(segment: Segment): Promise<boolean> {
    let contents: Contents;
    try {
      contents = await readSegment(segment);
    } catch (error) {
      await this.#spool.remove(segment);
      this.#drop(segment.count, `a spool file cannot be read: ${String(error)}`);
      return true;
    }
    if (contents.damaged.length > 0) {
      await this.#setAside(contents.damaged, "not JSON: the spool file was damaged");
    }
    for (;;) {
      const verdict = await this.#delivery.post(contents.lines);
      if (verdict.done) {
        await this.#finish(segment, contents.lines, verdict);
        return true;
      }
      this.counters.retries += 1;
      const kind = verdict.misconfigured ? "setting" : "server";
      const waiting = `usage events wait in the spool (${this.spooled} now)`;
      this.#troubles.arises(SERVER, kind, `${verdict.problem}; ${waiting}`);
      if (!this.#isOutOfTime()) await this.#backoff.wait(verdict, this.#deadline);
      if (this.#isOutOfTime()) {
        this.#spool.giveBack(segment);
        return false;
      }
    }
  }

  async #finish(segment: Segment, lines: readonly string[], verdict: Verdict): Promise<void> {
    const { rejected, warnings } = verdict;
    for (const [index, reason] of rejected) await this.#setAside([lines[index] as string], reason);
    if (warnings.length > 0) {
      const told = warnings.slice(0, MAX_WARNINGS).join("; ");
      this.#errors.error("the server accepted events of which it does not know a field", told);
    }
    this.counters.sent += lines.length - rejected.size;
    await this.#sent.keep(lines.filter((_, index) => !rejected.has(index)));
    await this.#spool.remove(segment);
    if (verdict.stop.length > 0) this.#options.onStop(verdict.stop);
    this.#backoff.reset();
    this.#troubles.passes(SERVER, "the server accepts usage events again");
  }

  async #setAside(lines: readonly string[], reason: string): Promise<void> {
    this.counters.rejected += lines.length;
    this.#errors.error("the server rejected an event, which is kept in rejected.ndjson", reason, lines.length);
    if (!(await this.#spool.setAside(lines, reason))) {
      this.#errors.error("rejected events are lost", "rejected.ndjson is full or cannot be written", lines.length);
    }
  }

  #isOutOfTime(): boolean {
    return this.#deadline !== undefined && performance.now() >= this.#deadline;
  }
}
