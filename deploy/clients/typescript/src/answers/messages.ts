/** Anthropic's Messages format: its events, and the whole message that is the answer of an unstreamed request. */

import { type TextPiece, piece, textOrNone } from "./pieces.js";
import { type Document, isDocument } from "./usage.js";

const EVENTS: ReadonlySet<unknown> = new Set([
  "message_start",
  "content_block_start",
  "content_block_delta",
  "content_block_stop",
  "message_delta",
  "message_stop",
  "ping",
]);
/** The fields in which deltas have their text; signatures and citations are no output of their own. */
const TEXTS = ["text", "partial_json"];
const THINKING = "thinking";

/** Whether a document is of this format. */
export function isMessage(document: Document): boolean {
  const { type, content } = document;
  return EVENTS.has(type) || (type === "message" && Array.isArray(content));
}

/** The pieces of output in an event. */
export function messageDeltas(document: Document): TextPiece[] {
  const { type, index, delta, content_block: block } = document;
  if (type === "content_block_delta" && isDocument(delta)) return deltaPieces(delta, index);
  if (type === "content_block_start" && isDocument(block)) return blockPieces(block, index);
  return [];
}

/** All output text of a whole message. */
export function messageTexts(document: Document): TextPiece[] {
  const { type, content } = document;
  if (type !== "message" || !Array.isArray(content)) return [];
  return content.flatMap((block: unknown, index) => (isDocument(block) ? blockPieces(block, index) : []));
}

/** Why it stopped, of the one choice that there is; undefined while it has not. */
export function messageReasons(document: Document): Map<number, string | undefined> {
  const holder = document["type"] === "message_delta" ? document["delta"] : document;
  return new Map([[0, isDocument(holder) ? textOrNone(holder["stop_reason"]) : undefined]]);
}

/** The object that has the id and the model; the tier is in the usage. */
export function messageAbout(document: Document): Document {
  const { type, message } = document;
  if (isDocument(message)) return message;
  return type === "message" ? document : {};
}

function deltaPieces(delta: Document, index: unknown): TextPiece[] {
  return [
    ...TEXTS.flatMap((name) => piece(delta[name], `${String(index)} ${name}`)),
    ...piece(delta[THINKING], `${String(index)} ${THINKING}`, 0, true),
  ];
}

/** The text of a block; of a block that only begins, the name of its tool. */
function blockPieces(block: Document, index: unknown): TextPiece[] {
  const { name, input } = block;
  const given = isDocument(input) && Object.keys(input).length > 0 ? JSON.stringify(input) : undefined;
  return [
    ...deltaPieces(block, index),
    ...piece(name, `${String(index)} name`),
    ...piece(given, `${String(index)} partial_json`),
  ];
}
