/**
 * The three events that a gateway posts about a stream. What is wrong in one is refused when it is made.
 *
 * The bounds are those of the contract (docs/events.md). Events contain no prompt or completion text.
 */

import {
  MAX_ID,
  MAX_NAME,
  MAX_NOTE,
  checkCount,
  checkId,
  checkOneOf,
  checkOptional,
  checkReasons,
  checkTags,
  checkText,
  checkTime,
  exactDecimal,
} from "./checks.js";
import { type Decimal, type Usage, checkedUsage } from "./usage.js";

/** How a stream ended: cancelled if the client went away, failed by an error of the upstream or the gateway. */
export const OUTCOMES = ["completed", "cancelled", "failed", "timed_out"] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Who counted the tokens: the provider, a tokenizer for this model, or an estimate. */
export const USAGE_SOURCES = ["provider", "gateway_count", "estimate"] as const;
export type UsageSource = (typeof USAGE_SOURCES)[number];

/** What all events have. `customerId` pays; `streamId` is unique for a customer. */
export interface Envelope {
  readonly customerId: string;
  readonly streamId: string;
  readonly time: Date;
}

export interface StreamStartFields extends Envelope {
  readonly provider: string;
  readonly model: string;
  /** Default: true. */
  readonly streaming?: boolean | undefined;
  /** Default: "chat". */
  readonly operation?: string | undefined;
  readonly inputTokens?: number | undefined;
  readonly maxOutputTokens?: number | undefined;
  readonly apiKeyId?: string | undefined;
  readonly requestHash?: string | undefined;
  readonly serviceTier?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
  /** The service could not be asked for a hold, and the stream passed. Default: false. */
  readonly failedOpen?: boolean | undefined;
}

export interface TokenDeliveredFields extends Envelope {
  /** Grows with each event of a stream. */
  readonly seq: number;
  /** Since the start of the stream, reasoning included. */
  readonly outputTokens: number;
  readonly reasoningOutputTokens?: number | undefined;
}

export interface StreamEndFields extends Envelope {
  readonly outcome: Outcome;
  readonly usage?: Usage | undefined;
  readonly usageSource?: UsageSource | undefined;
  readonly finishReasons?: readonly string[] | undefined;
  /** Who answered, where that is not who was asked. */
  readonly responseProvider?: string | undefined;
  readonly responseModel?: string | undefined;
  readonly responseId?: string | undefined;
  readonly serviceTier?: string | undefined;
  readonly errorType?: string | undefined;
  /** US dollars, as the upstream reported them. It is no price. */
  readonly upstreamCostUsd?: Decimal | undefined;
}

const DOLLAR_PLACES = 18;

/** A completion was requested. Emit it before the first byte goes upstream. */
export class StreamStart {
  static readonly type = "stream-start";
  readonly fields: StreamStartFields;

  /** Throws a TypeError or a RangeError that names the field. */
  constructor(fields: StreamStartFields) {
    checkEnvelope(fields);
    checkText("provider", fields.provider, MAX_ID);
    checkText("model", fields.model, MAX_NAME);
    checkOptional("operation", fields.operation, MAX_NAME);
    checkOptional("apiKeyId", fields.apiKeyId, MAX_ID);
    checkOptional("requestHash", fields.requestHash, MAX_NOTE, 0);
    checkOptional("serviceTier", fields.serviceTier, MAX_NOTE, 0);
    if (fields.streaming !== undefined && typeof fields.streaming !== "boolean") {
      throw new TypeError(`streaming: expected true or false, got ${String(fields.streaming)}`);
    }
    if (fields.inputTokens !== undefined) checkCount("inputTokens", fields.inputTokens);
    if (fields.maxOutputTokens !== undefined) checkCount("maxOutputTokens", fields.maxOutputTokens);
    if (fields.tags !== undefined) checkTags(fields.tags);
    this.fields = Object.freeze({ ...fields, ...(fields.tags && { tags: { ...fields.tags } }) });
  }

  get eventId(): string {
    return `${this.fields.streamId}:start`;
  }
}

/** Counts since the start of the stream, cumulative: only the highest matters. */
export class TokenDelivered {
  static readonly type = "token-delivered";
  readonly fields: TokenDeliveredFields;

  /** Throws a TypeError or a RangeError that names the field. */
  constructor(fields: TokenDeliveredFields) {
    checkEnvelope(fields);
    checkCount("seq", fields.seq);
    checkCount("outputTokens", fields.outputTokens);
    if (fields.reasoningOutputTokens !== undefined) {
      checkCount("reasoningOutputTokens", fields.reasoningOutputTokens);
    }
    this.fields = Object.freeze({ ...fields });
  }

  get eventId(): string {
    return `${this.fields.streamId}:t:${this.fields.seq}`;
  }
}

/** The stream has ended. `usage` is what the gateway knows at that time. */
export class StreamEnd {
  static readonly type = "stream-end";
  readonly fields: StreamEndFields;

  /** Throws a TypeError or a RangeError that names the field. */
  constructor(fields: StreamEndFields) {
    checkEnvelope(fields);
    checkOneOf("outcome", fields.outcome, OUTCOMES);
    if (fields.usageSource !== undefined) checkOneOf("usageSource", fields.usageSource, USAGE_SOURCES);
    if (fields.finishReasons !== undefined) checkReasons(fields.finishReasons);
    checkOptional("responseProvider", fields.responseProvider, MAX_ID);
    checkOptional("responseModel", fields.responseModel, MAX_NAME);
    checkOptional("responseId", fields.responseId, MAX_NOTE, 0);
    checkOptional("serviceTier", fields.serviceTier, MAX_NOTE, 0);
    checkOptional("errorType", fields.errorType, MAX_NOTE, 0);
    const cost = fields.upstreamCostUsd;
    this.fields = Object.freeze({
      ...fields,
      ...(fields.usage !== undefined && { usage: checkedUsage(fields.usage) }),
      ...(cost !== undefined && { upstreamCostUsd: exactDecimal("upstreamCostUsd", cost, DOLLAR_PLACES) }),
    });
  }

  get eventId(): string {
    return `${this.fields.streamId}:end`;
  }
}

export type UsageEvent = StreamStart | TokenDelivered | StreamEnd;

function checkEnvelope(fields: Envelope): void {
  checkId("customerId", fields.customerId);
  checkId("streamId", fields.streamId);
  checkTime("time", fields.time);
}
