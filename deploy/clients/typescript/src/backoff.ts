/** The pauses between the attempts of one sender: exponential with jitter, or as the server asks. Times in ms. */

import { Signal } from "./signal.js";

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 30_000;
const MAX_RETRY_AFTER_MS = 60_000;
const MAX_CLOSING_PAUSE_MS = 1_000;

/** Why a pause is made; see `Verdict`. */
export interface PauseReason {
  readonly retryAfterMs: number | undefined;
  readonly misconfigured: boolean;
}

export class Backoff {
  readonly #slowMs: number;
  readonly #interrupted = new Signal();
  #attempts = 0;

  constructor(slowMs: number) {
    this.#slowMs = slowMs;
  }

  /** After a success: the next pause is short again. */
  reset(): void {
    this.#attempts = 0;
  }

  /** End the current pause, for a last attempt; from now on, pauses keep the process alive. */
  interrupt(): void {
    this.#interrupted.keepAlive();
    this.#interrupted.notify();
  }

  /** Pause before the next attempt. While closing, until the `deadline` at most, by `performance.now()`. */
  async wait(reason: PauseReason, deadline: number | undefined): Promise<void> {
    const pause = this.pauseMs(reason);
    const most = deadline === undefined ? pause : Math.min(deadline - performance.now(), MAX_CLOSING_PAUSE_MS);
    await this.#interrupted.wait(Math.min(pause, most));
  }

  /** The length of the next pause. */
  pauseMs(reason: PauseReason): number {
    if (reason.misconfigured) return this.#slowMs;
    if (reason.retryAfterMs !== undefined) {
      return Math.min(reason.retryAfterMs, MAX_RETRY_AFTER_MS) * between(1, 1.2);
    }
    this.#attempts = Math.min(this.#attempts + 1, 20);
    return between(0.5, 1) * Math.min(FIRST_PAUSE_MS * 2 ** (this.#attempts - 1), MAX_PAUSE_MS);
  }
}

/** The milliseconds of either form of the Retry-After header; undefined without a valid one. */
export function retryAfterMs(header: string | null): number | undefined {
  const value = header?.trim() ?? "";
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const when = /GMT$/.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(when) ? undefined : Math.max(0, when - Date.now());
}

function between(least: number, most: number): number {
  return least + Math.random() * (most - least);
}
