/** How a stream has ended, by the error that ended it. */

import type { Outcome } from "./events.js";

const MAX_CAUSES = 5;
/** By names and codes: errors of SDKs and frameworks are no classes of ours. */
const CLIENT_GONE: ReadonlySet<unknown> = new Set([
  "AbortError",
  "ABORT_ERR",
  "APIUserAbortError",
  "ERR_STREAM_DESTROYED",
  "ERR_STREAM_PREMATURE_CLOSE",
  "ResponseAborted",
]);
const TIMEOUT = /Timeout(Error)?$|^ETIMEDOUT$/;

/** An outcome, and the name of the error for all but cancelled streams. */
export interface Ended {
  readonly outcome: Outcome;
  readonly errorType?: string;
}

/**
 * The outcome of a stream that ended with an error: cancelled if the client went away, timed out, or failed.
 *
 * If the `signal` has been aborted, its reason decides: what an aborted call throws can be anything.
 */
export function outcomeOf(error: unknown, signal: AbortSignal | undefined): Ended {
  if (signal?.aborted === true) {
    const reason: unknown = signal.reason;
    return isTimeout(reason) ? { outcome: "timed_out", errorType: nameOf(reason) } : { outcome: "cancelled" };
  }
  if (marksOf(error).some((mark) => CLIENT_GONE.has(mark))) return { outcome: "cancelled" };
  return { outcome: isTimeout(error) ? "timed_out" : "failed", errorType: nameOf(error) };
}

function isTimeout(error: unknown): boolean {
  return marksOf(error).some((mark) => typeof mark === "string" && TIMEOUT.test(mark));
}

/** The name of an error, or of its class where it has none of its own. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return typeof error;
  return error.name === "Error" ? error.constructor.name : error.name;
}

/** The names and the codes of an error and of its causes. */
function marksOf(error: unknown): unknown[] {
  const marks: unknown[] = [];
  let current = error;
  for (let depth = 0; depth < MAX_CAUSES && current instanceof Error; depth += 1) {
    marks.push(current.name, current.constructor.name, (current as NodeJS.ErrnoException).code);
    current = current.cause;
  }
  return marks;
}
