/** The usage that a stream ends with: the provider's where it can be believed, else what was counted here. */

import type { UsageSource } from "../events.js";
import type { Usage } from "../usage.js";
import type { Reported } from "./usage.js";

/** Our own count; `source` tells a count from an estimate. Undefined: that was not counted. */
export interface Counted {
  readonly inputTokens: number | undefined;
  readonly outputTokens: number | undefined;
  readonly reasoningTokens: number;
  readonly source: UsageSource;
  readonly hasUnreadable: boolean;
}

/** `usage` is undefined if there is nothing to bill. */
export interface EndUsage {
  readonly usage?: Usage;
  readonly source?: UsageSource;
  readonly upstreamCostUsd?: string;
}

/**
 * Choose between the provider's report and our count.
 *
 * A report is believed if it has input and output, and no output followed it (`isCurrent`). One without output is
 * believed only where we saw none either, or have counted nothing. Of any other report, the parts that can be right
 * are used, and output is the larger of both counts, because a provider's running count never falls.
 */
export function endUsage(reported: Reported, isCurrent: boolean, counted: Counted, completed: boolean): EndUsage {
  const { usage, upstreamCostUsd } = reported;
  const cost = upstreamCostUsd === undefined ? {} : { upstreamCostUsd };
  const [input, output] = [usage.inputTokens ?? 0, usage.outputTokens ?? 0];
  const [entered, left] = [counted.inputTokens, counted.outputTokens];
  if (!completed && !input && !output && !left) return {};
  const reportsAnything = Object.keys(usage).length > 0 || upstreamCostUsd !== undefined;
  if (reportsAnything && entered === undefined && left === undefined) return { usage, source: "provider", ...cost };
  const outputIsRight = output > 0 ? isCurrent : usage.outputTokens !== undefined && !left;
  if (input > 0 && outputIsRight) return { usage, source: "provider", ...cost };
  const mixed: { -readonly [name in keyof Usage]: Usage[name] } = { ...usage };
  const cache = (usage.cacheReadInputTokens ?? 0) + (usage.cacheWriteInputTokens ?? 0);
  if (!input && (entered !== undefined || cache > 0)) mixed.inputTokens = Math.max(entered ?? 0, cache);
  if (!outputIsRight && (left !== undefined || output > 0)) {
    mixed.outputTokens = Math.max(left ?? 0, output);
    const reasoning = Math.max(counted.reasoningTokens, usage.reasoningOutputTokens ?? 0);
    if (reasoning > 0) mixed.reasoningOutputTokens = reasoning;
  }
  if (Object.keys(mixed).length === 0 && upstreamCostUsd === undefined) return {};
  // The provider's own numbers, with the tokens that followed them counted here, are no estimate.
  const isProviderAndMore = input > 0 && output > 0 && !counted.hasUnreadable;
  return { usage: mixed, source: isProviderAndMore ? "gateway_count" : counted.source, ...cost };
}
