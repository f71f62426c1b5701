/** Asks the service for holds, and releases them. Every wait is bounded. */

import { picounits } from "./answers/decimal.js";
import { type Key, checkKey, readBounded, troubleOf } from "./delivery.js";
import {
  type Hold,
  HoldRefused,
  type HoldRequest,
  HoldUnavailable,
  checkHold,
  heldBy,
  holdBody,
  refusalOf,
} from "./hold.js";
import { type Log, Troubles } from "./reports.js";

const MAX_ANSWER_BYTES = 2 ** 20;
const REFUSING: ReadonlySet<number> = new Set([400, 402, 409, 413, 415, 422]);
const PAUSES_MS = [20, 100];
const MINUTE_MS = 60_000;
/** Amounts are added up by parts of a minute, so that many small streams take no more room than few large ones. */
const PART_MS = 1_000;
const PLACES = 12;
const MOST_MODELS = 1_000;
const SERVICE = "holds";

/** What an emitter does about holds; amounts are exact cents as text. */
export interface HoldSettings {
  /** How long an answer is waited for. Default: 1,000. */
  readonly timeoutMs?: number;
  /**
   * While the service does not answer, streams pass up to this amount in any minute. Each counts with what the
   * last hold of its model held. Default: none, so that nothing passes.
   */
  readonly failOpenUsdCentsPerMinute?: string;
  /** What a stream counts with whose model has had no hold yet. Default: "10". */
  readonly failOpenUsdCentsPerStream?: string;
}

/** The number of holds by what became of them. */
export interface HoldStats {
  readonly held: number;
  readonly refused: number;
  readonly unavailable: number;
  readonly failedOpen: number;
  readonly released: number;
  /** Streams that had to end, because their budget was exhausted. */
  readonly stopped: number;
}

interface NoAnswer {
  readonly problem: string;
  readonly mayHaveArrived: boolean;
  readonly misconfigured: boolean;
}

type Answer = { readonly status: number; readonly document: Record<string, unknown> };

/** The holds of one process. */
export class Holds {
  readonly counters: { -readonly [name in keyof HoldStats]: number } = {
    held: 0,
    refused: 0,
    unavailable: 0,
    failedOpen: 0,
    released: 0,
    stopped: 0,
  };
  readonly #endpoint: string;
  readonly #key: Key;
  readonly #timeoutMs: number;
  readonly #allowance: Allowance;
  readonly #troubles: Troubles;

  /** Throws a RangeError if a setting is wrong. */
  constructor(url: string, key: Key, settings: HoldSettings, log: Log) {
    this.#endpoint = `${url.replace(/\/+$/, "")}/v1/holds`;
    this.#key = key;
    this.#timeoutMs = settings.timeoutMs ?? 1_000;
    if (!(this.#timeoutMs > 0 && this.#timeoutMs <= MINUTE_MS)) {
      throw new RangeError(`holds.timeoutMs: expected more than 0 and up to 60000, got ${this.#timeoutMs}`);
    }
    const { failOpenUsdCentsPerMinute: most, failOpenUsdCentsPerStream: perStream = "10" } = settings;
    this.#allowance = new Allowance(most, perStream);
    this.#troubles = new Troubles(log);
  }

  /** The hold of a stream. Throws a HoldRefused or a HoldUnavailable; with a `signal`, also its reason. */
  async take(request: HoldRequest, signal?: AbortSignal): Promise<Hold> {
    checkHold(request);
    const answer = await this.#ask(request, signal);
    if (signal?.aborted === true) {
      // The client has left: nothing goes upstream, so the hold is released.
      if (!(answer instanceof HoldRefused)) void this.#release(request.customerId, request.streamId);
      throw signal.reason;
    }
    if ("problem" in answer) return this.#withoutAnswer(request, answer);
    this.#troubles.passes(SERVICE, "the service answers requests for holds again");
    if (answer instanceof HoldRefused) {
      this.counters.refused += 1;
      throw answer;
    }
    this.counters.held += 1;
    this.#allowance.note(request, answer.heldUsdCents);
    return answer;
  }

  /** Release a hold, because nothing went upstream; false if the stream has begun. Throws a HoldUnavailable. */
  async release(customerId: string, streamId: string): Promise<boolean> {
    const released = await this.#release(customerId, streamId);
    if (typeof released === "boolean") return released;
    throw new HoldUnavailable(`the hold was not released: ${released.problem}`);
  }

  #withoutAnswer(request: HoldRequest, { problem, mayHaveArrived, misconfigured }: NoAnswer): Hold {
    const kind = misconfigured ? "setting" : "service";
    const { customerId, streamId } = request;
    if (this.#allowance.take(request)) {
      this.#troubles.arises(SERVICE, kind, `no hold: ${problem}; streams pass without one`);
      this.counters.failedOpen += 1;
      return { customerId, streamId, failedOpen: true };
    }
    this.#troubles.arises(SERVICE, kind, `no hold: ${problem}; streams do not pass`);
    this.counters.unavailable += 1;
    if (mayHaveArrived) void this.#release(customerId, streamId);
    throw new HoldUnavailable(`the budget cannot be checked: ${problem}`);
  }

