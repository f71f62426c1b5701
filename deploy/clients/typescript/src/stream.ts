/** A stream of a gateway: what the upstream delivers is told to it, and it ends exactly once. */

import { type Document, counters, isDocument, usageParts } from "./answers/usage.js";
import type { EndUsage } from "./answers/endUsage.js";
import { MAX_ID, MAX_NAME, MAX_NOTE, checkCount, checkOneOf, checkOptional } from "./checks.js";
import { OUTCOMES, type Outcome, USAGE_SOURCES, type UsageSource } from "./events.js";
import type { Answered, StreamMeter, Told } from "./meter.js";
import { BudgetExhausted, type Hold } from "./hold.js";
import { outcomeOf } from "./outcome.js";
import type { Log } from "./reports.js";
import { type Usage, checkedUsage, isUsage } from "./usage.js";

/** A start that is not on disk by then holds up nothing any longer. */
const DURABLE_MS = 1_000;

/** The usage object of an upstream, as it sent it, or our counters together with who counted them. */
export interface UsageOptions {
  readonly usage?: object | undefined;
  /** Who counted. With it, `usage` has our counters (`Usage`); without it, it is the object of an upstream. */
  readonly usageSource?: UsageSource | undefined;
}

export interface EndOptions extends UsageOptions {
  /** Default: "completed". */
  readonly outcome?: Outcome | undefined;
  readonly errorType?: string | undefined;
  readonly finishReason?: string | undefined;
}

/**
 * One stream, from `Emitter.stream` or `Emitter.metered`.
 *
 * Tell what the upstream delivers, by one of three: `take` for chunks in OpenAI's or Anthropic's format, `text`
 * for pieces of text, or `delivered` for a count of your own.
 */
export class MeteredStream {
  readonly #meter: StreamMeter;
  readonly #signal: AbortSignal | undefined;
  readonly #spooled: () => Promise<void>;
  readonly #stop = new AbortController();
  readonly #onEnd: () => void;
  readonly #log: Log;
  #given: EndUsage | undefined;
  /** The hold of the stream, if it asked for one. */
  readonly hold: Hold | undefined;

  /** Made by the emitter; `spooled` resolves when what was emitted so far is written. */
  constructor(
    meter: StreamMeter,
    signal: AbortSignal | undefined,
    spooled: () => Promise<void>,
    held: { readonly hold?: Hold | undefined; readonly onEnd?: () => void; readonly log?: Log } = {},
  ) {
    this.#meter = meter;
    this.#signal = signal;
    this.#spooled = spooled;
    this.hold = held.hold;
    this.#onEnd = held.onEnd ?? (() => undefined);
    this.#log = held.log ?? (() => undefined);
  }

  /** The id under which the service knows the stream. */
  get streamId(): string {
    return this.#meter.start.fields.streamId;
  }

  /** Whether the stream has to end, because its budget is exhausted. Then it ends as cancelled, `budget`. */
  get stopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Aborted when the stream has to end: give it to `fetch`, to stop reading the upstream. */
  get stopSignal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Call a function once, when the stream has to end. */
  onStop(call: () => void): void {
    const once = (): void => {
      try {
        call();
      } catch (error) {
        // It runs in the task that posts events, which has to go on.
        this.#log("error", `onStop of a stream throws ${String(error)}`);
      }
    };
    if (this.stopped) once();
    else this.#stop.signal.addEventListener("abort", once, { once: true });
  }

  /** The emitter calls it when an answer to posted events names the stream. */
  stop(): void {
    this.#stop.abort(new BudgetExhausted("the budget of the stream is exhausted"));
  }

