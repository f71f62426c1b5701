/**
 * The counters of a stream's usage, in the meaning of docs/events.md: input includes the cache, output the
 * reasoning.
 */

import { checkCount, exactDecimal } from "./checks.js";

/** Exact decimals are text, such as `"12.5"`; a number is read as JavaScript writes it. */
export type Decimal = string | number;

/** Counts of one stream. A missing one is unknown, which is not the same as 0. */
export interface Usage {
  readonly inputTokens?: number | undefined;
  readonly outputTokens?: number | undefined;
  readonly cacheReadInputTokens?: number | undefined;
  readonly cacheWriteInputTokens?: number | undefined;
  readonly reasoningOutputTokens?: number | undefined;
  readonly inputAudioTokens?: number | undefined;
  readonly outputAudioTokens?: number | undefined;
  readonly cacheWrite1hInputTokens?: number | undefined;
  readonly cacheReadInputAudioTokens?: number | undefined;
  readonly cacheReadInputImageTokens?: number | undefined;
  readonly inputImageTokens?: number | undefined;
  readonly inputVideoTokens?: number | undefined;
  readonly outputImageTokens?: number | undefined;
  readonly outputVideoTokens?: number | undefined;
  readonly citationOutputTokens?: number | undefined;
  readonly webSearches?: number | undefined;
  readonly storageSearches?: number | undefined;
  /** Seconds, with at most three decimal places. */
  readonly inputAudioSeconds?: Decimal | undefined;
  /** Seconds, with at most three decimal places. */
  readonly audioSeconds?: Decimal | undefined;
  readonly inputCharacters?: number | undefined;
  readonly inputDocumentPages?: number | undefined;
  readonly inputAnnotatedDocumentPages?: number | undefined;
  readonly inputTextMessages?: number | undefined;
}

/** Names on the wire by names here. */
export const WIRE_NAMES: Readonly<Record<keyof Usage, string>> = {
  inputTokens: "input_tokens",
  outputTokens: "output_tokens",
  cacheReadInputTokens: "cache_read_input_tokens",
  cacheWriteInputTokens: "cache_write_input_tokens",
  reasoningOutputTokens: "reasoning_output_tokens",
  inputAudioTokens: "input_audio_tokens",
  outputAudioTokens: "output_audio_tokens",
  cacheWrite1hInputTokens: "cache_write_1h_input_tokens",
  cacheReadInputAudioTokens: "cache_read_input_audio_tokens",
  cacheReadInputImageTokens: "cache_read_input_image_tokens",
  inputImageTokens: "input_image_tokens",
  inputVideoTokens: "input_video_tokens",
  outputImageTokens: "output_image_tokens",
  outputVideoTokens: "output_video_tokens",
  citationOutputTokens: "citation_output_tokens",
  webSearches: "web_searches",
  storageSearches: "storage_searches",
  inputAudioSeconds: "input_audio_seconds",
  audioSeconds: "audio_seconds",
  inputCharacters: "input_characters",
  inputDocumentPages: "input_document_pages",
  inputAnnotatedDocumentPages: "input_annotated_document_pages",
  inputTextMessages: "input_text_messages",
};

const TIMED: ReadonlySet<string> = new Set(["inputAudioSeconds", "audioSeconds"]);
const SECONDS_PLACES = 3;

/** Whether an object has nothing but our counters: an upstream's usage object has other names. */
export function isUsage(value: object): value is Usage {
  const names = Object.keys(value);
  return names.length > 0 && names.every((name) => Object.hasOwn(WIRE_NAMES, name));
}

/**
 * The known counters, checked; seconds as exact text.
 *
 * Throws a TypeError or a RangeError that names the counter.
 */
export function checkedUsage(usage: unknown): Usage {
  if (typeof usage !== "object" || usage === null) {
    throw new TypeError(`usage: expected an object of counters, got ${String(usage)}`);
  }
  const known: Record<string, number | string> = {};
  for (const [name, value] of Object.entries(usage)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(WIRE_NAMES, name)) {
      const names = Object.keys(WIRE_NAMES).join(", ");
      throw new RangeError(
        `usage: no counter is called ${name}; the counters are ${names}. ` +
          "`usageOf` reads the usage object of an upstream",
      );
    }
    if (TIMED.has(name)) {
      known[name] = exactDecimal(name, value, SECONDS_PLACES);
    } else {
      checkCount(name, value);
      known[name] = value;
    }
  }
  return known;
}
