/**
 * The usage that an upstream reports: found anywhere, joined over the whole answer, and nested as ours is.
 *
 * Three steps, all pure: `usageParts` reads a document, `joinParts` joins what was read (in any order), and
 * `counters` decides what includes what, and gives our counters.
 */

import type { Usage } from "../usage.js";
import { decimalText, fromTicks, picounits } from "./decimal.js";
import * as names from "./usageNames.js";

/** A document of an upstream, as JSON has it. */
export type Document = Readonly<Record<string, unknown>>;

/** Counts by part, and exact amounts in picounits: seconds, and what the upstream says that it cost. */
export interface Parts {
  readonly counts: Readonly<Record<string, number>>;
  readonly amounts: Readonly<Record<string, bigint>>;
}

/** Our counters, and what the upstream says that it cost. */
export interface Reported {
  readonly usage: Usage;
  readonly upstreamCostUsd?: string;
}

type Counts = Record<string, number>;

export const NO_PARTS: Parts = { counts: {}, amounts: {} };

const USAGE_NAMES = ["usage", "usageMetadata", "usage_metadata", "usage_info"];
const HOLDERS = ["x_groq", "message", "response", "result"];
const COST = "upstream_cost_usd";

/** Our counters by the parts that they are made of. */
const COUNTERS: Readonly<Record<string, keyof Usage>> = {
  input: "inputTokens",
  output: "outputTokens",
  reasoning: "reasoningOutputTokens",
  citation: "citationOutputTokens",
  cache_read: "cacheReadInputTokens",
  cache_write: "cacheWriteInputTokens",
  cache_write_1h: "cacheWrite1hInputTokens",
  cache_read_audio: "cacheReadInputAudioTokens",
  cache_read_image: "cacheReadInputImageTokens",
  input_audio: "inputAudioTokens",
  input_image: "inputImageTokens",
  input_video: "inputVideoTokens",
  output_audio: "outputAudioTokens",
  output_image: "outputImageTokens",
  output_video: "outputVideoTokens",
  web_searches: "webSearches",
  storage_searches: "storageSearches",
  input_characters: "inputCharacters",
  input_document_pages: "inputDocumentPages",
  input_annotated_document_pages: "inputAnnotatedDocumentPages",
  input_text_messages: "inputTextMessages",
};
const SECONDS_COUNTERS: Readonly<Record<string, keyof Usage>> = {
  input_audio_seconds: "inputAudioSeconds",
  audio_seconds: "audioSeconds",
};

