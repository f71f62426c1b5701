/** OpenAI's Responses format: its events, and the whole response that ends a stream or is the answer itself. */

import { type TextPiece, piece, textOrNone } from "./pieces.js";
import { type Document, isDocument } from "./usage.js";

const PREFIX = "response.";
/** Text that the model writes: an event of each of these has a piece of it in `delta`. */
const DELTAS: ReadonlySet<unknown> = new Set([
  "response.output_text.delta",
  "response.refusal.delta",
  "response.function_call_arguments.delta",
  "response.custom_tool_call_input.delta",
  "response.mcp_call_arguments.delta",
  "response.mcp_call.arguments.delta",
  "response.code_interpreter_call_code.delta",
  "response.code_interpreter_call.code.delta",
  "response.output_audio_transcript.delta",
  "response.audio_transcript.delta",
  "response.audio.transcript.delta",
  "response.reasoning_text.delta",
  "response.reasoning_summary_text.delta",
  "response.reasoning_summary.delta",
  "response.reasoning.delta",
]);
const ADDED = "response.output_item.added";
/** Fields of an output item that hold text, and of the parts in its lists. */
const ITEM_TEXTS = ["name", "arguments", "input", "code", "text"];
const PART_TEXTS = ["text", "refusal", "transcript"];
const AUDIO: ReadonlySet<unknown> = new Set(["response.audio.delta", "response.output_audio.delta"]);

/** Whether a document is of this format. */
export function isResponse({ type, object }: Document): boolean {
  return (typeof type === "string" && type.startsWith(PREFIX)) || object === "response";
}

/** The piece of output in an event: at most one, but the name of a tool has a lane of its own. */
export function responseDeltas(document: Document): TextPiece[] {
  const { type, delta, item } = document;
  if (DELTAS.has(type)) {
    const { output_index: output, content_index: content, summary_index: summary } = document;
    const place = `${String(output)} ${String(content)} ${String(summary)} delta`;
    return piece(delta, place, 0, String(type).includes("reasoning"));
  }
  if (type === ADDED && isDocument(item)) return piece(item["name"], `${String(document["output_index"])} name`);
  return [];
}

/** All output text of a whole response, which its events have told before if it was streamed. */
export function responseTexts(document: Document): TextPiece[] {
  const { output } = responseIn(document);
  if (!Array.isArray(output)) return [];
  return output.flatMap((item: unknown, place) => (isDocument(item) ? itemPieces(item, place) : []));
}

/** Why it finished, of the one choice that there is; undefined while it has not. */
export function responseReasons(document: Document): Map<number, string | undefined> {
  const { status, incomplete_details: details } = responseIn(document);
  if (status !== "completed" && status !== "incomplete") return new Map([[0, undefined]]);
  return new Map([[0, (isDocument(details) ? textOrNone(details["reason"]) : undefined) ?? status]]);
}

/** The object that has the id, the model and the service tier. */
export function responseAbout(document: Document): Document {
  return responseIn(document);
}

/** Whether an event has audio, whose tokens cannot be counted here. */
export function responseHasAudio({ type }: Document): boolean {
  return AUDIO.has(type);
}

function responseIn(document: Document): Document {
  const { response, object } = document;
  if (isDocument(response)) return response;
  return object === "response" ? document : {};
}

function itemPieces(item: Document, place: number): TextPiece[] {
  const reasoning = item["type"] === "reasoning";
  const pieces = ITEM_TEXTS.flatMap((name) => piece(item[name], `${place} ${name}`, 0, reasoning));
  for (const group of ["content", "summary"]) {
    const parts = item[group];
    if (!Array.isArray(parts)) continue;
    parts.forEach((part: unknown, number) => {
      if (!isDocument(part)) return;
      for (const name of PART_TEXTS) {
        pieces.push(...piece(part[name], `${place} ${group} ${number} ${name}`, 0, reasoning));
      }
    });
  }
  return pieces;
}
