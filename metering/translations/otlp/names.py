"""Names of attributes, by what they say: those of the conventions for GenAI as they are now, then the older ones.

`gen_ai.*` is OpenTelemetry's; `llm.usage.*`, `llm.request.*` and `gen_ai.is_streaming` are OpenLLMetry's, that is
Traceloop's; `llm.token_count.*`, `llm.model_name` and `openinference.*` are OpenInference's. Of several the first
one that is set counts.
"""

OPERATION = ("gen_ai.operation.name", "llm.request.type")
OPENINFERENCE_KIND = "openinference.span.kind"
TRACELOOP_KIND = "traceloop.span.kind"
AGENT = ("gen_ai.agent.name", "gen_ai.agent.id", "agent_name")
# LiteLLM answered from its cache: no upstream was asked.
CACHE_HIT = "litellm.cache_hit"

PROVIDER = ("gen_ai.provider.name", "llm.provider", "gen_ai.system", "llm.system")
REQUEST_MODEL = (
    "gen_ai.request.model",
    "llm.request.model_name",
    "llm.model_name",
    "embedding.model_name",
    "reranker.model_name",
    "gen_ai.response.model",
    "llm.response.model_name",
)
RESPONSE_MODEL = ("gen_ai.response.model", "llm.response.model_name")
RESPONSE_ID = ("gen_ai.response.id",)
FINISH_REASONS = (
    "gen_ai.response.finish_reasons",
    "gen_ai.response.finish_reason",
    "llm.finish_reason",
    "llm.response.finish_reason",
    "gen_ai.response.stop_reason",
    "llm.response.stop_reason",
)
STREAMING = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming", "litellm.request.streaming")
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
MAX_TOKENS = ("gen_ai.request.max_tokens", "gen_ai.request.max_completion_tokens", "llm.request.max_tokens")
REQUEST_TIER = ("openai.request.service_tier", "gen_ai.openai.request.service_tier")
RESPONSE_TIER = ("openai.response.service_tier", "gen_ai.openai.response.service_tier")
# OpenInference has the parameters of the request in one attribute, as JSON: without the prompt.
INVOCATION_PARAMETERS = "llm.invocation_parameters"
ERROR_TYPE = "error.type"
SERVICE_NAME = "service.name"

_IN, _OUT = "prompt_tokens_details", "completion_tokens_details"

# Where each counter stands in a usage as `metering.answers.usage` reads it. Input and output include what is
# nested in them, as the conventions say, unless the total or their size shows that they do not.
USAGE: dict[tuple[str, ...], tuple[str, ...]] = {
    ("prompt_tokens",): (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.usage.prompt_tokens",
        "llm.token_count.prompt",
    ),
    ("output_tokens",): (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.usage.completion_tokens",
        "llm.token_count.completion",
    ),
    ("total_tokens",): ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total"),
    ("cache_read_tokens",): (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.details.cached_tokens",
        "llm.usage.cache_read_input_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    ("cache_write_tokens",): (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
        "gen_ai.usage.details.cache_write_tokens",
        "llm.usage.cache_creation_input_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    (_OUT, "reasoning_tokens"): (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.output_tokens.reasoning",
        "gen_ai.usage.details.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
    (_IN, "audio_tokens"): (
        "gen_ai.usage.audio.input_tokens",
        "gen_ai.usage.details.input_audio_tokens",
        "llm.token_count.prompt_details.audio",
    ),
    (_IN, "image_tokens"): ("gen_ai.usage.image.input_tokens",),
    (_IN, "video_tokens"): ("gen_ai.usage.video.input_tokens",),
    (_OUT, "audio_tokens"): (
        "gen_ai.usage.audio.output_tokens",
        "gen_ai.usage.details.output_audio_tokens",
        "llm.token_count.completion_details.audio",
    ),
    (_OUT, "image_tokens"): ("gen_ai.usage.image.output_tokens",),
    (_OUT, "video_tokens"): ("gen_ai.usage.video.output_tokens",),
}

# Everything above: the attributes that are read.
READ = frozenset(
    {
        *OPERATION,
        OPENINFERENCE_KIND,
        TRACELOOP_KIND,
        *AGENT,
        CACHE_HIT,
        *PROVIDER,
        *REQUEST_MODEL,
        *RESPONSE_MODEL,
        *RESPONSE_ID,
        *FINISH_REASONS,
        *STREAMING,
        FIRST_CHUNK,
        *MAX_TOKENS,
        *REQUEST_TIER,
        *RESPONSE_TIER,
        INVOCATION_PARAMETERS,
        ERROR_TYPE,
        SERVICE_NAME,
        *(name for names in USAGE.values() for name in names),
    }
)

# The conventions' and others' names of providers, where the catalogue of prices has others.
PROVIDERS = {
    "aws.bedrock": "aws",
    "aws_bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "bedrock": "aws",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google_genai": "google",
    "hugging_face": "huggingface",
    "ibm.watsonx.ai": "watsonx",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertexai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
