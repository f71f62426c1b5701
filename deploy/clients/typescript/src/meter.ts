/**
 * The meter of one stream: counts what the upstream delivers, and makes the usage events. It has no network.
 *
 * "Delivered" is everything that was received from the upstream, also what the client did not read: upstreams do
 * not refund it.
 */

import { type Counted, type EndUsage, endUsage } from "./answers/endUsage.js";
import { type Format, formatOf } from "./answers/formats.js";
import { OutputCount } from "./answers/outputCount.js";
import { type TextPiece, clean } from "./answers/pieces.js";
import { type Document, NO_PARTS, counters, isDocument, isEmpty, joinParts, usageParts } from "./answers/usage.js";
import { MAX_FINISH_REASONS, MAX_ID, MAX_NAME, MAX_NOTE } from "./checks.js";
import {
  type Outcome,
  StreamEnd,
  StreamStart,
  type StreamStartFields,
  TokenDelivered,
  type UsageEvent,
  type UsageSource,
} from "./events.js";

const REPORT_TOKENS = 16;
const REPORT_MS = 250;
const CHARACTERS_PER_TOKEN = 4;
const OUTPUT_PARTS = ["output", "whole_output", "candidates", "thoughts"];
const RESPONSE_FIELDS = { model: MAX_NAME, id: MAX_NOTE, service_tier: MAX_NAME, provider: MAX_ID } as const;

/** The facts about a stream that are known at its start. */
export type StreamIdentity = Omit<StreamStartFields, "time">;

/** The output tokens of which the caller says that they were delivered so far, reasoning included. */
export interface Told {
  readonly outputTokens: number;
  readonly reasoningOutputTokens?: number | undefined;
}

/** What the caller knows of the answer, beside what the documents say. */
export interface Answered {
  readonly provider?: string | undefined;
  readonly model?: string | undefined;
  readonly responseId?: string | undefined;
  readonly serviceTier?: string | undefined;
}

/** How the caller ends a stream. */
export interface Ending {
  readonly outcome: Outcome;
  readonly errorType?: string | undefined;
  readonly finishReason?: string | undefined;
  readonly given?: EndUsage | undefined;
}

/** How texts are counted, and whether that is a count or an estimate. */
export interface TextCounter {
  readonly count: (text: string) => number;
  source(): UsageSource;
}

/** Makes a stream-start, a token-delivered from time to time, and exactly one stream-end. */
export class StreamMeter {
  /** Emit it before the first byte goes upstream. */
  readonly start: StreamStart;
  readonly #identity: StreamIdentity;
  readonly #emit: (event: UsageEvent) => void;
  readonly #counter: TextCounter;
  readonly #output: OutputCount;
  /** The time of day at the start, plus the time since then: no event of a stream is before its start. */
  readonly #began = Date.now();
  readonly #zero = performance.now();
  #hasRead = false;
  #seq = 0;
  #reportedTokens = 0;
  #pieces = 0;
  #characters = 0;
  #lastReport = performance.now();
  #told: Told | undefined;
  #usage = NO_PARTS;
  #usageIsCurrent = false;
  #hasAudio = false;
  readonly #choices = new Map<number, string | undefined>();
  readonly #choicesWithDeltas = new Set<number>();
  readonly #response: Record<string, string> = {};
  #answered: Answered = {};
  #ended = false;

