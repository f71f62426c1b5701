/**
 * Events that the server has acknowledged, kept compressed for a while: a restored server may have lost them.
 *
 *     spool/sent/1764406800123-4711-9f3c2a1b-00000001.ndjson.gz    when they were acknowledged, in ms
 *
 * The names and the contents are those of the Python emitter: `metering-emitter resend` sends them again.
 */

import { randomBytes } from "node:crypto";
import * as fsp from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

import type { ErrorLog } from "./reports.js";

const FOLDER = "sent";
const SUFFIX = ".ndjson.gz";

const compress = promisify(gzip);

interface SentFile {
  readonly path: string;
  readonly acknowledgedAt: number;
  readonly size: number;
}

/**
 * What one emitter keeps, for use by its sender. With `keepMs` 0 it keeps nothing.
 *
 * The oldest files are removed when they are older than `keepMs`, or when all together exceed `maxBytes`.
 */
export class SentEvents {
  readonly #folder: string;
  readonly #keepMs: number;
  readonly #maxBytes: number;
  readonly #errors: ErrorLog;
  readonly #name = `${process.pid}-${randomBytes(4).toString("hex")}`;
  #files: SentFile[] | undefined;
  #bytes = 0;
  #number = 0;

  constructor(root: string, keepMs: number, maxBytes: number, errors: ErrorLog) {
    this.#folder = join(root, FOLDER);
    this.#keepMs = keepMs;
    this.#maxBytes = maxBytes;
    this.#errors = errors;
  }

  /** Keep acknowledged events. If the disk fails, they are not kept; the log says so. */
  async keep(lines: readonly string[]): Promise<void> {
    if (this.#keepMs <= 0 || lines.length === 0) return;
    const now = Date.now();
    this.#number += 1;
    const [at, number] = [String(now).padStart(13, "0"), String(this.#number).padStart(8, "0")];
    const name = `${at}-${this.#name}-${number}${SUFFIX}`;
    try {
      this.#files ??= await this.#found();
      const data = await compress(`${lines.join("\n")}\n`, { level: 1 });
      await this.#write(join(this.#folder, name), data);
      this.#files.push({ path: join(this.#folder, name), acknowledgedAt: now, size: data.length });
      this.#bytes += data.length;
      await this.#prune(this.#files, now);
    } catch (error) {
      this.#errors.error("acknowledged events are not kept", String(error), lines.length);
    }
  }

  async #prune(files: SentFile[], now: number): Promise<void> {
    for (let oldest = files[0]; oldest !== undefined; oldest = files[0]) {
      const age = now - oldest.acknowledgedAt;
      if (age <= this.#keepMs && this.#bytes <= this.#maxBytes) return;
      if (age <= this.#keepMs) {
        const hours = (age / 3_600_000).toFixed(1);
        const bound = `their files reach the bound of ${this.#maxBytes} bytes`;
        this.#errors.error("acknowledged events are kept for a shorter time", `${hours} hours only: ${bound}`);
      }
      files.shift();
      this.#bytes -= oldest.size;
      // Another process of the same spool may have removed it.
      await fsp.rm(oldest.path, { force: true });
    }
  }

  /** The files that earlier processes kept, oldest first. */
  async #found(): Promise<SentFile[]> {
    await fsp.mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const files: SentFile[] = [];
    for (const name of (await fsp.readdir(this.#folder)).sort()) {
      const at = /^(\d+)-.*\.ndjson\.gz$/.exec(name)?.[1];
      if (at === undefined) continue;
      const path = join(this.#folder, name);
      const size = await fsp.stat(path).then(
        (found) => found.size,
        () => 0,
      );
      files.push({ path, acknowledgedAt: Number(at), size });
      this.#bytes += size;
    }
    return files;
  }

  /** Write a file that has its name only when it is whole. */
  async #write(path: string, data: Buffer): Promise<void> {
    const partial = path.replace(/\.gz$/, ".partial");
    try {
      await fsp.writeFile(partial, data, { flag: "wx", mode: 0o600 });
      await fsp.rename(partial, path);
    } catch (error) {
      await fsp.rm(partial, { force: true }).catch(() => undefined);
      throw error;
    }
  }
}
