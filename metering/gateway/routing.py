"""Who may call, and where each model goes: upstreams and keys, which can be reloaded."""

import fnmatch

from metering.gateway.problems import refused
from metering.gateway.settings import ClientKey, Upstream, hash_key


class Routing:
    """The upstreams and keys that are in force; never changed, only replaced."""

    def __init__(self, *, upstreams: tuple[Upstream, ...], keys: tuple[ClientKey, ...]) -> None:
        self.upstreams = upstreams
        self._keys = {key.key_sha256: key for key in keys}

    def find_key(self, key: str) -> ClientKey | None:
        """The client key with the hash of this text."""
        return self._keys.get(hash_key(key))

    def find_upstream(self, model: str) -> Upstream:
        """The first upstream with a pattern that matches the model.

        Raises:
            RefusedError: 404, no upstream has the model.
        """
        for upstream in self.upstreams:
            if any(fnmatch.fnmatchcase(model, pattern) for pattern in upstream.models):
                return upstream
        raise refused(
            status=404,
            message=f"The model {model!r} does not exist here: no upstream of this gateway serves it.",
            code="model_not_found",
            param="model",
        )