/** Whether a value is an object of named values. */
export function isDocument(value: unknown): value is Document {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The objects in a value that should be an array of them. */
export function documentsIn(value: unknown): Document[] {
  return Array.isArray(value) ? value.filter(isDocument) : [];
}

/** The parts that a document reports, joined over all its usage objects; none without any. */
export function usageParts(document: Document): Parts {
  return usageObjects(document).map(read).reduce(joinParts, NO_PARTS);
}

/** The larger of each part: a later 0, or a part that is missing, takes nothing away. */
export function joinParts(one: Parts, other: Parts): Parts {
  return { counts: largest(one.counts, other.counts), amounts: largest(one.amounts, other.amounts) };
}

/** Whether nothing was reported. */
export function isEmpty(parts: Parts): boolean {
  return Object.keys(parts.counts).length === 0 && Object.keys(parts.amounts).length === 0;
}

/** Our counters, of which input includes the cache and output the reasoning. */
export function counters(parts: Parts, provider: string): Reported {
  const known = withSums(parts.counts);
  nest(known, provider.toLowerCase());
  const usage: Record<string, number | string> = {};
  for (const [part, counter] of Object.entries(COUNTERS)) {
    if (known[part] !== undefined) usage[counter] = Math.min(known[part], Number.MAX_SAFE_INTEGER);
  }
  for (const [part, counter] of Object.entries(SECONDS_COUNTERS)) {
    if (parts.amounts[part] !== undefined) usage[counter] = decimalText(parts.amounts[part]);
  }
  const cost = parts.amounts[COST];
  return { usage, ...(cost !== undefined && { upstreamCostUsd: decimalText(cost) }) };
}

/** All usage objects of a chunk or a whole completion, wherever the upstream puts them. */
function usageObjects(document: Document): Document[] {
  const found: unknown[] = USAGE_NAMES.map((name) => document[name]);
  for (const holder of HOLDERS) {
    const inner = document[holder];
    if (isDocument(inner)) found.push(...USAGE_NAMES.map((name) => inner[name]));
  }
  for (const choice of documentsIn(document["choices"])) {
    for (const place of [choice, choice["delta"], choice["message"]]) {
      if (isDocument(place)) found.push(place["usage"]);
    }
  }
  if ("eval_count" in document || "prompt_eval_count" in document) found.push(document);
  return found.filter(isDocument);
}

function largest<T extends number | bigint>(one: Readonly<Record<string, T>>, other: Readonly<Record<string, T>>) {
  const joined = { ...one };
  for (const [name, amount] of Object.entries(other)) {
    const known = joined[name];
    if (known === undefined || amount > known) joined[name] = amount;
  }
  return joined;
}

/** The parts, with input, output and cache writes made of the names that count them piecewise. */
function withSums(counts: Readonly<Counts>): Counts {
  const known = { ...counts };
  const of = (name: string): number => known[name] ?? 0;
  const raise = (name: string, count: number): void => {
    known[name] = Math.max(of(name), count);
  };
  const pieces = of("cache_write_5m") + of("cache_write_1h");
  if (pieces > 0) raise("cache_write", pieces);
  if (known["fresh_input"] !== undefined) raise("input", known["fresh_input"] + cacheOf(known));
  if (known["cache_miss"] !== undefined) raise("input", known["cache_miss"] + of("cache_read"));
  if (of("tool_input") > 0 && known["input"] !== undefined) known["input"] += of("tool_input");
  if (known["whole_output"] !== undefined) raise("output", known["whole_output"]);
  if (known["candidates"] !== undefined || known["thoughts"] !== undefined) {
    raise("output", of("candidates") + of("thoughts"));
    if (known["thoughts"] !== undefined) raise("reasoning", known["thoughts"]);
  }
  return known;
}

/** Add the parts that the upstream reports beside input or output, and not within. */
function nest(known: Counts, provider: string): void {
  if (known["input"] === undefined && known["output"] === undefined) return;
  const beside = besideBy(known, provider);
  const reasoning = known["reasoning"] ?? 0;
  if (reasoning > (known["output"] ?? 0) && known["thoughts"] === undefined) beside.add("reasoning");
  if (known["fresh_input"] === undefined && cacheOf(known) > (known["input"] ?? 0)) {
    beside.add("cache_read").add("cache_write");
  }
  for (const name of ["cache_read", "cache_write"]) {
    if (beside.has(name) && known["input"] !== undefined) known["input"] += known[name] ?? 0;
  }
  for (const name of ["reasoning", "citation"]) {
    if (beside.has(name) && known["output"] !== undefined) known["output"] += known[name] ?? 0;
  }
}

function besideBy(known: Counts, provider: string): Set<string> {
  if (names.OUTSIDE_TOTAL.includes(provider)) return new Set(["reasoning", "citation"]);
  const shown = shownByTotal(known, provider);
  if (shown !== undefined) return shown;
  const isWhole = known["whole_output"] !== undefined || !names.REASONING_BESIDE.includes(provider);
  return new Set(isWhole ? [] : ["reasoning"]);
}

/** What stands beside input and output by the reported total; undefined if the total does not show it. */
function shownByTotal(known: Counts, provider: string): Set<string> | undefined {
  const { input, output, total } = known;
  if (input === undefined || output === undefined || total === undefined) return undefined;
  const rest = total - input - output;
  if (rest < 0) return undefined;
  if (rest === 0) return new Set();
  const candidates = ["reasoning", "cache_read", "cache_write", "citation"].filter((name) => known[name]);
  for (const chosen of subsets(candidates)) {
    if (chosen.reduce((sum, name) => sum + (known[name] ?? 0), 0) === rest) return new Set(chosen);
  }
  const reasoning = known["reasoning"] ?? 0;
  if (names.HIDDEN_REASONING.includes(provider) && known["fresh_input"] === undefined && reasoning === 0) {
    known["reasoning"] = rest;
    return new Set(["reasoning"]);
  }
  return reasoning > 0 && reasoning <= rest ? new Set(["reasoning"]) : undefined;
}

/** All subsets but the empty one: the smaller ones first, and in the order of the items. */
function subsets(items: readonly string[]): string[][] {
  const found: string[][] = [];
  const extend = (chosen: string[], from: number): void => {
    if (chosen.length > 0) found.push(chosen);
    for (let next = from; next < items.length; next += 1) extend([...chosen, items[next] as string], next + 1);
  };
  extend([], 0);
  return found.sort((one, other) => one.length - other.length);
}

function cacheOf(known: Readonly<Counts>): number {
  return (known["cache_read"] ?? 0) + (known["cache_write"] ?? 0);
}

function byPath(parts: Readonly<Record<string, readonly string[]>>): Map<string, string> {
  return new Map(Object.entries(parts).flatMap(([part, paths]) => paths.map((path) => [path, part] as const)));
}

const PART_OF_PATH = byPath(names.COUNTS);
const SECONDS_OF_PATH = byPath(names.SECONDS);
const GROUPS = new Set(
  [...PART_OF_PATH.keys(), ...SECONDS_OF_PATH.keys(), ...names.USD].flatMap((path) => {
    const steps = path.split(".");
    return steps.slice(1).map((_, depth) => steps.slice(0, depth + 1).join("."));
  }),
);

function read(usage: Document): Parts {
  const counts: Counts = {};
  const amounts: Record<string, bigint> = {};
  const hasInput = (names.COUNTS["input"] ?? []).some((path) => (path.split(".")[0] as string) in usage);
  const isWhole = hasInput || !names.CACHE_BESIDE_INPUT.some((name) => name in usage);
  for (const [path, value] of valuesOf(usage, "")) {
    const part = names.BARE_INPUT.includes(path) ? (isWhole ? "input" : "fresh_input") : PART_OF_PATH.get(path);
    const seconds = SECONDS_OF_PATH.get(path);
    if (part !== undefined) {
      note(counts, part, countOf(value));
    } else if (seconds !== undefined) {
      note(amounts, seconds, picounits(value, 3));
    } else if (names.USD.includes(path)) {
      note(amounts, COST, picounits(value, 12));
    } else if (names.USD_TICKS.includes(path)) {
      const ticks = countOf(value);
      note(amounts, COST, ticks === undefined ? undefined : fromTicks(ticks, names.TICKS_PER_USD));
    }
  }
  for (const [name, prefix] of Object.entries(names.MODALITY_LISTS)) noteModalities(counts, usage[name], prefix);
  return { counts, amounts };
}

/** The values of a usage object by their paths, of the groups that can hold a known name. */
function* valuesOf(group: Document, above: string): Generator<[string, unknown]> {
  for (const [name, value] of Object.entries(group)) {
    const path = `${above}${name}`;
    if (!isDocument(value)) yield [path, value];
    else if (GROUPS.has(path)) yield* valuesOf(value, `${path}.`);
  }
}

function note<T extends number | bigint>(parts: Record<string, T>, part: string, amount: T | undefined): void {
  const known = parts[part];
  if (amount !== undefined && (known === undefined || amount > known)) parts[part] = amount;
}

function noteModalities(counts: Counts, details: unknown, prefix: string): void {
  for (const detail of documentsIn(details)) {
    const modality = names.MODALITIES[String(detail["modality"]).toUpperCase()];
    const count = countOf("tokenCount" in detail ? detail["tokenCount"] : detail["token_count"]);
    if (modality !== undefined && count !== undefined) {
      counts[prefix + modality] = (counts[prefix + modality] ?? 0) + count;
    }
  }
}

/** A whole number within the contract's bounds, also where it is written as "40"; else undefined. */
function countOf(value: unknown): number | undefined {
  const number = typeof value === "string" && /^\d{1,16}$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isSafeInteger(number) && number >= 0 ? number : undefined;
}
