/** Checks of single fields. Each throws a TypeError or a RangeError whose message begins with the field's name. */

export const MAX_COUNT = Number.MAX_SAFE_INTEGER;
export const MAX_ID = 128;
export const MAX_NAME = 256;
export const MAX_NOTE = 1_024;
export const MAX_TAGS = 16;
export const MAX_FINISH_REASONS = 128;

const MAX_WHOLE = 1_000_000_000n;
const LONE_SURROGATE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

/** A value as an error message shows it, at most 60 characters. */
function shown(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

/** A whole number from 0 to 2^53 - 1. */
export function checkCount(name: string, value: unknown): asserts value is number {
  if (typeof value !== "number") throw new TypeError(`${name}: expected a whole number, got ${shown(value)}`);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new RangeError(`${name}: expected a whole number from 0 to 2^53 - 1, got ${shown(value)}`);
  }
}

/** Text of `least` to `most` characters (Unicode code points), without NUL and without half a character. */
export function checkText(name: string, value: unknown, most: number, least = 1): asserts value is string {
  if (typeof value !== "string") throw new TypeError(`${name}: expected text, got ${shown(value)}`);
  const length = value.length <= most ? value.length : [...value].length;
  if (length < least || length > most) {
    throw new RangeError(`${name}: expected ${least} to ${most} characters, got ${length}`);
  }
  if (value.includes("\0")) throw new RangeError(`${name}: expected text without NUL`);
  if (LONE_SURROGATE.test(value)) throw new RangeError(`${name}: expected text without lone surrogates`);
}

/** As `checkText`, or undefined. */
export function checkOptional(name: string, value: unknown, most: number, least = 1): void {
  if (value !== undefined) checkText(name, value, most, least);
}

/** An id that a URL can name. */
export function checkId(name: string, value: unknown): asserts value is string {
  checkText(name, value, MAX_ID);
  if (value === "." || value === "..") throw new RangeError(`${name}: expected an id other than "." and ".."`);
}

/** A valid Date of the years 1 to 9999. */
export function checkTime(name: string, value: unknown): asserts value is Date {
  if (!(value instanceof Date)) throw new TypeError(`${name}: expected a Date, got ${shown(value)}`);
  const year = value.getUTCFullYear();
  if (!(year >= 1 && year <= 9999)) throw new RangeError(`${name}: expected a valid Date, got ${shown(value)}`);
}

/** At most 16 texts by name. */
export function checkTags(tags: unknown): asserts tags is Readonly<Record<string, string>> {
  if (typeof tags !== "object" || tags === null || Array.isArray(tags)) {
    throw new TypeError(`tags: expected an object of texts, got ${shown(tags)}`);
  }
  const entries = Object.entries(tags);
  if (entries.length > MAX_TAGS) throw new RangeError(`tags: expected at most ${MAX_TAGS}, got ${entries.length}`);
  for (const [name, value] of entries) {
    checkText("tags, a name", name, MAX_ID);
    checkText(`tags, ${shown(name)}`, value, MAX_NOTE, 0);
  }
}

/** At most 128 texts. */
export function checkReasons(reasons: unknown): asserts reasons is readonly string[] {
  if (!Array.isArray(reasons)) {
    throw new TypeError(`finishReasons: expected an array of texts, got ${shown(reasons)}`);
  }
  if (reasons.length > MAX_FINISH_REASONS) {
    throw new RangeError(`finishReasons: expected at most ${MAX_FINISH_REASONS}, got ${reasons.length}`);
  }
  for (const reason of reasons) checkText("finishReasons", reason, MAX_NOTE, 0);
}

/** One of the texts. */
export function checkOneOf<T extends string>(
  name: string,
  value: unknown,
  known: readonly T[],
): asserts value is T {
  if (!known.includes(value as T)) {
    throw new RangeError(`${name}: expected one of ${known.join(", ")}, got ${shown(value)}`);
  }
}

/**
 * An exact decimal from 0 to 10^9 as text without an exponent, of at most `places` decimal places.
 *
 * A number is read as JavaScript writes it: 12.5 is "12.5".
 */
export function exactDecimal(name: string, value: unknown, places: number): string {
  if (typeof value !== "string" && typeof value !== "number") {
    throw new TypeError(`${name}: expected a decimal as text, got ${shown(value)}`);
  }
  const match = /^(\d{1,10})(?:\.(\d+))?$/.exec(String(value));
  const fraction = match?.[2]?.replace(/0+$/, "") ?? "";
  const whole = match === null ? -1n : BigInt(match[1] as string);
  const fits = whole >= 0n && (whole < MAX_WHOLE || (whole === MAX_WHOLE && fraction === ""));
  if (!fits || fraction.length > places) {
    throw new RangeError(`${name}: expected 0 to 10^9 with at most ${places} decimal places, got ${shown(value)}`);
  }
  return fraction === "" ? String(whole) : `${whole}.${fraction}`;
}
