/** Which of the three formats a document of an upstream is in, and how its output is read. */

import { chatDeltas, chatHasAudio, chatReasons, chatTexts, hasChoices } from "./chat.js";
import { isMessage, messageAbout, messageDeltas, messageReasons, messageTexts } from "./messages.js";
import type { TextPiece } from "./pieces.js";
import {
  isResponse,
  responseAbout,
  responseDeltas,
  responseHasAudio,
  responseReasons,
  responseTexts,
} from "./responses.js";
import type { Document } from "./usage.js";

/** How to read documents of one format. */
export interface Format {
  readonly deltas: (document: Document) => TextPiece[];
  /** The texts that repeat what `deltas` of earlier documents have told. */
  readonly texts: (document: Document) => TextPiece[];
  /** The finish reason of each choice, undefined of one that is unfinished. */
  readonly reasons: (document: Document) => Map<number, string | undefined>;
  /** The object that has the response's id, model and service tier. */
  readonly about: (document: Document) => Document;
  readonly hasAudio: (document: Document) => boolean;
  /** Whether the document says anything about its choices. */
  readonly hasChoices: (document: Document) => boolean;
}

export const CHAT: Format = {
  deltas: chatDeltas,
  texts: chatTexts,
  reasons: chatReasons,
  about: (document) => document,
  hasAudio: chatHasAudio,
  hasChoices,
};

export const RESPONSES: Format = {
  deltas: responseDeltas,
  texts: responseTexts,
  reasons: responseReasons,
  about: responseAbout,
  hasAudio: responseHasAudio,
  hasChoices: () => true,
};

export const MESSAGES: Format = {
  deltas: messageDeltas,
  texts: messageTexts,
  reasons: messageReasons,
  about: messageAbout,
  hasAudio: () => false,
  hasChoices: () => true,
};

/** The format of a document; OpenAI's chat format if it is in none of the others. */
export function formatOf(document: Document): Format {
  if ("choices" in document || (!("type" in document) && !("object" in document))) return CHAT;
  if (isMessage(document)) return MESSAGES;
  return isResponse(document) ? RESPONSES : CHAT;
}
