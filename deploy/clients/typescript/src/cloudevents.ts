/** Usage events as CloudEvents 1.0 JSON, one per line, and the removal of superfluous ones from a batch. */

import { StreamEnd, StreamStart, TokenDelivered, type UsageEvent } from "./events.js";
import { type Usage, WIRE_NAMES } from "./usage.js";

/** One line of JSON without its newline. ASCII only, so that a torn line never ends within a character. */
export function encodeEvent(event: UsageEvent, source: string): string {
  const { customerId, streamId, time } = event.fields;
  const text = JSON.stringify({
    specversion: "1.0",
    type: (event.constructor as { type?: string }).type,
    source,
    id: event.eventId,
    subject: customerId,
    time: time.toISOString(),
    data: { stream_id: streamId, ...dataOf(event) },
  });
  return text.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/**
 * The batch with only the highest token-delivered event of each stream.
 *
 * The counters are cumulative and the server keeps the maximum of each, so nothing is lost. If neither of two
 * events is at least as high in every counter, both are kept.
 */
export function coalesce(events: readonly UsageEvent[]): UsageEvent[] {
  const kept: UsageEvent[] = [];
  const places = new Map<string, number>();
  for (const event of events) {
    if (!(event instanceof TokenDelivered)) {
      kept.push(event);
      continue;
    }
    const key = `${event.fields.customerId}\0${event.fields.streamId}`;
    const place = places.get(key);
    const known = place === undefined ? undefined : (kept[place] as TokenDelivered);
    if (place !== undefined && known !== undefined && covers(event, known)) {
      kept[place] = event;
    } else if (known === undefined || !covers(known, event)) {
      places.set(key, kept.length);
      kept.push(event);
    }
  }
  return kept;
}

/** Whether `one` makes `other` superfluous: no counter of `other` is higher, and it is not later. */
function covers(one: TokenDelivered, other: TokenDelivered): boolean {
  const [a, b] = [one.fields, other.fields];
  return (
    a.seq >= b.seq &&
    a.time >= b.time &&
    a.outputTokens >= b.outputTokens &&
    (a.reasoningOutputTokens ?? -1) >= (b.reasoningOutputTokens ?? -1)
  );
}

/** The `data` of an event by the names of the contract. `JSON.stringify` leaves out what is undefined. */
function dataOf(event: UsageEvent): Record<string, unknown> {
  if (event instanceof StreamStart) return startData(event);
  if (event instanceof StreamEnd) return endData(event);
  const { seq, outputTokens, reasoningOutputTokens } = event.fields;
  return { seq, output_tokens: outputTokens, reasoning_output_tokens: reasoningOutputTokens };
}

function startData({ fields }: StreamStart): Record<string, unknown> {
  return {
    provider: fields.provider,
    model: fields.model,
    streaming: fields.streaming ?? true,
    operation: fields.operation ?? "chat",
    input_tokens: fields.inputTokens,
    max_output_tokens: fields.maxOutputTokens,
    api_key_id: fields.apiKeyId,
    request_hash: fields.requestHash,
    service_tier: fields.serviceTier,
    tags: fields.tags !== undefined && Object.keys(fields.tags).length > 0 ? fields.tags : undefined,
    failed_open: fields.failedOpen === true ? true : undefined,
  };
}

function endData({ fields }: StreamEnd): Record<string, unknown> {
  return {
    outcome: fields.outcome,
    usage: wireUsage(fields.usage, fields.upstreamCostUsd),
    usage_source: fields.usageSource,
    finish_reasons: fields.finishReasons,
    response_provider: fields.responseProvider,
    response_model: fields.responseModel,
    response_id: fields.responseId,
    service_tier: fields.serviceTier,
    error_type: fields.errorType,
  };
}

/** On the wire, what the upstream says that it cost is a part of the usage, as upstreams report it. */
function wireUsage(
  usage: Usage | undefined,
  cost: string | number | undefined,
): Record<string, unknown> | undefined {
  if (usage === undefined && cost === undefined) return undefined;
  const counters = Object.entries(usage ?? {}).map(([name, count]) => [WIRE_NAMES[name as keyof Usage], count]);
  return {
    ...(Object.fromEntries(counters) as Record<string, unknown>),
    ...(cost !== undefined && { upstream_cost_usd: cost }),
  };
}
