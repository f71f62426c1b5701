/** What was emitted outlives its process, is taken over once, and is in nobody's way. */

import assert from "node:assert/strict";
import { fork, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";

import { StreamStart } from "stream-metering-emitter";

import { eventually, folder, startEmitter, startSink } from "./sink.js";

const NOBODY = "http://127.0.0.1:9";

function startOf(streamId) {
  return new StreamStart({ customerId: "acme", streamId, time: new Date(), provider: "openai", model: "gpt-4o" });
}

function line(streamId) {
  return `{"specversion":"1.0","type":"stream-start","source":"/g","id":"${streamId}:start"}`;
}

/** A program with an emitter on this spool, as `emitter`, and `startOf`. */
function program(spool, body) {
  return `
    import { Emitter, StreamStart } from "stream-metering-emitter";
    const emitter = new Emitter({ url: process.argv[2] ?? "${NOBODY}", key: "mk_a_b", source: "/g",
                                  spool: ${JSON.stringify(spool)}, log() {} });
    const startOf = (streamId) => new StreamStart({ customerId: "acme", streamId, time: new Date(),
                                                    provider: "openai", model: "gpt-4o" });
    ${body}`;
}

function run(t, spool, body, url = NOBODY) {
  const path = join(import.meta.dirname, `.program-${process.pid}-${Math.random().toString(36).slice(2)}.mjs`);
  fs.writeFileSync(path, program(spool, body));
  t.after(() => fs.rmSync(path, { force: true }));
  return { path, url };
}

function dead(spool, name, owner, files) {
  const path = join(spool, name);
  fs.mkdirSync(path, { recursive: true });
  if (owner !== undefined) fs.writeFileSync(join(path, "owner"), owner);
  for (const [file, data] of Object.entries(files)) fs.writeFileSync(join(path, file), data);
  return path;
}

/** The first words of a line of the log. */
function beginning(line) {
  return line.split(" ").slice(0, 3).join(" ");
}

function foldersIn(spool) {
  return fs.readdirSync(spool).filter((name) => name.startsWith("node-"));
}

test("the events of a process that is killed are sent by the next one, once", async (t) => {
  const spool = folder(t);
  const body = `for (let n = 0; n < 50; n += 1) emitter.emit(startOf("s" + n));
    setTimeout(() => process.send("spooled"), 300); setInterval(() => {}, 1000);`;
  const child = fork(run(t, spool, body).path, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  await once(child, "message");
  child.kill("SIGKILL");
  await once(child, "exit");
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url, { spool });
  await eventually(() => sink.events.size === 50, "all events arrive");
  assert.equal(await emitter.close(), true);
  assert.equal(emitter.stats().inherited, 50);
  assert.deepEqual(foldersIn(spool), []);
});

test("the folder of a process that lives is left alone", async (t) => {
  const spool = folder(t);
  const child = fork(
    run(
      t,
      spool,
      `emitter.emit(startOf("theirs"));
    setTimeout(() => process.send("spooled"), 300); setInterval(() => {}, 1000);`,
    ).path,
  );
  t.after(() => child.kill("SIGKILL"));
  await once(child, "message");
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url, { spool });
  emitter.emit(startOf("ours"));
  assert.equal(await emitter.close(), true);
  assert.deepEqual([...sink.events.keys()], ["ours:start"]);
  assert.equal(foldersIn(spool).length, 1);
});

test("a process whose events are all sent exits by itself, and what it emitted last is sent", async (t) => {
  const sink = await startSink(t);
  const { path } = run(t, folder(t), `emitter.emit(startOf("last"));`);
  const child = fork(path, [sink.url]);
  const [code] = await once(child, "exit");
  assert.equal(code, 0);
  assert.deepEqual([...sink.events.keys()], ["last:start"]);
});

test("process.exit leaves the last events on disk", (t) => {
  const spool = folder(t);
  const { path } = run(t, spool, `emitter.emit(startOf("last")); process.exit(3);`);
  assert.equal(spawnSync(process.execPath, [path]).status, 3);
  const [own] = foldersIn(spool);
  const files = fs.readdirSync(join(spool, own)).filter((name) => name.endsWith(".ndjson"));
  assert.equal(JSON.parse(fs.readFileSync(join(spool, own, files[0]), "utf8")).id, "last:start");
});

test("a torn last line is set aside, and the lines before it are sent", async (t) => {
  const spool = folder(t);
  dead(spool, "node-1-torn", undefined, { "00000001.ndjson": `${line("a")}\n${line("b")}\n{"specversion":"1.` });
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url, { spool });
  assert.equal(await emitter.close(), true);
  assert.deepEqual([...sink.events.keys()], ["a:start", "b:start"]);
  assert.match(fs.readFileSync(join(spool, "rejected.ndjson"), "utf8"), /not JSON: the spool file was damaged/);
  assert.equal(emitter.stats().rejected, 1);
});

