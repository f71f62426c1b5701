/** What an emitter reports: counts of its events, and lines of the log that cannot flood it. */

/** Where lines of the log go. Default: `console.warn` and `console.error`. */
export type Log = (level: "warn" | "error", message: string) => void;

/**
 * The number of events by what happened to them.
 *
 * Once closed: emitted + inherited = coalesced + sent + rejected + dropped + spooled.
 */
export interface EmitterStats {
  /** Passed to `emit`. */
  readonly emitted: number;
  /** Found in the spool of a dead process. */
  readonly inherited: number;
  /** Left out because a later event of the same stream carries higher counters. */
  readonly coalesced: number;
  /** In the spool now, not acknowledged. */
  readonly spooled: number;
  /** Acknowledged by the server. */
  readonly sent: number;
  /** Rejected by the server for good; kept in rejected.ndjson. */
  readonly rejected: number;
  /** Lost: no room in the queue or in the spool, or emitted after `close`. */
  readonly dropped: number;
  /** Requests that had to be repeated. */
  readonly retries: number;
}

/** `EmitterStats` without what is in the spool, to be counted up. */
export type Counters = { -readonly [name in Exclude<keyof EmitterStats, "spooled">]: number };

export function newCounters(): Counters {
  return { emitted: 0, inherited: 0, coalesced: 0, sent: 0, rejected: 0, dropped: 0, retries: 0 };
}

/** Calls the log, and survives one that throws. */
export function safeLog(log: Log | undefined): Log {
  const write: Log = log ?? ((level, message) => console[level](`metering: ${message}`));
  return (level, message) => {
    try {
      write(level, message);
    } catch {
      // A log that fails must not stop the metering.
    }
  };
}

/** Says a trouble once when it begins, once when it changes its kind, and once when it is over. */
export class Troubles {
  readonly #log: Log;
  readonly #open = new Map<string, { kind: string; since: number }>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** There is a trouble; nothing is said if it is known. */
  arises(about: string, kind: string, message: string): void {
    const known = this.#open.get(about);
    if (known?.kind === kind) return;
    this.#open.set(about, { kind, since: known?.since ?? performance.now() });
    this.#log("error", message);
  }

  /** There is none; says so, and how long it lasted, if there was one. */
  passes(about: string, message: string): void {
    const known = this.#open.get(about);
    if (known === undefined) return;
    this.#open.delete(about);
    this.#log("warn", `${message}, after ${((performance.now() - known.since) / 1000).toFixed(0)} s`);
  }
}

const QUIET_MS = 10_000;
const MAX_KINDS = 64;

/** Logs an error at once, and one of the same kind again only after ten seconds, with the count since then. */
export class ErrorLog {
  readonly #log: Log;
  readonly #kinds = new Map<string, { at: number; unlogged: number }>();

  constructor(log: Log) {
    this.#log = log;
  }

  error(kind: string, detail: string, count = 1): void {
    const now = performance.now();
    const known = this.#kinds.get(kind);
    if (known !== undefined && now - known.at < QUIET_MS) {
      known.unlogged += count;
      return;
    }
    if (this.#kinds.size >= MAX_KINDS) this.#kinds.clear();
    this.#kinds.set(kind, { at: now, unlogged: 0 });
    this.#log("error", `${kind}: ${detail} (${(known?.unlogged ?? 0) + count} since the last such line)`);
  }
}
