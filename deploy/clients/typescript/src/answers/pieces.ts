/** Pieces of output text, and short texts of upstreams that go into events. */

/** Some output. Pieces of one lane form one text. */
export interface TextPiece {
  readonly reasoning: boolean;
  /** The index of the choice. */
  readonly choice: number;
  /** The rest of what tells the texts of an answer apart. */
  readonly place: string;
  readonly text: string;
}

/** A piece, in an array; none if the value is no text, or empty. */
export function piece(text: unknown, place: string, choice = 0, reasoning = false): TextPiece[] {
  return typeof text === "string" && text !== "" ? [{ reasoning, choice, place, text }] : [];
}

/** Non-empty text; else undefined. */
export function textOrNone(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** Text for an event: of `most` characters, without NUL and lone surrogates; undefined if nothing is left. */
export function clean(value: unknown, most: number): string | undefined {
  if (typeof value !== "string") return undefined;
  const characters = value
    .slice(0, 2 * most)
    .replaceAll("\0", "")
    .matchAll(/[^\uD800-\uDFFF]|[\uD800-\uDBFF][\uDC00-\uDFFF]/g);
  return [...characters].slice(0, most).join("") || undefined;
}