  /** Ask until there is an answer, the time is over, or it has failed three times. */
  async #ask(request: HoldRequest, signal: AbortSignal | undefined): Promise<Hold | HoldRefused | NoAnswer> {
    const deadline = performance.now() + this.#timeoutMs;
    const body = holdBody(request);
    let mayHaveArrived = false;
    const late = `no answer within ${this.#timeoutMs} ms`;
    let failed: NoAnswer = { problem: late, mayHaveArrived, misconfigured: false };
    for (const pause of [...PAUSES_MS, 0]) {
      const left = deadline - performance.now();
      if (left <= 0 || signal?.aborted === true) break;
      const answer = await this.#send("POST", this.#endpoint, left, body);
      if ("problem" in answer) failed = answer;
      else if (answer.status === 200 || answer.status === 201) return heldBy(request, answer.document);
      else if (REFUSING.has(answer.status)) return refusalOf(answer.status, answer.document);
      else failed = this.#judge(answer.status);
      mayHaveArrived ||= failed.mayHaveArrived;
      if (failed.misconfigured) break;
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
    }
    return { ...failed, mayHaveArrived };
  }

  async #release(customerId: string, streamId: string): Promise<boolean | NoAnswer> {
    const names = [customerId, streamId].map(encodeURIComponent).join("/");
    const answer = await this.#send("DELETE", `${this.#endpoint}/${names}`, this.#timeoutMs);
    if ("problem" in answer) return answer;
    const { status, document } = answer;
    const isGone = status === 200 || status === 204 || (status === 404 && Object.keys(document).length > 0);
    if (isGone) this.counters.released += 1;
    return isGone || (status === 409 ? false : this.#judge(status));
  }

  #judge(status: number): NoAnswer {
    const trouble = troubleOf(status, this.#endpoint, "a service with holds");
    return { ...trouble, mayHaveArrived: !trouble.misconfigured };
  }

  async #send(method: string, url: string, ms: number, body?: string): Promise<Answer | NoAnswer> {
    const headers: Record<string, string> = { "user-agent": "stream-metering-emitter" };
    if (body !== undefined) headers["content-type"] = "application/json";
    try {
      const key = typeof this.#key === "function" ? await this.#key() : this.#key;
      checkKey(key);
      headers.authorization = `Bearer ${key}`;
    } catch (error) {
      const problem = `the emitter's \`key\` cannot be read: ${String(error)}`;
      return { problem, mayHaveArrived: false, misconfigured: true };
    }
    try {
      const signal = AbortSignal.timeout(Math.ceil(ms));
      const response = await fetch(url, { method, headers, signal, redirect: "manual", ...(body && { body }) });
      return { status: response.status, document: await documentOf(response) };
    } catch (error) {
      const problem = `${this.#endpoint} does not answer: ${String(error)}`;
      return { problem, mayHaveArrived: true, misconfigured: false };
    }
  }
}

async function documentOf(response: Response): Promise<Record<string, unknown>> {
  const text = await readBounded(response, MAX_ANSWER_BYTES);
  try {
    const document: unknown = JSON.parse(text);
    return typeof document === "object" && document !== null ? (document as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** What may pass while the service cannot be asked: an amount in any minute, by what streams probably cost. */
class Allowance {
  readonly #most: bigint | undefined;
  readonly #perStream: bigint;
  #passed: { readonly at: number; amount: bigint }[] = [];
  readonly #held = new Map<string, bigint>();

  constructor(most: string | undefined, perStream: string) {
    this.#most = most === undefined ? undefined : amountOf("holds.failOpenUsdCentsPerMinute", most);
    this.#perStream = amountOf("holds.failOpenUsdCentsPerStream", perStream);
  }

  note(request: HoldRequest, held: string | undefined): void {
    const amount = held === undefined ? undefined : picounits(held, PLACES);
    if (amount === undefined) return;
    const key = `${request.provider}\0${request.model}`;
    this.#held.delete(key);
    this.#held.set(key, amount);
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= MOST_MODELS) break;
      this.#held.delete(oldest);
    }
  }

  take(request: HoldRequest): boolean {
    if (this.#most === undefined) return false;
    const now = performance.now();
    // The oldest part counts until all of it is older than a minute.
    this.#passed = this.#passed.filter(({ at }) => now - at < MINUTE_MS + PART_MS);
    const amount = this.#held.get(`${request.provider}\0${request.model}`) ?? this.#perStream;
    if (this.#passed.reduce((sum, each) => sum + each.amount, amount) > this.#most) return false;
    const last = this.#passed.at(-1);
    if (last !== undefined && now - last.at < PART_MS) last.amount += amount;
    else if (amount > 0n) this.#passed.push({ at: now, amount });
    return true;
  }
}

function amountOf(name: string, value: string): bigint {
  const amount = picounits(value, PLACES);
  if (amount === undefined) throw new RangeError(`${name}: expected an amount of 0 or more, got ${value}`);
  return amount;
}
