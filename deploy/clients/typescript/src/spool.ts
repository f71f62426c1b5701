/**
 * The spool: events on disk until the server has acknowledged them. Its size is bounded per emitter.
 *
 * One task appends and one sends. Both are of one thread, so that only what stands around an `await` can
 * interleave.
 */

import * as fs from "node:fs";
import * as fsp from "node:fs/promises";
import { join } from "node:path";

import { clearTaken, makeOwnFolder, releaseFolder, takeAbandoned, touchOwner } from "./folders.js";
import { type Log, Troubles } from "./reports.js";
import { type Segment, SegmentWriter, inheritSegment, sizeOf, writeSegmentNow } from "./segments.js";
import { Signal } from "./signal.js";

const DISK = "disk";
/** The events that wait in memory when the disk fails. */
const MAX_MEMORY_BYTES = 64 * 2 ** 20;
/** After a silence of this long, another host may have taken the folder: it is looked at before it is used. */
const MAX_SILENCE_MS = 40_000;

/** The spool folder cannot be used; the message names it. */
export class SpoolError extends Error {
  override readonly name = "SpoolError";
}

export interface SpoolOptions {
  readonly root: string;
  readonly softBytes: number;
  readonly hardBytes: number;
  readonly segmentEvents: number;
  readonly log: Log;
}

/** The spool folder of one emitter. */
export class Spool {
  /** Notified when there may be something to claim. */
  readonly changed = new Signal();
  readonly #options: SpoolOptions;
  readonly #troubles: Troubles;
  #folder: string;
  #touchedAt = Date.now();
  #number = 0;
  #writer: SegmentWriter | null = null;
  #writing = false;
  #waiting: Segment[] = [];
  #events = 0;
  #bytes = 0;
  #memoryBytes = 0;

  /** Throws a SpoolError if the folder cannot be created or written. */
  constructor(options: SpoolOptions) {
    this.#options = options;
    this.#troubles = new Troubles(options.log);
    try {
      fs.mkdirSync(options.root, { recursive: true });
      this.#folder = makeOwnFolder(options.root);
    } catch (error) {
      const why = `the spool folder ${options.root} cannot be used: ${String(error)}. Choose another one`;
      throw new SpoolError(why, { cause: error });
    }
  }

  /** The number of events that the server has not answered for. */
  get pendingEvents(): number {
    return this.#events;
  }