  /** Throws a TypeError or a RangeError that names the field which is wrong. */
  constructor(identity: StreamIdentity, counter: TextCounter, emit: (event: UsageEvent) => void) {
    this.start = new StreamStart({ ...identity, time: new Date(this.#began) });
    this.#identity = this.start.fields;
    this.#counter = counter;
    this.#output = new OutputCount(counter.count);
    this.#emit = emit;
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  /** Whether every choice of the answer has a finish reason. */
  get isFinished(): boolean {
    return this.#choices.size > 0 && [...this.#choices.values()].every((reason) => reason !== undefined);
  }

  /** Whether the upstream has reported its output, and no output followed. */
  get hasFinalUsage(): boolean {
    return this.#usageIsCurrent;
  }

  /** Count a chunk or a whole completion. */
  take(document: Document): void {
    if (this.#ended) return;
    const form = formatOf(document);
    const pieces = this.#piecesOf(document, form);
    if (pieces.length > 0) this.#add(pieces);
    if (form.hasChoices(document)) this.#noteChoices(document, form);
    const usage = usageParts(document);
    if (!isEmpty(usage)) {
      this.#usage = joinParts(this.#usage, usage);
      const hasOutput = OUTPUT_PARTS.some((name) => usage.counts[name]);
      this.#usageIsCurrent = hasOutput || (this.#usageIsCurrent && pieces.length === 0);
    } else if (pieces.length > 0) {
      this.#usageIsCurrent = false;
    }
    this.#noteResponse(form.about(document));
    if (this.#pieces > 0) this.#reportIfDue();
  }

  /** Count a piece of the answer's text, or of its reasoning. Pieces are joined before they are counted. */
  takeText(text: string, reasoning: boolean): void {
    if (this.#ended) return;
    this.#add([{ reasoning, choice: 0, place: reasoning ? "reasoning" : "content", text }]);
    this.#usageIsCurrent = false;
    this.#reportIfDue();
  }

  /** Take the caller's count of what was delivered so far, in place of a count of texts. */
  takeCount(told: Told): void {
    if (this.#ended) return;
    this.#characters += CHARACTERS_PER_TOKEN * (told.outputTokens - (this.#told?.outputTokens ?? 0));
    this.#told = told;
    this.#usageIsCurrent = false;
    this.#pieces += 1;
    this.#reportIfDue();
  }

  /** Join the usage object of an upstream, which has all output so far. */
  takeUsage(usage: Document): void {
    this.#usage = joinParts(this.#usage, usageParts({ usage }));
    this.#usageIsCurrent = true;
  }

  /** Note who answered; undefined leaves a field as it is. */
  noteAnswered(answered: Answered): void {
    const told = Object.entries(answered).filter(([, value]) => value !== undefined);
    this.#answered = { ...this.#answered, ...(Object.fromEntries(told) as Answered) };
  }

  /** Emit the stream-end; later calls do nothing. Its usage is the given one, or what was reported and counted. */
  end({ outcome, errorType, finishReason, given }: Ending): void {
    if (this.#ended) return;
    this.#ended = true;
    const reported = counters(this.#usage, this.#identity.provider);
    const ended = given ?? endUsage(reported, this.#usageIsCurrent, this.#counted(), outcome === "completed");
    const inOrder = [...this.#choices].sort(([one], [other]) => one - other);
    const reasons = inOrder.flatMap(([, reason]) => (reason === undefined ? [] : [reason]));
    const finishReasons = finishReason !== undefined ? [finishReason] : reasons.slice(0, MAX_FINISH_REASONS);
    const [said, answered] = [this.#response, this.#answered];
    this.#emit(
      new StreamEnd({
        customerId: this.#identity.customerId,
        streamId: this.#identity.streamId,
        time: this.#now(),
        outcome,
        usage: ended.usage,
        usageSource: ended.source,
        finishReasons: finishReasons.length > 0 ? finishReasons : undefined,
        responseProvider: answered.provider ?? said["provider"],
        responseModel: answered.model ?? said["model"],
        responseId: answered.responseId ?? said["id"],
        serviceTier: answered.serviceTier ?? said["usage_tier"] ?? said["service_tier"],
        errorType: clean(errorType, MAX_NOTE),
        upstreamCostUsd: ended.upstreamCostUsd,
      }),
    );
  }

  #now(): Date {
    return new Date(this.#began + performance.now() - this.#zero);
  }

  #add(pieces: readonly TextPiece[]): void {
    this.#hasRead = true;
    this.#pieces += pieces.length;
    for (const each of pieces) {
      this.#output.add(each);
      this.#characters += each.text.length;
    }
  }

  #counted(): Counted {
    const told = this.#told;
    const counted = told?.outputTokens ?? (this.#hasRead ? this.#output.tokens() : undefined);
    const reasoning = told === undefined ? this.#output.reasoningTokens() : (told.reasoningOutputTokens ?? 0);
    const own = told === undefined ? this.#counter.source() : "gateway_count";
    return {
      inputTokens: this.#identity.inputTokens,
      outputTokens: counted,
      reasoningTokens: reasoning,
      source: this.#hasAudio ? "estimate" : own,
      hasUnreadable: this.#hasAudio,
    };
  }

  /** The output in a document. A message that repeats its deltas at the end is no output again. */
  #piecesOf(document: Document, form: Format): TextPiece[] {
    const pieces = form.deltas(document);
    for (const { choice } of pieces) this.#choicesWithDeltas.add(choice);
    return [...pieces, ...form.texts(document).filter(({ choice }) => !this.#choicesWithDeltas.has(choice))];
  }

  #noteResponse(about: Document): void {
    for (const [field, most] of Object.entries(RESPONSE_FIELDS)) {
      const value = about[field];
      if (!value || value === this.#response[field]) continue;
      const text = clean(value, most);
      if (text !== undefined) this.#response[field] = text;
    }
    const usage = about["usage"];
    const tier = isDocument(usage) ? clean(usage["service_tier"], MAX_NOTE) : undefined;
    if (tier !== undefined) this.#response["usage_tier"] = tier;
  }

  #noteChoices(document: Document, form: Format): void {
    for (const [index, reason] of form.reasons(document)) {
      this.#choices.set(index, clean(reason, MAX_NOTE) ?? this.#choices.get(index));
    }
    this.#hasAudio ||= form.hasAudio(document);
  }

  /** Guesses the number of tokens since the last report without counting them, which is cheap. */
  #reportIfDue(): void {
    if (this.#identity.streaming === false) return;
    const guess = Math.max(this.#pieces, Math.floor(this.#characters / CHARACTERS_PER_TOKEN));
    if (guess >= REPORT_TOKENS || performance.now() - this.#lastReport >= REPORT_MS) this.#report();
  }

  #report(): void {
    this.#pieces = this.#characters = 0;
    this.#lastReport = performance.now();
    // A piece can merge with the one before it, so that a count falls by one. Reported counts never fall.
    const counted = this.#counted();
    this.#reportedTokens = Math.max(this.#reportedTokens, counted.outputTokens ?? 0);
    this.#seq += 1;
    this.#emit(
      new TokenDelivered({
        customerId: this.#identity.customerId,
        streamId: this.#identity.streamId,
        time: this.#now(),
        seq: this.#seq,
        outputTokens: this.#reportedTokens,
        reasoningOutputTokens: counted.reasoningTokens > 0 ? counted.reasoningTokens : undefined,
      }),
    );
  }
}
