/** Posts one batch over HTTP, and reads the server's answer for each event. */

import { promisify } from "node:util";
import { gzip } from "node:zlib";

import { type PauseReason, retryAfterMs } from "./backoff.js";

const GZIP_FROM_BYTES = 4_096;
const MAX_ANSWER_BYTES = 8 * 2 ** 20;
/** Answers that a service, or what stands before it, gives for a while only. */
const PASSING: ReadonlySet<number> = new Set([408, 425, 429]);

const compress = promisify(gzip);

/** A key with the role ingest, or a function that is asked for it before each request. */
export type Key = string | (() => string | Promise<string>);

/**
 * The result of posting a batch.
 *
 * `done`: the server has answered for every event; `rejected` has the reasons for rejected ones by index, and
 * `warnings` says of accepted ones which fields the server does not know. The streams in `stop` have to end: their
 * budget is exhausted. If not done, the batch is sent again;
 * `misconfigured` means that a person has to change a setting first.
 */
export interface Verdict extends PauseReason {
  readonly done: boolean;
  readonly rejected: ReadonlyMap<number, string>;
  readonly warnings: readonly string[];
  readonly stop: readonly string[];
  readonly problem: string;
}

const NONE: Verdict = {
  done: false,
  rejected: new Map(),
  warnings: [],
  stop: [],
  problem: "",
  retryAfterMs: undefined,
  misconfigured: false,
};

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly retryAfter: string | null;
}

/** The way to one ingest API, for use by one task. */
export class Delivery {
  readonly #endpoint: string;
  readonly #key: Key;
  readonly #timeoutMs: number;
  #current = new AbortController();
  #aborted = false;

  /** Throws a RangeError if the key has other characters than a key can have, or the URL is none. */
  constructor(url: string, key: Key, timeoutMs: number) {
    if (!/^https?:$/.test(new URL(url).protocol)) throw new RangeError(`url: expected http or https, got ${url}`);
    this.#endpoint = `${url.replace(/\/+$/, "")}/v1/events`;
    this.#key = key;
    this.#timeoutMs = timeoutMs;
    if (typeof key !== "function") checkKey(key);
  }

  /** Break off the current request, and fail later ones. */
  abort(): void {
    this.#aborted = true;
    this.#current.abort(new Error("the emitter closes"));
  }

  /** Post the events. Failures of server and network are in the verdict, not thrown. */
  async post(lines: readonly string[]): Promise<Verdict> {
    if (lines.length === 0) return { ...NONE, done: true };
    let key: string;
    try {
      key = typeof this.#key === "function" ? await this.#key() : this.#key;
      checkKey(key);
    } catch (error) {
      return { ...NONE, misconfigured: true, problem: `the emitter's \`key\` cannot be read: ${String(error)}` };
    }
    let answer: Answer;
    try {
      answer = await this.#send(`[${lines.join(",")}]`, key);
    } catch (error) {
      return { ...NONE, problem: `${this.#endpoint} cannot be reached: ${reasonOf(error)}` };
    }
    return answer.status === 413 ? this.#postHalves(lines) : this.#judge(answer, lines.length);
  }

