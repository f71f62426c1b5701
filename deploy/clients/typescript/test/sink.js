/** A small real HTTP server that takes usage events as the ingest API does, and fails on demand. */

import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";

import { Emitter } from "stream-metering-emitter";

/** Start a sink. `answers` are used up first: functions of (events, response) that may answer in place of it. */
export async function startSink(test, { port = 0, answers = [] } = {}) {
  const sink = { requests: [], events: new Map(), answers, asked: [], holds: [], stopping: new Set() };
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    if (request.url.startsWith("/v1/holds")) {
      const text = Buffer.concat(parts).toString();
      sink.asked.push({ method: request.method, url: request.url, body: text });
      const own = request.method === "POST" ? sink.holds.shift() : undefined;
      if (own !== undefined) own(text, response, sink);
      else if (request.method === "DELETE") response.writeHead(204).end();
      else json(response, 201, { hold_id: "hold_1", held_usd_cents: "2.5", max_output_tokens: 100 });
      return;
    }
    const zipped = request.headers["content-encoding"] === "gzip";
    const body = zipped ? gunzipSync(Buffer.concat(parts)) : Buffer.concat(parts);
    const events = JSON.parse(body.toString());
    sink.requests.push({
      url: request.url,
      headers: request.headers,
      events,
      bytes: body.length,
      at: performance.now(),
    });
    if (sink.answers.length > 0) {
      sink.answers.shift()(events, response, sink);
      return;
    }
    accept(events, response, sink);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  sink.port = server.address().port;
  sink.url = `http://127.0.0.1:${sink.port}`;
  sink.stop = async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close").catch(() => undefined);
  };
  test.after(() => (server.listening ? sink.stop() : undefined));
  return sink;
}

/** Answer as the API does when all events are good. */
export function accept(events, response, sink) {
  for (const event of events) sink.events.set(event.id, event);
  const named = events.filter(({ type }) => type === "token-delivered").map(({ data }) => data.stream_id);
  const stop = named.filter((streamId) => sink.stopping.has(streamId));
  json(response, 200, { accepted: events.length, rejected: [], ...(stop.length > 0 && { stop }) });
}

/** An answer with a status and a document. */
export function answer(status, document = {}, headers = {}) {
  return (_, response) => json(response, status, document, headers);
}

/** A folder that is removed after the test. */
export function folder(test) {
  const path = mkdtempSync(join(tmpdir(), "emitter-"));
  test.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** An emitter whose log is in `lines`; it is closed after the test. */
export function startEmitter(test, url, options = {}) {
  const lines = [];
  const emitter = new Emitter({
    url,
    key: "mk_test_key",
    source: "/gateways/test",
    spool: options.spool ?? folder(test),
    flushIntervalMs: 5,
    log: (level, message) => lines.push(`${level}: ${message}`),
    ...options,
  });
  test.after(() => emitter.close(0));
  return { emitter, lines };
}

/** Wait until a check holds. */
export async function eventually(check, what) {
  const deadline = performance.now() + 15_000;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`did not happen: ${what}`);
    await sleep(5);
  }
}

function json(response, status, document, headers = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(document));
}
