/**
 * The names that upstreams give to their usage, and what each one counts. `a.b` is the field b of the object a.
 *
 * A *part* is what a name counts before it is known how the parts nest: `input` may or may not include the cache.
 * How they nest is decided in usage.ts, after the parts of all usage objects of an answer are joined. The tables
 * are those of the reference gateway (metering/answers/usage_names.py); a test compares what both read.
 */

/**
 * Counts. `fresh_input` never includes the cache and `candidates` never the `thoughts`; `whole_output` includes
 * reasoning.
 */
export const COUNTS: Readonly<Record<string, readonly string[]>> = {
  input: [
    "prompt_tokens",
    "promptTokens",
    "promptTokenCount",
    "prompt_token_count",
    "prompt_eval_count",
    "tokens.input_tokens",
    "billed_units.input_tokens",
  ],
  output: [
    "completion_tokens",
    "completionTokens",
    "eval_count",
    "tokens.output_tokens",
    "billed_units.output_tokens",
  ],
  whole_output: ["output_tokens", "outputTokens"],
  candidates: ["candidatesTokenCount", "candidates_token_count"],
  thoughts: ["thoughtsTokenCount", "thoughts_token_count"],
  tool_input: ["toolUsePromptTokenCount", "tool_use_prompt_token_count"],
  total: ["total_tokens", "totalTokens", "totalTokenCount", "total_token_count"],
  cache_read: [
    "prompt_tokens_details.cached_tokens",
    "prompt_tokens_details.cache_read_tokens",
    "prompt_tokens_details.cache_read_input_tokens",
    "input_tokens_details.cached_tokens",
    "input_tokens_details.cache_read_tokens",
    "input_tokens_details.cache_read_input_tokens",
    "input_token_details.cached_tokens",
    "input_token_details.cache_read_tokens",
    "input_token_details.cache_read_input_tokens",
    "cached_tokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cache_read_tokens",
    "cacheReadInputTokens",
    "cachedContentTokenCount",
    "cached_content_token_count",
    "cached_prompt_text_tokens",
    "input_cached_tokens",
  ],
  cache_miss: ["prompt_cache_miss_tokens"],
  cache_write: [
    "prompt_tokens_details.cache_write_tokens",
    "prompt_tokens_details.cache_creation_tokens",
    "prompt_tokens_details.cache_creation_input_tokens",
    "input_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_creation_tokens",
    "input_tokens_details.cache_creation_input_tokens",
    "input_token_details.cache_write_tokens",
    "input_token_details.cache_creation_tokens",
    "input_token_details.cache_creation_input_tokens",
    "cache_creation_input_tokens",
    "cache_write_tokens",
    "cache_creation_tokens",
    "cacheWriteInputTokens",
    "cacheCreationInputTokens",
  ],
  cache_write_5m: [
    "cache_creation.ephemeral_5m_input_tokens",
    "prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens",
  ],
  cache_write_1h: [
    "cache_creation.ephemeral_1h_input_tokens",
    "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
  ],
  reasoning: [
    "completion_tokens_details.reasoning_tokens",
    "completion_tokens_details.thinking_tokens",
    "output_tokens_details.reasoning_tokens",
    "output_tokens_details.thinking_tokens",
    "output_token_details.reasoning_tokens",
    "output_token_details.thinking_tokens",
    "reasoning_tokens",
  ],
  citation: ["citation_tokens"],
  input_audio: [
    "prompt_tokens_details.audio_tokens",
    "input_tokens_details.audio_tokens",
    "input_token_details.audio_tokens",
  ],
  input_image: [
    "prompt_tokens_details.image_tokens",
    "input_tokens_details.image_tokens",
    "input_token_details.image_tokens",
  ],
  input_video: [
    "prompt_tokens_details.video_tokens",
    "input_tokens_details.video_tokens",
    "input_token_details.video_tokens",
  ],
  output_audio: [
    "completion_tokens_details.audio_tokens",
    "output_tokens_details.audio_tokens",
    "output_token_details.audio_tokens",
  ],
  output_image: [
    "completion_tokens_details.image_tokens",
    "output_tokens_details.image_tokens",
    "output_token_details.image_tokens",
  ],
  output_video: [
    "completion_tokens_details.video_tokens",
    "output_tokens_details.video_tokens",
    "output_token_details.video_tokens",
  ],
  cache_read_audio: [
    "prompt_tokens_details.cached_tokens_details.audio_tokens",
    "input_tokens_details.cached_tokens_details.audio_tokens",
    "input_token_details.cached_tokens_details.audio_tokens",
  ],
  cache_read_image: [
    "prompt_tokens_details.cached_tokens_details.image_tokens",
    "input_tokens_details.cached_tokens_details.image_tokens",
    "input_token_details.cached_tokens_details.image_tokens",
  ],
  web_searches: [
    "server_tool_use.web_search_requests",
    "server_tool_use_details.web_search_requests",
    "tool_calls_details.search_web.invocation",
    "server_side_tool_usage_details.web_search_calls",
    "num_search_queries",
  ],
  storage_searches: ["server_tool_use.file_search_requests", "server_side_tool_usage_details.file_search_calls"],
  input_characters: ["input_characters", "characters"],
  input_document_pages: ["pages_processed"],
  input_annotated_document_pages: ["annotated_pages_processed"],
  input_text_messages: ["input_text_messages"],
};

/**
 * With these beside it, `input_tokens` is the input without the cache (Anthropic, Bedrock); else it is all input.
 */
export const BARE_INPUT: readonly string[] = ["inputTokens", "input_tokens"];
export const CACHE_BESIDE_INPUT: readonly string[] = [
  "cacheReadInputTokens",
  "cacheWriteInputTokens",
  "cache_creation",
  "cache_creation_input_tokens",
  "cache_read_input_tokens",
];

export const SECONDS: Readonly<Record<string, readonly string[]>> = {
  input_audio_seconds: ["prompt_audio_seconds", "input_audio_seconds"],
  audio_seconds: ["billable_audio_seconds", "audio_seconds", "seconds"],
};
export const USD: readonly string[] = ["cost", "cost.total_cost", "estimated_cost", "total_cost"];
/** xAI reports its cost in units of 10^-10 US dollars. */
export const USD_TICKS: readonly string[] = ["cost_in_usd_ticks"];
export const TICKS_PER_USD = 10_000_000_000n;

/** Gemini lists its details as [{"modality": "AUDIO", "tokenCount": 7}]. */
export const MODALITY_LISTS: Readonly<Record<string, string>> = {
  promptTokensDetails: "input_",
  prompt_tokens_details: "input_",
  candidatesTokensDetails: "output_",
  candidates_tokens_details: "output_",
  cacheTokensDetails: "cache_read_",
  cache_tokens_details: "cache_read_",
};
export const MODALITIES: Readonly<Record<string, string>> = {
  AUDIO: "audio",
  IMAGE: "image",
  DOCUMENT: "image",
  VIDEO: "video",
};

/** These providers report reasoning beside their output, also where no total shows it. */
export const REASONING_BESIDE: readonly string[] = ["grok", "perplexity", "x-ai", "xai"];
/** These report citations and reasoning in no total. */
export const OUTSIDE_TOTAL: readonly string[] = ["perplexity"];
/** Of these, the total shows reasoning that is reported nowhere else. */
export const HIDDEN_REASONING: readonly string[] = [
  "gemini",
  "google",
  "google-vertex",
  "grok",
  "vertex",
  "vertex-ai",
  "x-ai",
  "xai",
];
