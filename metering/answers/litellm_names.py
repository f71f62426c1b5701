"""LiteLLM's names: of providers and operations, and of those who may pay for a call.

Both ways in for LiteLLM read them: the callback within LiteLLM, and what its `generic_api` logger posts.
"""

from collections.abc import Iterable, Mapping, Sequence

from metering.answers.words import MAX_ID, MAX_NOTE, exact_text

UNASSIGNED = "unassigned"

PAYERS = ("end_user", "team", "team_alias", "organization", "user", "key_alias", "key_hash")
TAGGED = ("model_group", "team", "team_alias", "organization", "user", "key_alias", "end_user", "call_id")
USUAL_PAYERS = ("end_user", "team", "key_alias", "key_hash")
USUAL_TAGS = ("model_group",)

# LiteLLM's names of providers, where the catalogue of prices has others.
_PROVIDERS = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
    "cohere_chat": "cohere",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "moonshot": "moonshotai",
    "sagemaker": "aws",
    "sagemaker_chat": "aws",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "voyage": "voyageai",
    "xai": "x-ai",
}
_OPERATIONS = {
    "completion": "chat",
    "acompletion": "chat",
    "anthropic_messages": "messages",
    "aembedding": "embeddings",
    "embedding": "embeddings",
    "aresponses": "responses",
    "atext_completion": "text_completion",
    "aimage_generation": "image_generation",
    "atranscription": "transcription",
    "aspeech": "speech",
    "_arealtime": "realtime",
}
# The field of LiteLLM's metadata that holds each name of the settings.
_FIELDS = {
    "end_user": "user_api_key_end_user_id",
    "team": "user_api_key_team_id",
    "team_alias": "user_api_key_team_alias",
    "organization": "user_api_key_org_id",
    "user": "user_api_key_user_id",
    "key_alias": "user_api_key_alias",
    "key_hash": "user_api_key_hash",
    "model_group": "model_group",
}


def provider_of(name: str) -> str:
    """A provider by the catalogue's name."""
    return _PROVIDERS.get(name, name)


def operation_of(call_type: str | None) -> str:
    """The operation of a call."""
    name = call_type or "chat"
    return _OPERATIONS.get(name, name)


def about(metadata: Mapping[str, object], **more: object) -> dict[str, object]:
    """What LiteLLM's metadata says of a call, by the names of the settings; `more` adds what it does not know."""
    found = {name: metadata.get(field) for name, field in _FIELDS.items()}
    return {**found, **{name: found.get(name) or value for name, value in more.items()}}


def first_known(known: Mapping[str, object], names: Sequence[str]) -> str | None:
    """The first that is known, and that can be an id."""
    found = (exact_text(known.get(name), MAX_ID) for name in names)
    return next((text for text in found if text is not None and text not in (".", "..")), None)


def tags_of(known: Mapping[str, object], names: Iterable[str], given: object, *, most: int) -> dict[str, str]:
    """The tags of the settings, and the request's own of the form name:value, as far as there is room."""
    tags = {name: text for name in names if (text := exact_text(known.get(name), MAX_NOTE))}
    for tag in given if isinstance(given, list) else ():
        name, separator, value = str(tag).partition(":")
        text = exact_text(value.strip(), MAX_NOTE)
        key = exact_text(name.strip(), MAX_ID)
        if separator and key and text and key not in tags and len(tags) < most:
            tags[key] = text
    return tags