  /** Show other processes that this one lives, and take over what dead ones left; gives the number of events. */
  async keepHouse(): Promise<number> {
    if (!(await touchOwner(this.#folder))) {
      this.#touchedAt = 0; // the next `append` starts a new folder
      return 0;
    }
    this.#touchedAt = Date.now();
    let events = 0;
    for (const path of await takeAbandoned(this.#options.root, this.#folder)) events += await this.#inherit(path);
    await clearTaken(this.#folder);
    if (events > 0) this.changed.notify();
    return events;
  }

  /**
   * Write events to disk; gives the number of those that there was no room for.
   *
   * Above the soft bound, `spare` events are refused, above the hard bound all. If the disk fails, they wait in
   * memory.
   */
  async append(needed: readonly string[], spare: readonly string[]): Promise<number> {
    const { hardBytes, softBytes, segmentEvents } = this.#options;
    const lines = [...this.#fitting(needed, hardBytes), ...this.#fitting(spare, softBytes)];
    let refused = needed.length + spare.length - lines.length;
    this.#writing = true;
    try {
      for (let start = 0; start < lines.length; start += segmentEvents) {
        refused += await this.#write(lines.slice(start, start + segmentEvents));
      }
    } finally {
      this.#writing = false;
    }
    this.changed.notify();
    return refused;
  }

  /** Write lines at once, for the last moment of a process. Throws if that is not possible. */
  appendNow(lines: readonly string[]): void {
    const { segmentEvents } = this.#options;
    for (let start = 0; start < lines.length; start += segmentEvents) {
      writeSegmentNow(this.#nextPath(), lines.slice(start, start + segmentEvents));
    }
  }

  /** The oldest segment, to be sent and then removed or given back; undefined if there is none now. */
  async claim(): Promise<Segment | undefined> {
    if (this.#waiting.length === 0 && !this.#writing) await this.#seal();
    return this.#waiting.shift();
  }

  /** Return a segment that was not sent. */
  giveBack(segment: Segment): void {
    this.#waiting.unshift(segment);
  }

  /** Delete a segment that the server has answered for. */
  async remove(segment: Segment): Promise<void> {
    this.#events -= segment.count;
    if (segment.path === null) {
      this.#memoryBytes -= segment.size;
      return;
    }
    this.#bytes -= segment.size;
    // If the file stays, the next process sends it again, which is harmless.
    await fsp.rm(segment.path, { force: true }).catch(() => undefined);
  }

  /** Append rejected events with the reason to rejected.ndjson; false if that is not possible. */
  async setAside(lines: readonly string[], reason: string): Promise<boolean> {
    const path = join(this.#options.root, "rejected.ndjson");
    const data = Buffer.from(lines.map((event) => `${JSON.stringify({ reason, event })}\n`).join(""));
    try {
      // One write in append mode: processes that share the file do not mix their lines.
      const handle = await fsp.open(path, "a", 0o600);
      try {
        if ((await handle.stat()).size + data.length > this.#options.hardBytes) return false;
        return (await handle.write(data)).bytesWritten === data.length;
      } finally {
        await handle.close();
      }
    } catch {
      return false;
    }
  }

  /** Release the folder; another process may take over its events. */
  async close(): Promise<void> {
    await this.#seal();
    if (this.#memoryBytes > 0) {
      this.#options.log("error", "usage events in memory are lost: the disk failed, and the emitter closes");
    }
    await releaseFolder(this.#folder);
  }

  async #inherit(path: string): Promise<number> {
    try {
      const segment = await inheritSegment(path, this.#nextPath());
      this.#events += segment.count;
      this.#bytes += segment.size;
      this.#waiting.push(segment);
      return segment.count;
    } catch (error) {
      this.#options.log("error", `a spool file of a dead process cannot be read, and stays: ${String(error)}`);
      return 0;
    }
  }

  /** As many lines as the bound allows; counts their bytes at once. */
  #fitting(lines: readonly string[], bound: number): string[] {
    const taken: string[] = [];
    for (const line of lines) {
      if (this.#bytes + line.length + 1 > bound) break;
      this.#bytes += line.length + 1;
      taken.push(line);
    }
    return taken;
  }

  async #write(lines: readonly string[]): Promise<number> {
    try {
      if (Math.abs(Date.now() - this.#touchedAt) > MAX_SILENCE_MS) await this.#touch();
      if (this.#writer !== null && this.#writer.segment.count + lines.length > this.#options.segmentEvents) {
        await this.#seal();
      }
      this.#writer ??= await SegmentWriter.create(this.#nextPath());
      await this.#writer.append(lines);
    } catch (error) {
      // The folder may be gone: the next write looks.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") this.#touchedAt = 0;
      this.#bytes -= sizeOf(lines);
      return this.#holdInMemory(lines, error as NodeJS.ErrnoException);
    }
    this.#events += lines.length;
    this.#troubles.passes(DISK, "usage events are written to disk again");
    return 0;
  }

  async #holdInMemory(lines: readonly string[], error: NodeJS.ErrnoException): Promise<number> {
    const where = `the spool folder ${this.#folder}`;
    const message = `cannot write to ${where}, usage events wait in memory: ${String(error)}`;
    this.#troubles.arises(DISK, error.code ?? error.name, message);
    await this.#seal();
    const size = sizeOf(lines);
    if (this.#memoryBytes + size > MAX_MEMORY_BYTES) return lines.length;
    this.#memoryBytes += size;
    this.#events += lines.length;
    this.#waiting.push({ path: null, inherited: false, lines, count: lines.length, size });
    return 0;
  }

  /** Close the current file, so that it can be sent. */
  async #seal(): Promise<void> {
    const writer = this.#writer;
    if (writer === null) return;
    this.#writer = null;
    await writer.close();
    if (writer.segment.count > 0) this.#waiting.push(writer.segment);
    else await writer.remove();
  }

  async #touch(): Promise<void> {
    if (!(await touchOwner(this.#folder))) await this.#startAnew();
    this.#touchedAt = Date.now();
  }

  /** Another process took this one for dead, and sends what was in the folder: go on in a new one. */
  async #startAnew(): Promise<void> {
    this.#options.log("warn", `another process has taken over ${this.#folder}: this one goes on in a new folder`);
    await this.#seal();
    const left = this.#waiting.filter((segment) => segment.path !== null);
    this.#waiting = this.#waiting.filter((segment) => segment.path === null);
    for (const segment of left) await this.remove(segment);
    this.#folder = makeOwnFolder(this.#options.root);
  }

  #nextPath(): string {
    this.#number += 1;
    return join(this.#folder, `${String(this.#number).padStart(8, "0")}.ndjson`);
  }
}