test("a folder is taken over by what its owner says, not by its name", async (t) => {
  const spool = folder(t);
  const { emitter } = startEmitter(t, NOBODY, { spool });
  const own = JSON.parse(fs.readFileSync(join(spool, foldersIn(spool)[0], "owner"), "utf8"));
  await emitter.close();
  const say = (changes) => JSON.stringify({ ...own, ...changes });
  const file = { "00000001.ndjson": `${line("x")}\n` };
  dead(spool, "node-closed", undefined, { "00000001.ndjson": `${line("closed")}\n` });
  dead(spool, "node-gone", say({ pid: 2 ** 22 + 7 }), { "00000001.ndjson": `${line("gone")}\n` });
  dead(spool, "node-again", say({ started: "1" }), { "00000001.ndjson": `${line("again")}\n` });
  dead(spool, "node-boot", say({ boot: "before" }), { "00000001.ndjson": `${line("boot")}\n` });
  dead(spool, "node-torn", "", { "00000001.ndjson": `${line("torn")}\n` });
  const stale = dead(spool, "node-stale", say({ host: "other" }), { "00000001.ndjson": `${line("stale")}\n` });
  fs.utimesSync(join(stale, "owner"), new Date(Date.now() - 61_000), new Date(Date.now() - 61_000));
  dead(spool, "node-fresh", say({ host: "other" }), file);
  dead(spool, "python-folder", undefined, file);
  const sink = await startSink(t);
  const next = startEmitter(t, sink.url, { spool }).emitter;
  assert.equal(await next.close(), true);
  const sent = [...sink.events.keys()].sort();
  assert.deepEqual(
    sent,
    ["again", "boot", "closed", "gone", "stale", "torn"].map((id) => `${id}:start`),
  );
  assert.deepEqual(foldersIn(spool), ["node-fresh"]);
  assert.equal(fs.readdirSync(join(spool, "python-folder")).length, 1);
});

test("processes that start together take each folder once", async (t) => {
  const spool = folder(t);
  for (let n = 0; n < 40; n += 1) {
    dead(spool, `node-dead-${n}`, undefined, { "00000001.ndjson": `${line(`s${n}`)}\n` });
  }
  const sink = await startSink(t);
  const { path } = run(t, spool, `await emitter.close();`);
  const children = [1, 2, 3, 4].map(() => fork(path, [sink.url]));
  await Promise.all(children.map((child) => once(child, "exit")));
  assert.equal(sink.events.size, 40);
  assert.equal(sink.requests.flatMap(({ events }) => events).length, 40);
  assert.deepEqual(foldersIn(spool), []);
});

test("what a process had taken over and not sent is taken over again", async (t) => {
  const spool = folder(t);
  const first = dead(spool, "node-first", undefined, { "00000001.ndjson": `${line("a")}\n` });
  dead(first, "taken-node-older", "{}", { "00000001.ndjson": `${line("b")}\n` });
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url, { spool });
  assert.equal(await emitter.close(), true);
  assert.deepEqual([...sink.events.keys()].sort(), ["a:start", "b:start"]);
  assert.deepEqual(foldersIn(spool), []);
});

test("an emitter whose folder is gone loses no event that comes later, and goes on in a new one", async (t) => {
  const spool = folder(t);
  const sink = await startSink(t);
  const { emitter, lines } = startEmitter(t, sink.url, { spool });
  await sleep(100);
  fs.rmSync(join(spool, foldersIn(spool)[0]), { recursive: true });
  for (const id of ["a", "b"]) {
    emitter.emit(startOf(id));
    await eventually(() => sink.events.has(`${id}:start`), `${id} arrives`);
  }
  assert.deepEqual(lines.map(beginning), ["error: cannot write", "warn: another process", "warn: usage events"]);
  assert.equal(foldersIn(spool).length, 1);
  assert.equal(await emitter.close(), true);
});

test("a spool that cannot be written holds events in memory, and says so once", async (t) => {
  const spool = folder(t);
  const sink = await startSink(t);
  const { emitter, lines } = startEmitter(t, sink.url, { spool });
  const own = join(spool, foldersIn(spool)[0]);
  for (const number of [1, 2]) fs.mkdirSync(join(own, `0000000${number}.ndjson`)); // in the way
  for (const id of ["a", "b", "c"]) {
    emitter.emit(startOf(id));
    await eventually(() => sink.events.has(`${id}:start`), `${id} arrives`);
  }
  assert.equal(await emitter.close(), true);
  assert.deepEqual(lines.map(beginning), ["error: cannot write", "warn: usage events"]);
});

test("acknowledged events are kept for as long as one wants", async (t) => {
  const spool = folder(t);
  const sink = await startSink(t);
  const { emitter } = startEmitter(t, sink.url, { spool, keepSentMs: 60_000 });
  emitter.emit(startOf("a"));
  assert.equal(await emitter.close(), true);
  const [name] = fs.readdirSync(join(spool, "sent"));
  assert.match(name, /^\d{13}-\d+-[0-9a-f]{8}-\d{8}\.ndjson\.gz$/);
  assert.equal(JSON.parse(gunzipSync(fs.readFileSync(join(spool, "sent", name))).toString()).id, "a:start");
  fs.renameSync(join(spool, "sent", name), join(spool, "sent", name.replace(/^\d+/, "1700000000000")));
  const next = startEmitter(t, sink.url, { spool, keepSentMs: 60_000 }).emitter;
  next.emit(startOf("b"));
  assert.equal(await next.close(), true);
  assert.equal(fs.readdirSync(join(spool, "sent")).length, 1);
});
