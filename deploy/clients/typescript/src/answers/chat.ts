/**
 * OpenAI's chat format: all output text of an answer, in whatever field it stands, each piece once.
 *
 * Streamed chunks have `delta`s, whole completions have `message`s. Text that is not known to be text (ids,
 * signatures, images, audio) is left out.
 */

import { type TextPiece, piece, textOrNone } from "./pieces.js";
import { type Document, documentsIn, isDocument } from "./usage.js";

const TEXT_FIELDS = ["content", "refusal"];
/** Fields of a delta that hold reasoning: upstreams send the same text under several of these names. */
const REASONING_NAME = /reason|think|thought/i;
const NO_TEXT_NAME = /signature|_id$|^id$|type|token|effort|encrypted|data$|budget/i;
/** Parts of a content list, and entries of reasoning_details, say their text under one of these. */
const PART_TEXTS = ["text", "content", "thinking", "reasoning", "summary", "refusal", "transcript", "input_text"];
const MAX_DEPTH = 4;

/** All output text in the deltas of a chunk, and in the choices of a text completion. */
export function chatDeltas(document: Document): TextPiece[] {
  return choicesOf(document).flatMap(([choice, index]) => [
    ...(isDocument(choice["delta"]) ? bodyPieces(choice["delta"], index) : []),
    ...piece(choice["text"], "text", index),
  ]);
}

/** All output text in the whole messages of a completion; some upstreams repeat it so after its deltas. */
export function chatTexts(document: Document): TextPiece[] {
  return choicesOf(document).flatMap(([{ message }, index]) =>
    isDocument(message) ? bodyPieces(message, index) : piece(message, "content", index),
  );
}

/** The choices of a document by index: the finish reason of those that have ended, undefined of the others. */
export function chatReasons(document: Document): Map<number, string | undefined> {
  return new Map(choicesOf(document).map(([choice, index]) => [index, textOrNone(choice["finish_reason"])]));
}

/** Whether a chunk or completion has audio, whose tokens cannot be counted here. */
export function chatHasAudio(document: Document): boolean {
  return choicesOf(document).some(([{ delta, message }]) =>
    [delta, message].some((body) => isDocument(body) && Boolean(body["audio"])),
  );
}

/** The choices with their indices. */
function choicesOf(document: Document): [Document, number][] {
  const choices = document["choices"];
  if (!Array.isArray(choices)) return [];
  return choices.flatMap((choice: unknown, position): [Document, number][] =>
    isDocument(choice) ? [[choice, indexOf(choice, position)]] : [],
  );
}

/** The index of a choice or tool call; its position where the index is missing or no number. */
function indexOf(item: Document, position: number): number {
  return Number.isInteger(item["index"]) ? (item["index"] as number) : position;
}

function bodyPieces(body: Document, index: number): TextPiece[] {
  const pieces: TextPiece[] = [];
  let reasoning = "";
  for (const [name, value] of Object.entries(body)) {
    if (value === null || value === undefined || value === "" || name === "role") continue;
    if (TEXT_FIELDS.includes(name)) {
      const [spoken, thought] = spokenIn(value);
      pieces.push(...piece(spoken, name, index));
      reasoning = longer(reasoning, thought);
    } else if (name === "tool_calls") {
      pieces.push(...callPieces(value, index));
    } else if (name === "function_call") {
      pieces.push(...functionPieces(value, index, -1));
    } else if (name === "audio") {
      pieces.push(...piece(isDocument(value) ? value["transcript"] : undefined, name, index));
    } else if (REASONING_NAME.test(name) && !NO_TEXT_NAME.test(name)) {
      reasoning = longer(reasoning, textsIn(value).join(""));
    }
  }
  return [...pieces, ...piece(reasoning, "reasoning", index, true)];
}

/** The one with more characters; the first of two that have equally many. */
function longer(one: string, other: string): string {
  if (one === "" || other === "") return one || other;
  return [...other].length > [...one].length ? other : one;
}

/** The text and the reasoning in a content, which is a string or a list of parts. */
function spokenIn(content: unknown): [string, string] {
  if (typeof content === "string") return [content, ""];
  const spoken: string[] = [];
  const thought: string[] = [];
  for (const part of Array.isArray(content) ? (content as unknown[]) : [content]) {
    const isThought = isDocument(part) && REASONING_NAME.test(String(part["type"] ?? ""));
    (isThought ? thought : spoken).push(...textsIn(part));
  }
  return [spoken.join(""), thought.join("")];
}

/** The texts in a string, a part, or a list of parts. */
function textsIn(value: unknown, depth = 0): string[] {
  if (typeof value === "string") return [value];
  if (depth >= MAX_DEPTH) return [];
  if (Array.isArray(value)) return value.flatMap((item) => textsIn(item, depth + 1));
  if (!isDocument(value)) return [];
  return PART_TEXTS.flatMap((name) => (value[name] ? textsIn(value[name], depth + 1) : []));
}

function callPieces(calls: unknown, index: number): TextPiece[] {
  const list: unknown[] = Array.isArray(calls) ? calls : [calls];
  return list.flatMap((call, position) => {
    if (!isDocument(call)) return [];
    const number = indexOf(call, position);
    return ["function", "custom"].flatMap((kind) => functionPieces(call[kind], index, number));
  });
}

function functionPieces(called: unknown, index: number, number: number): TextPiece[] {
  if (!isDocument(called)) return [];
  return ["name", "arguments", "input"].flatMap((name) => {
    const value = called[name];
    // Some upstreams send the arguments as an object, which the model wrote as its JSON.
    const text = typeof value === "object" && value !== null ? JSON.stringify(value) : value;
    return piece(text, `${number} ${name}`, index);
  });
}

/** Whether a document has choices. */
export function hasChoices(document: Document): boolean {
  return documentsIn(document["choices"]).length > 0;
}
