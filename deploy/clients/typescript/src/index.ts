/**
 * The emitter that a Node gateway embeds to meter its streams. Start with `Emitter`, and its `metered` or
 * `stream`.
 */

export { Emitter, type EmitterOptions, type MeteredOptions, type StreamOptions } from "./emitter.js";
export {
  OUTCOMES,
  type Outcome,
  StreamEnd,
  type StreamEndFields,
  StreamStart,
  type StreamStartFields,
  TokenDelivered,
  type TokenDeliveredFields,
  USAGE_SOURCES,
  type UsageEvent,
  type UsageSource,
} from "./events.js";
export {
  BudgetExhausted,
  HOLD_MODES,
  type Hold,
  type HoldFigures,
  type HoldMode,
  type HoldOptions,
  HoldRefused,
  type HoldRequest,
  HoldUnavailable,
} from "./hold.js";
export type { HoldSettings, HoldStats } from "./holds.js";
export { type EndOptions, MeteredStream, type UsageOptions, usageOf } from "./stream.js";
export type { Answered, Told } from "./meter.js";
export type { Tokenizer } from "./answers/outputCount.js";
export type { Decimal, Usage } from "./usage.js";
export type { Key } from "./delivery.js";
export type { EmitterStats, Log } from "./reports.js";
export { SpoolError } from "./spool.js";
