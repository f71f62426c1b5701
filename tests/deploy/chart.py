"""The Helm chart, rendered by helm: its objects, and what can be said of their pods."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.files import DEPLOY
from tests.tools import need

CHART = DEPLOY / "helm" / "metering"
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
OLDEST, NEWEST = "1.27.0", "1.37.0"

Object = dict[str, Any]
Values = Mapping[str, Any]

# What alone has no default.
MINIMAL: Values = {"image": {"repository": "registry.example/metering"}}


def example() -> dict[str, Any]:
    """The values of the README's installation."""
    (text,) = re.findall(r"^   ```yaml\n(.*?)^   ```", (CHART / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    values: dict[str, Any] = yaml.safe_load(re.sub("^   ", "", text, flags=re.MULTILINE))
    return values


def everything() -> dict[str, Any]:
    """The example, and all that is off by default."""
    values = example()
    values["image"] |= {"digest": "sha256:" + "a" * 64, "pullSecrets": ["registry"]}
    values["api"] = {"autoscaling": {"enabled": True}, "podAnnotations": {"a": "b"}}
    values["worker"] = {"autoscaling": {"enabled": True}}
    values["gateway"] |= {
        "settings": {"METERING_GATEWAY_HOLDS": "sliding"},
        "resumeRedisUrl": {"name": "metering-service", "key": "redis-url"},
        "ingress": {"enabled": True, "host": "llm.example.com"},
    }
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    values["networkPolicy"] = {"apiFrom": [peer], "gatewayFrom": [peer]}
    values["serviceMonitor"] = {"enabled": True, "labels": {"release": "prometheus"}}
    values |= {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "podLabels": {"team": "a"},
    }
    return values


def helm(command: str, *arguments: str, values: Values) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart, with these values over the defaults."""
    need("helm")
    return subprocess.run(
        ["helm", command, *arguments, str(CHART), "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def text_of(values: Values, *, kubernetes: str = NEWEST) -> str:
    """The rendered text of a release m."""
    return _text_of(json.dumps(values, sort_keys=True), kubernetes)


@cache
def _text_of(values: str, kubernetes: str) -> str:
    done = helm("template", "m", "--kube-version", kubernetes, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _objects_in(text: str) -> str:
    return json.dumps([each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each])


def render(values: Values, *, kubernetes: str = NEWEST) -> list[Object]:
    """The objects of a release m."""
    found: list[Object] = json.loads(_objects_in(text_of(values, kubernetes=kubernetes)))
    return found


def of_kind(kind: str, values: Values) -> dict[str, Object]:
    """The objects of a kind, by the part in their name."""
    return {
        found["metadata"]["name"].removeprefix("m-metering-"): found
        for found in render(values)
        if found["kind"] == kind
    }


def workloads(values: Values) -> dict[str, Object]:
    """What makes pods, by part."""
    kinds = ("Job", "Deployment", "StatefulSet")
    return {part: each for kind in kinds for part, each in of_kind(kind, values).items()}


def pods(values: Values) -> dict[str, Object]:
    """The pods' specifications, by part."""
    return {part: each["spec"]["template"]["spec"] for part, each in workloads(values).items()}


def containers(values: Values) -> dict[str, Object]:
    """The one container of each part."""
    found = {}
    for part, pod in pods(values).items():
        (found[part],) = pod["containers"]
        assert "initContainers" not in pod
    return found


def variables(container: Object) -> dict[str, Object]:
    """The environment of a container, by variable; each is set once."""
    given = {each["name"]: each for each in container.get("env", [])}
    assert len(given) == len(container.get("env", []))
    return given


def secrets_of(pod: Object) -> Iterator[str]:
    """The keys of Secrets that a pod reads, as name/key."""
    for each in pod["containers"][0]["env"]:
        if "valueFrom" in each:
            reference = each["valueFrom"]["secretKeyRef"]
            yield f"{reference['name']}/{reference['key']}"
    for volume in pod["volumes"]:
        for item in volume.get("secret", {}).get("items", []):
            yield f"{volume['secret']['secretName']}/{item['key']}"


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a selector's labels are among these."""
    return selector.items() <= labels.items()


def selected(selector: Mapping[str, str], values: Values) -> set[str]:
    """The parts whose pods a selector finds."""
    return {
        part
        for part, each in workloads(values).items()
        if selects(selector, each["spec"]["template"]["metadata"]["labels"])
    }


def file_in(container: Object, pod: Object, path: str) -> tuple[str, str]:
    """The volume that a path of a container lies in, and the rest of the path."""
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    folder = next(str(parent) for parent in Path(path).parents if str(parent) in mounts)
    (volume,) = [each["name"] for each in pod["volumes"] if each["name"] == mounts[folder]]
    return volume, str(Path(path).relative_to(folder))
