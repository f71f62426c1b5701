"""Readings: other ways to read a model's name, for spellings that gateways use and rate cards do not.

Each leaves out a part that does not change the price, and says which. A name that is a card's own name as it is
written means that card, whatever its readings are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Suffixes with which OpenRouter only chooses among the providers of a model
# (openrouter.ai/docs/guides/routing/model-variants/overview: routing variants).
_ROUTING = (":nitro", ":floor", ":exacto")
# Suffixes for entries of their own, or that add something that has a price.
_PRICED_APART = {
    ":online": "it adds web searches, which have a price of their own",
    ":batch": "OpenRouter lists it with a price of its own",
    ":beta": "OpenRouter lists it with a price of its own",
    ":extended": "OpenRouter lists it with a price of its own",
    ":thinking": "OpenRouter lists it with a price of its own",
}

# Where a cross-region inference profile of Bedrock sends requests. `global.` and `us-gov.` have their own prices.
_REGION = re.compile(r"(?:us|eu|apac|au|ca|in|jp|sa)\.(?=[a-z0-9-]+\.)")
_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:(?P<type>[a-z-]+)/(?P<name>.+)")
_ARN_OF_MODEL = ("foundation-model", "inference-profile", "default-prompt-router")
# What LiteLLM writes before a model of Bedrock: how it is called, and in which AWS region.
_CALL = re.compile(r"(?:(?:bedrock|converse|invoke|[a-z]{2}(?:-gov)?-[a-z]+-\d)/)+")

_RESOURCE = re.compile(r"(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?models/(?P<name>[^/]+)")
_VERTEX_VERSION = re.compile(r"(?P<name>.+)@(?P<version>default|latest|00\d|20\d{6})")
_DATE = re.compile(r"20\d{6}")
_LATEST = "-latest"


@dataclass(frozen=True, slots=True)
class Reading:
    """A name to look up, and why it means the same. If `exact`, only a name that is equal counts as a match.

    `moving`: it means the newest of several models, and what is left of it is the name of one.
    """

    name: str
    because: str
    exact: bool = False
    moving: bool = False


def readings(name: str, *, provider: str) -> Iterator[Reading]:
    """Other readings of a name, most likely first; `provider` is the catalogue's id, `name` in lower case."""
    found = list(_READERS[provider](name)) if provider in _READERS else []
    yield from found
    for each in (Reading(name, ""), *found):
        if each.name.endswith(_LATEST):
            because = ", ".join(filter(None, (each.because, f"without {_LATEST}")))
            yield Reading(each.name.removesuffix(_LATEST), because, exact=True, moving=True)


def _openrouter(name: str) -> Iterator[Reading]:
    base, *variants = name.split(":")
    routing = [f":{variant}" for variant in variants if f":{variant}" in _ROUTING]
    if routing:
        rest = "".join(f":{variant}" for variant in variants if f":{variant}" not in _ROUTING)
        yield Reading(base + rest, f"without {''.join(routing)}, which only routes")


def _aws(name: str) -> Iterator[Reading]:
    because = []
    if call := _CALL.match(name):
        name = name[call.end() :]
        because.append(f"without {call[0]}")
    if arn := _ARN.fullmatch(name):
        if arn["type"] not in _ARN_OF_MODEL:
            return
        name = arn["name"]
        because.append(f"the {arn['type']} of the ARN")
    if because:
        yield Reading(name, ", ".join(because))
    if region := _REGION.match(name):
        because.append(f"without {region[0]}, a region")
        yield Reading(name[region.end() :], ", ".join(because))


def _google(name: str) -> Iterator[Reading]:
    because = []
    if resource := _RESOURCE.fullmatch(name):
        because.append(f"without {name[: resource.start('name')]}")
        name = resource["name"]
        yield Reading(name, because[0])
    if version := _VERTEX_VERSION.fullmatch(name):
        if _DATE.fullmatch(version["version"]):
            yield Reading(f"{version['name']}-{version['version']}", ", ".join((*because, "- for @")))
        because.append(f"without @{version['version']}")
        yield Reading(version["name"], ", ".join(because), exact=True)


_READERS = {"openrouter": _openrouter, "aws": _aws, "google": _google}


def all_readings(name: str) -> Iterator[Reading]:
    """The name as it is written, then its readings with every provider."""
    yield Reading(name, "")
    for provider in (*_READERS, ""):
        yield from readings(name, provider=provider)


def priced_by_itself(name: str, *, provider: str) -> str | None:
    """Why no card but one set for this very name may price it; None for other names.

    Its name contains that of another model, which has another price.
    """
    if provider == "aws" and (arn := _ARN.search(name)) and arn["type"] not in _ARN_OF_MODEL:
        if arn["type"] == "application-inference-profile":
            return "the ARN of an application-inference-profile does not name its model"
        return f"a Bedrock {arn['type']} has a price of its own"
    return None


def unpriced_kind(name: str, *, provider: str) -> tuple[str | None, str]:
    """What kind of name it is if that explains why no card matches, and the part that may be like another name."""
    if reason := priced_by_itself(name, provider=provider):
        return reason, name.rpartition("/")[2]
    if name.startswith("ft:"):
        return "it is a fine-tuned model", name.split(":")[1]
    if ".ft-" in name:
        return "it is a fine-tuned model", name.partition(".ft-")[0]
    if name.startswith(("tunedmodels/", "endpoints/")) or "/endpoints/" in name:
        return "it is a tuned model", name.rpartition("/")[2]
    if provider == "openrouter":
        base, *variants = name.split(":")
        for variant in variants:
            if reason := _PRICED_APART.get(f":{variant}"):
                return f":{variant}: {reason}", base
    if provider == "azure" and "/" in name:
        return "a regional deployment has a price of its own", name.rpartition("/")[2]
    return None, name