  /** Writes the stream-start without delay, and resolves when it is on disk, after one second at the latest. */
  async startOnDisk(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, DURABLE_MS);
    });
    await Promise.race([this.#spooled(), late]);
    clearTimeout(timer);
  }

  /**
   * Count a chunk, or a whole answer, in the format of OpenAI (chat, responses) or Anthropic.
   *
   * Usage, model, response id and finish reasons are taken from it as well. Throws a TypeError if it is no object.
   */
  take(chunk: object): void {
    this.#meter.take(asDocument("chunk", chunk));
  }

  /**
   * Pass the chunks on, and take each. The stream ends with them: as completed; as cancelled if the loop over them
   * is left early; or by the error that they end with.
   */
  async *through<T extends object>(chunks: AsyncIterable<T>): AsyncGenerator<T, void, void> {
    let ending = { outcome: "cancelled" } as ReturnType<typeof outcomeOf>;
    try {
      for await (const chunk of chunks) {
        this.take(chunk);
        yield chunk;
      }
      ending = { outcome: "completed" };
    } catch (error) {
      ending = outcomeOf(error, this.#signal);
      throw error;
    } finally {
      this.#finish(ending);
    }
  }

  /** Count a piece of the answer's text. Pieces are joined before they are counted. */
  text(text: string, options: { readonly reasoning?: boolean } = {}): void {
    if (typeof text !== "string") throw new TypeError(`text: expected text, got ${String(text)}`);
    this.#meter.takeText(text, options.reasoning ?? false);
  }

  /** Tell how many output tokens, reasoning included, were delivered since the start. Throws if it is no count. */
  delivered(told: Told): void {
    checkCount("outputTokens", told.outputTokens);
    if (told.reasoningOutputTokens !== undefined) checkCount("reasoningOutputTokens", told.reasoningOutputTokens);
    this.#meter.takeCount(told);
  }

  /**
   * Tell who answered, where that is not who was asked. Throws a TypeError or a RangeError that names the field.
   */
  answeredBy(answered: Answered): void {
    checkOptional("provider", answered.provider, MAX_ID);
    checkOptional("model", answered.model, MAX_NAME);
    checkOptional("responseId", answered.responseId, MAX_NOTE);
    checkOptional("serviceTier", answered.serviceTier, MAX_NOTE);
    this.#meter.noteAnswered(answered);
  }

  /**
   * Tell the usage. An upstream's is joined with what it has reported before, and believed if it fits what was
   * counted. Our counters, with `usageSource`, are taken as they are.
   *
   * Throws a TypeError or a RangeError that names what is wrong.
   */
  usage({ usage, usageSource }: UsageOptions): void {
    if (usage === undefined) return;
    if (usageSource !== undefined) {
      checkOneOf("usageSource", usageSource, USAGE_SOURCES);
      this.#given = { usage: checkedUsage(usage), source: usageSource };
    } else if (isUsage(usage)) {
      throw new RangeError(`usageSource: say who counted: ${USAGE_SOURCES.join(", ")}`);
    } else {
      this.#meter.takeUsage(asDocument("usage", usage));
    }
  }

  /**
   * End the stream now; what comes later is not counted. Further calls do nothing.
   *
   * Throws a TypeError or a RangeError, and ends nothing, if an option is wrong.
   */
  end(options: EndOptions = {}): void {
    const { outcome = "completed", errorType, finishReason } = options;
    checkOneOf("outcome", outcome, OUTCOMES);
    checkOptional("errorType", errorType, MAX_NOTE);
    checkOptional("finishReason", finishReason, MAX_NOTE);
    this.usage(options);
    this.#finish({ outcome, errorType, finishReason }, true);
  }

  /** End the stream by an error: as cancelled, timed out or failed. Without one, as completed. */
  endBy(error: unknown): void {
    this.#finish(error === undefined ? { outcome: "completed" } : outcomeOf(error, this.#signal));
  }

  /**
   * End the stream where a block is left without `end`. Node does not tell why: it is completed if the answer has
   * its finish reason, cancelled or timed out if the `signal` says so, and failed (`not_ended`) in all other
   * cases.
   */
  [Symbol.dispose](): void {
    if (this.#meter.isFinished) this.#finish({ outcome: "completed" });
    else if (this.#signal?.aborted === true) this.#finish(outcomeOf(undefined, this.#signal));
    else this.#finish({ outcome: "failed", errorType: "not_ended" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
  }

  #finish(
    said: { outcome: Outcome; errorType?: string | undefined; finishReason?: string | undefined },
    asSaid = false,
  ): void {
    this.#onEnd();
    const isCut = this.stopped && !asSaid && !(said.outcome === "completed" && this.#meter.isFinished);
    const ending = isCut ? { outcome: "cancelled" as Outcome, errorType: "budget" } : said;
    // Who leaves after the last token, and its usage, has got everything.
    const hasAll = this.#meter.isFinished && this.#meter.hasFinalUsage;
    if (ending.outcome === "cancelled" && hasAll) this.#meter.end({ outcome: "completed", given: this.#given });
    else this.#meter.end({ ...ending, given: this.#given });
  }
}

/**
 * The usage object of an upstream, of any vendor we know of, with our counters.
 *
 * What `provider` it is of decides whether reasoning and cache stand within or beside the other counts.
 */
export function usageOf(usage: object, provider: string): Usage {
  return counters(usageParts({ usage: asDocument("usage", usage) }), provider).usage;
}

function asDocument(name: string, value: unknown): Document {
  if (!isDocument(value)) throw new TypeError(`${name}: expected an object, got ${String(value)}`);
  return value;
}
