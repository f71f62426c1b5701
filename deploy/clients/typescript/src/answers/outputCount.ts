/** The tokens of an answer while it streams, by a tokenizer, or estimated at four bytes of UTF-8 each. */

import type { TextPiece } from "./pieces.js";

/** The number of tokens of a text, with the vocabulary of the model. */
export type Tokenizer = (text: string, model: string) => number;

/** The tail of a lane keeps about this many characters; the text before it is counted once and dropped. */
const TAIL_CHARACTERS = 400;
/** More parallel texts than a real answer has; further ones share one lane. */
const MAX_LANES = 1_024;
const BYTES_PER_TOKEN = 4;

/** Estimates a token per four bytes of UTF-8. */
export function estimateTokens(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN);
}

interface Lane {
  readonly reasoning: boolean;
  countedTokens: number;
  tail: string;
  tailTokens: number;
  tailChanged: boolean;
}

/**
 * Counts the tokens of an answer while it streams; each choice, field and tool call is a separate text.
 *
 * Upstreams cut text anywhere, so that counting each piece by itself would count too much. The tail of each text
 * is counted as a whole, and the text before it is counted once.
 */
export class OutputCount {
  readonly #count: (text: string) => number;
  readonly #lanes = new Map<string, Lane>();

  constructor(count: (text: string) => number) {
    this.#count = count;
  }

  add({ reasoning, choice, place, text }: TextPiece): void {
    let key = `${reasoning ? "r" : "t"} ${choice} ${place}`;
    if (!this.#lanes.has(key) && this.#lanes.size >= MAX_LANES) key = `${reasoning ? "r" : "t"} rest`;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { reasoning, countedTokens: 0, tail: "", tailTokens: 0, tailChanged: false };
      this.#lanes.set(key, lane);
    }
    lane.tail += text;
    lane.tailChanged = true;
    if (lane.tail.length > 2 * TAIL_CHARACTERS) {
      const cut = wordStart(lane.tail, lane.tail.length - TAIL_CHARACTERS);
      lane.countedTokens += this.#count(lane.tail.slice(0, cut));
      lane.tail = lane.tail.slice(cut);
    }
  }

  /** All output tokens so far, reasoning included. */
  tokens(): number {
    return this.#sum(() => true);
  }

  /** The output tokens of visible reasoning. */
  reasoningTokens(): number {
    return this.#sum((lane) => lane.reasoning);
  }

  #sum(isCounted: (lane: Lane) => boolean): number {
    let sum = 0;
    for (const lane of this.#lanes.values()) {
      if (!isCounted(lane)) continue;
      if (lane.tailChanged) {
        lane.tailTokens = this.#count(lane.tail);
        lane.tailChanged = false;
      }
      sum += lane.countedTokens + lane.tailTokens;
    }
    return sum;
  }
}

/** The last start of a word before `near`, which no token spans; else about `near`, between two characters. */
function wordStart(text: string, near: number): number {
  let at = text.lastIndexOf(" ", near - 1);
  while (at > 1 && /\s/.test(text[at - 1] as string)) at -= 1;
  if (at > 0) return at;
  const isHalf = /[\uDC00-\uDFFF]/.test(text[near] ?? "");
  return isHalf ? near - 1 : near;
}