  async #send(text: string, key: string): Promise<Answer> {
    const headers: Record<string, string> = {
      authorization: `Bearer ${key}`,
      "content-type": "application/cloudevents-batch+json",
      "user-agent": "stream-metering-emitter",
    };
    let body: string | Uint8Array<ArrayBuffer> = text;
    if (text.length >= GZIP_FROM_BYTES) {
      headers["content-encoding"] = "gzip";
      body = new Uint8Array(await compress(text, { level: 3 }));
    }
    const controller = new AbortController();
    const silence = new Error(`no answer within ${this.#timeoutMs} ms`);
    const timer = setTimeout(() => controller.abort(silence), this.#timeoutMs);
    this.#current = controller;
    if (this.#aborted) this.abort();
    try {
      const { signal } = controller;
      const response = await fetch(this.#endpoint, { method: "POST", headers, body, signal, redirect: "manual" });
      const retryAfter = response.headers.get("retry-after");
      return { status: response.status, body: await readBounded(response, MAX_ANSWER_BYTES), retryAfter };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Post each half. A batch has 1,000 events, so this recurses ten times at most. */
  async #postHalves(lines: readonly string[]): Promise<Verdict> {
    if (lines.length === 1) {
      const reason = "413: this event alone is too large for the server";
      return { ...NONE, done: true, rejected: new Map([[0, reason]]) };
    }
    const middle = lines.length >> 1;
    const first = await this.post(lines.slice(0, middle));
    if (!first.done) return first;
    const second = await this.post(lines.slice(middle));
    if (!second.done) return second;
    const rejected = new Map(first.rejected);
    for (const [index, reason] of second.rejected) rejected.set(middle + index, reason);
    const stop = [...first.stop, ...second.stop];
    return { ...NONE, done: true, rejected, warnings: [...first.warnings, ...second.warnings], stop };
  }

  #judge(answer: Answer, count: number): Verdict {
    const { status, body } = answer;
    if (status === 200) {
      const told = { rejected: rejections(body, count), warnings: warnings(body), stop: stops(body) };
      return { ...NONE, done: true, ...told };
    }
    if (status === 422) {
      const named = rejections(body, count);
      const overall = `422: ${body.slice(0, 300)}`;
      const all = Array.from({ length: count }, (_, index) => [index, named.get(index) ?? overall] as const);
      return { ...NONE, done: true, rejected: new Map(all) };
    }
    const trouble = troubleOf(status, this.#endpoint, "the ingest API");
    const pause = trouble.misconfigured ? undefined : retryAfterMs(answer.retryAfter);
    return { ...NONE, ...trouble, retryAfterMs: pause };
  }
}

/**
 * The trouble behind a status other than the service's own answers: it passes by itself, or a setting is wrong.
 * `serves` is what the emitter's `url` should lead to.
 */
export function troubleOf(
  status: number,
  endpoint: string,
  serves: string,
): Pick<Verdict, "misconfigured" | "problem"> {
  const problem = `${status} from ${endpoint}`;
  if (status === 401 || status === 403) {
    return { misconfigured: true, problem: `${problem}: the emitter's \`key\` is wrong or lacks the role ingest` };
  }
  if (status >= 500 || PASSING.has(status)) return { misconfigured: false, problem };
  return { misconfigured: true, problem: `${problem}: the emitter's \`url\` does not lead to ${serves}` };
}

/** Refuse what cannot be sent in a header, such as the `…` of an example. */
export function checkKey(key: unknown): void {
  if (typeof key !== "string" || !/^[\x21-\x7e]+$/.test(key)) {
    throw new RangeError("key: expected a key as `metering keys create` prints it: mk_<id>_<secret>");
  }
}

/** The text of an answer, which may not be longer. */
export async function readBounded(response: Response, most: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of response.body ?? []) {
    size += part.length;
    if (size > most) throw new Error(`an answer of more than ${most} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** The reasons by index in the batch, without malformed ones. */
function rejections(body: string, count: number): Map<number, string> {
  const reasons = new Map<number, string>();
  for (const { index, code, detail } of items(body, "rejected")) {
    if (typeof index === "number" && Number.isInteger(index) && index >= 0 && index < count) {
      reasons.set(index, `${String(code ?? "rejected")}: ${String(detail ?? "")}`);
    }
  }
  return reasons;
}

/** Each different warning once: the events of a batch usually have the same. */
function warnings(body: string): string[] {
  const told = items(body, "warnings").map(({ field, hint }) => `${String(field ?? "")}: ${String(hint ?? "")}`);
  return [...new Set(told)];
}

/** The ids of the streams that have to end. */
function stops(body: string): string[] {
  return body.includes('"stop"') ? listOf(body, "stop").filter((each) => typeof each === "string") : [];
}

/** The objects of a list in the answer, without anything else that may be there. */
function items(body: string, name: string): Record<string, unknown>[] {
  const isObject = (item: unknown): item is Record<string, unknown> => typeof item === "object" && item !== null;
  return listOf(body, name).filter(isObject);
}

function listOf(body: string, name: string): unknown[] {
  try {
    const document = JSON.parse(body) as Record<string, unknown> | null;
    const list = document?.[name];
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error ? `${String(error)}, ${cause.message || String(cause)}` : String(error);
}
