/** Waiting within one thread: for a notice, for a time, or for whichever comes first. */

/** The longest time that a timer of Node can wait. */
const MAX_MS = 2 ** 31 - 1;

/**
 * Lets tasks wait until something has changed.
 *
 * Waiting keeps the process alive only once `keepAlive` is called: an emitter that has nothing to do must not.
 */
export class Signal {
  #waiting = new Set<() => void>();
  #timers = new Set<NodeJS.Timeout>();
  #alive = false;

  /** Wake all who wait. */
  notify(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    for (const wake of waiting) wake();
  }

  /** From now on, waiting keeps the process alive. */
  keepAlive(): void {
    this.#alive = true;
    for (const timer of this.#timers) timer.ref();
  }

  /** Resolves with the next notice, or after `ms` milliseconds. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(wake, Math.min(Math.max(0, ms), MAX_MS));
      const waiting = this.#waiting;
      const timers = this.#timers;
      if (!this.#alive) timer.unref();
      waiting.add(wake);
      timers.add(timer);

      function wake(): void {
        clearTimeout(timer);
        timers.delete(timer);
        waiting.delete(wake);
        resolve();
      }
    });
  }
}
