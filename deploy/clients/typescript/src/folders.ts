/**
 * The spool folders of processes: who owns one, and whether that process is alive.
 *
 *     spool/
 *       rejected.ndjson          the events that the server rejected, with the reasons
 *       sent/                    acknowledged events, if they are kept (sent.ts)
 *       node-4711-9f3c2a1b/      one emitter
 *         owner                  its process; absent once the emitter is closed
 *         00000001.ndjson        ...
 *
 * Node has no file locks that end with their process. So `owner` names the process by host, boot, id and start
 * time, and is touched every few seconds for readers on other hosts, which cannot look at the process.
 */

import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import * as fsp from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";

/** An owner on another host that has not touched its folder for this long is dead. */
const STALE_MS = 60_000;
const PREFIX = "node-";
const OWNER = "owner";
/** A folder that is being taken over, within the folder of the one that takes it. */
const TAKEN = "taken-";

interface Owner {
  readonly host: string;
  readonly boot: string | null;
  readonly pid: number;
  readonly started: string | null;
}

/**
 * Make a folder of this process. It has its name only when its owner is in it, so that none is taken while it is
 * made.
 */
export function makeOwnFolder(root: string): string {
  const name = `${process.pid}-${randomBytes(4).toString("hex")}`;
  const partial = join(root, `.${PREFIX}${name}`);
  const folder = join(root, `${PREFIX}${name}`);
  fs.mkdirSync(partial, { mode: 0o700 });
  fs.writeFileSync(join(partial, OWNER), JSON.stringify(ownerNow()), { mode: 0o600 });
  fs.renameSync(partial, folder);
  syncFolder(root);
  return folder;
}

/**
 * Show that the owner lives; false if the folder is not ours any more. The time is by the clock of the file
 * system.
 */
export async function touchOwner(folder: string): Promise<boolean> {
  try {
    await fsp.writeFile(join(folder, OWNER), JSON.stringify(ownerNow()), { flag: "r+" });
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ENOENT";
  }
}

/** Give the folder up: remove it if it is empty, else another process may take what is in it. */
export async function releaseFolder(folder: string): Promise<void> {
  await fsp.rm(join(folder, OWNER), { force: true }).catch(() => undefined);
  await fsp.rmdir(folder).catch(() => undefined);
}

/**
 * Move the folders of dead processes into the own one, and give the paths of the event files in them, oldest
 * first.
 *
 * A rename decides between processes that try this at the same time. Files that an earlier attempt has moved and
 * not reached are found as well.
 */
export async function takeAbandoned(root: string, own: string): Promise<string[]> {
  const taken: string[] = [];
  const now = (await fsp.stat(join(own, OWNER))).mtimeMs;
  for (const entry of (await fsp.readdir(root)).sort()) {
    const folder = join(root, entry);
    if (!entry.startsWith(PREFIX) || folder === own || (await isAlive(folder, now))) continue;
    const target = join(own, `${TAKEN}${entry}`);
    const moved = await fsp.rename(folder, target).then(
      () => true,
      () => false,
    );
    if (moved) taken.push(...(await eventFiles(target)));
  }
  return taken;
}

/** Remove what is left of folders that were taken over, as far as it is empty. */
export async function clearTaken(own: string): Promise<void> {
  for (const entry of await fsp.readdir(own)) {
    if (entry.startsWith(TAKEN)) await clearFolder(join(own, entry));
  }
}

/** Make the names in a folder durable. Windows cannot, and need not. */
export function syncFolder(folder: string): void {
  if (process.platform === "win32") return;
  const fd = fs.openSync(folder, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

async function clearFolder(folder: string): Promise<void> {
  for (const entry of await fsp.readdir(folder)) {
    if (entry.startsWith(TAKEN)) await clearFolder(join(folder, entry));
  }
  await releaseFolder(folder);
}

async function eventFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of (await fsp.readdir(folder)).sort()) {
    if (entry.startsWith(TAKEN)) found.push(...(await eventFiles(join(folder, entry))));
    if (entry.endsWith(".ndjson")) found.push(join(folder, entry));
  }
  return found;
}

async function isAlive(folder: string, now: number): Promise<boolean> {
  let owner: Partial<Owner>;
  let touched: number;
  try {
    const path = join(folder, OWNER);
    owner = JSON.parse(await fsp.readFile(path, "utf8")) as Partial<Owner>;
    touched = (await fsp.stat(path)).mtimeMs;
  } catch (error) {
    // No owner: it was closed. No JSON: the machine failed while it was written. Anything else: nobody knows.
    return !(error instanceof SyntaxError) && (error as NodeJS.ErrnoException).code !== "ENOENT";
  }
  const here = ownerNow();
  if (owner.host !== here.host) return now - touched < STALE_MS;
  if (owner.boot !== here.boot || typeof owner.pid !== "number" || !runs(owner.pid)) return false;
  return owner.started === startOf(owner.pid);
}

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function ownerNow(): Owner {
  return { host: hostname(), boot: bootId(), pid: process.pid, started: startOf(process.pid) };
}

/**
 * When a process started, by the kernel's own count; null where that cannot be read. Ids are used again, this is
 * not.
 */
function startOf(pid: number): string | null {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}

function bootId(): string | null {
  try {
    return fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return null;
  }
}
