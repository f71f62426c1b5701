/** Holds: money that the service sets aside for one stream, before it goes upstream. */

import {
  MAX_ID,
  MAX_NAME,
  MAX_NOTE,
  checkCount,
  checkId,
  checkOneOf,
  checkOptional,
  checkTags,
  checkText,
} from "./checks.js";

/** `worst_case` holds the input and `maxOutputTokens`; `sliding` the input and a slice that follows the stream. */
export const HOLD_MODES = ["worst_case", "sliding"] as const;
export type HoldMode = (typeof HOLD_MODES)[number];

const MOST_SLICE = 1_000_000;
const MOST_LEASE = 3_600;

/** How much is asked for, beside what the stream-start says. */
export interface HoldOptions {
  readonly hold: HoldMode;
  /** The output that a sliding hold covers ahead. The service's default: 2,000. */
  readonly sliceOutputTokens?: number | undefined;
  /** Without an event for so long, the hold expires. The service's default: 120. */
  readonly leaseSeconds?: number | undefined;
}

/** What is asked for. Without `inputTokens`, what the stream costs is known only afterwards. */
export interface HoldRequest extends HoldOptions {
  readonly customerId: string;
  readonly streamId: string;
  readonly provider: string;
  readonly model: string;
  readonly inputTokens?: number | undefined;
  readonly maxOutputTokens?: number | undefined;
  readonly serviceTier?: string | undefined;
  readonly apiKeyId?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
}

/** A hold: the stream may begin. Amounts are exact cents as text. */
export interface Hold {
  readonly customerId: string;
  readonly streamId: string;
  readonly holdId?: string | undefined;
  readonly heldUsdCents?: string | undefined;
  readonly maxOutputTokens?: number | undefined;
  readonly expiresAt?: string | undefined;
  /** The service did not answer, and there is no hold. The stream-start says so, too. */
  readonly failedOpen: boolean;
}

/** The figures of the budget that refuses a hold, in exact cents. Undefined for other refusals. */
export interface HoldFigures {
  readonly budgetId?: string | undefined;
  readonly limitUsdCents?: string | undefined;
  readonly spentUsdCents?: string | undefined;
  readonly heldUsdCents?: string | undefined;
  readonly neededUsdCents?: string | undefined;
  /** 0: not even the input fits. */
  readonly maxOutputTokensThatFit?: number | undefined;
  readonly resetsAt?: string | undefined;
}

/** The service refuses the hold: the stream must not begin. Asking again gets the same answer. */
export class HoldRefused extends Error {
  override readonly name = "HoldRefused";

  /** `code` is `budget_exhausted`, `price_unknown`, or what else the service said. */
  constructor(
    message: string,
    readonly code: string,
    readonly figures: HoldFigures = {},
  ) {
    super(message);
  }
}

/** The service did not answer in time, and streams do not pass without an answer, or no more this minute. */
export class HoldUnavailable extends Error {
  override readonly name = "HoldUnavailable";
}

/** The reason of a stream's `stopSignal`: its budget is exhausted. */
export class BudgetExhausted extends Error {
  override readonly name = "BudgetExhausted";
}

/** Throws a TypeError or a RangeError that names the field which is wrong. */
export function checkHold(request: HoldRequest): void {
  checkId("customerId", request.customerId);
  checkId("streamId", request.streamId);
  checkText("provider", request.provider, MAX_ID);
  checkText("model", request.model, MAX_NAME);
  checkOneOf("hold", request.hold, HOLD_MODES);
  checkOptional("serviceTier", request.serviceTier, MAX_NOTE, 0);
  checkOptional("apiKeyId", request.apiKeyId, MAX_ID);
  if (request.tags !== undefined) checkTags(request.tags);
  if (request.inputTokens !== undefined) checkCount("inputTokens", request.inputTokens);
  if (request.maxOutputTokens !== undefined) checkCount("maxOutputTokens", request.maxOutputTokens);
  checkWithin("sliceOutputTokens", request.sliceOutputTokens, MOST_SLICE);
  checkWithin("leaseSeconds", request.leaseSeconds, MOST_LEASE);
}

function checkWithin(name: string, value: number | undefined, most: number): void {
  if (value === undefined) return;
  checkCount(name, value);
  if (value < 1 || value > most) throw new RangeError(`${name}: expected 1 to ${most}, got ${value}`);
}

/** The request as the service reads it: the same text each time, so that it may be sent again. */
export function holdBody(request: HoldRequest): string {
  const hasTags = request.tags !== undefined && Object.keys(request.tags).length > 0;
  return JSON.stringify({
    customer_id: request.customerId,
    stream_id: request.streamId,
    provider: request.provider,
    model: request.model,
    mode: request.hold,
    input_tokens: request.inputTokens ?? null,
    max_output_tokens: request.maxOutputTokens,
    service_tier: request.serviceTier,
    api_key_id: request.apiKeyId,
    tags: hasTags ? request.tags : undefined,
    slice_output_tokens: request.sliceOutputTokens,
    lease_seconds: request.leaseSeconds,
  });
}

/** The hold in an answer; what is missing or wrong is undefined. */
export function heldBy(request: HoldRequest, answer: Record<string, unknown>): Hold {
  return {
    customerId: request.customerId,
    streamId: request.streamId,
    holdId: textOf(answer.hold_id),
    heldUsdCents: textOf(answer.held_usd_cents),
    maxOutputTokens: countOf(answer.max_output_tokens),
    expiresAt: textOf(answer.expires_at),
    failedOpen: false,
  };
}

/** Why a hold is refused, from a problem document. */
export function refusalOf(status: number, answer: Record<string, unknown>): HoldRefused {
  const kind = textOf(answer.type)?.split("/").pop()?.replaceAll("-", "_");
  const code = kind ?? (status === 402 ? "budget_exhausted" : `http_${status}`);
  const detail = textOf(answer.detail) ?? textOf(answer.title) ?? `the service answered ${status}`;
  return new HoldRefused(detail, code, {
    budgetId: textOf(answer.budget_id),
    limitUsdCents: textOf(answer.limit_usd_cents),
    spentUsdCents: textOf(answer.spent_usd_cents),
    heldUsdCents: textOf(answer.held_usd_cents),
    neededUsdCents: textOf(answer.needed_usd_cents),
    maxOutputTokensThatFit: countOf(answer.max_output_tokens_that_fit),
    resetsAt: textOf(answer.resets_at),
  });
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function countOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) ? value : undefined;
}
