"""Virtual keys of a LiteLLM proxy without a database: `key/alias/team`. The proxy imports this module."""

from fastapi import HTTPException, Request
from litellm.proxy._types import UserAPIKeyAuth


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:  # noqa: ARG001 - LiteLLM's signature
    """The key's owner. LiteLLM hashes the key itself."""
    key, _, owner = api_key.removeprefix("Bearer ").partition("/")
    alias, _, team = owner.partition("/")
    if not key.startswith("sk-"):
        raise HTTPException(status_code=401, detail="no key")
    return UserAPIKeyAuth(api_key=key, key_alias=alias or None, team_id=team or None)
