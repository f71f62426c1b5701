/** A segment: up to 1,000 events that are sent together, in a file, or in memory if the disk fails. */

import * as fs from "node:fs";
import * as fsp from "node:fs/promises";
import { dirname } from "node:path";

import { syncFolder } from "./folders.js";

/** Events in the file `path`, or in `lines` if they could not be written. `size` in bytes. */
export interface Segment {
  readonly path: string | null;
  readonly inherited: boolean;
  readonly lines: readonly string[];
  count: number;
  size: number;
}

/** The events of a segment, and the `damaged` lines of its file. */
export interface Contents {
  readonly lines: readonly string[];
  readonly damaged: readonly string[];
}

/**
 * The events of a segment. A file of a dead process may end in the middle of a line. Throws if it cannot be read.
 */
export async function readSegment(segment: Segment): Promise<Contents> {
  if (segment.path === null) return { lines: segment.lines, damaged: [] };
  const lines = splitLines(await fsp.readFile(segment.path, "latin1"));
  if (!segment.inherited) return { lines, damaged: [] };
  return { lines: lines.filter(isObject), damaged: lines.filter((line) => !isObject(line)) };
}

/** Move the file of a dead process to `path`, and give its segment. */
export async function inheritSegment(from: string, path: string): Promise<Segment> {
  await fsp.rename(from, path);
  const data = await fsp.readFile(path, "latin1");
  return { path, inherited: true, lines: [], count: splitLines(data).length, size: data.length };
}

/** The number of bytes of lines in a file; they are ASCII. */
export function sizeOf(lines: readonly string[]): number {
  return lines.reduce((sum, line) => sum + line.length + 1, 0);
}

/** Appends batches to one new segment file; a batch is on disk when `append` has resolved. */
export class SegmentWriter {
  readonly segment: Segment;
  readonly #path: string;
  readonly #handle: fsp.FileHandle;

  private constructor(path: string, handle: fsp.FileHandle) {
    this.segment = { path, inherited: false, lines: [], count: 0, size: 0 };
    this.#path = path;
    this.#handle = handle;
  }

  /** Create the file. Throws if that is not possible. */
  static async create(path: string): Promise<SegmentWriter> {
    const writer = new SegmentWriter(path, await fsp.open(path, "ax", 0o600));
    try {
      await syncFolderLater(dirname(path));
    } catch (error) {
      await writer.close();
      await writer.remove();
      throw error;
    }
    return writer;
  }

  /** Write and sync the lines. Throws if the disk fails; then the file is unchanged. */
  async append(lines: readonly string[]): Promise<void> {
    const data = Buffer.from(`${lines.join("\n")}\n`, "latin1");
    try {
      await this.#handle.appendFile(data);
      await this.#handle.datasync();
    } catch (error) {
      await this.#handle.truncate(this.segment.size);
      throw error;
    }
    this.segment.count += lines.length;
    this.segment.size += data.length;
  }

  async close(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
  }

  /** Delete the file, which has no events. */
  async remove(): Promise<void> {
    await fsp.rm(this.#path, { force: true }).catch(() => undefined);
  }
}

/**
 * Write and sync a new file of lines at once, for the last moment of a process. Throws if that is not possible.
 */
export function writeSegmentNow(path: string, lines: readonly string[]): void {
  const fd = fs.openSync(path, "ax", 0o600);
  try {
    fs.writeFileSync(fd, `${lines.join("\n")}\n`, "latin1");
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  syncFolder(dirname(path));
}

async function syncFolderLater(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await fsp.open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function splitLines(data: string): string[] {
  return data.split("\n").filter((line) => line !== "");
}

function isObject(line: string): boolean {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}
