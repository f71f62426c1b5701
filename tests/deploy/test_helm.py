"""The Helm chart: valid for Kubernetes, contained, rolled without a gap, with the commands of compose.yaml."""

import re
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import typer
import typer.main
import yaml

from metering.api import health
from metering.cli.main import app
from metering.gateway.app import create_app as create_gateway
from metering.gateway.settings import settings_from_environment
from tests.deploy.chart import (
    CHART,
    MINIMAL,
    NEWEST,
    OLDEST,
    Values,
    containers,
    everything,
    example,
    file_in,
    helm,
    of_kind,
    pods,
    render,
    selected,
    variables,
    workloads,
)
from tests.deploy.files import PARTS, ROOT, seconds

VALUES: dict[str, Values] = {"minimal": MINIMAL, "example": example(), "everything": everything()}
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
ABOUT = yaml.safe_load((CHART / "Chart.yaml").read_text())


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_helm_has_no_complaint(values: Values) -> None:
    linted = helm("lint", "--strict", values=values)
    assert linted.returncode == 0, linted.stdout
    assert "[WARNING]" not in linted.stdout


@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", [MINIMAL, everything()], ids=["minimal", "everything"])
def test_kubernetes_knows_every_field_of_every_object(values: Values, kubernetes: str) -> None:
    rendered = render(values, kubernetes=kubernetes)
    # A definition of the Prometheus operator.
    known = [each for each in rendered if each["kind"] != "ServiceMonitor"]
    for each in known:
        kubernetes_validate.validate(each, kubernetes, strict=True)
    assert len(known) > 10


def test_a_field_that_kubernetes_does_not_know_is_noticed() -> None:
    wrong = render(MINIMAL)[0]
    wrong["spec"]["podSelektor"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="podSelektor"):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_the_chart_is_of_the_projects_version_and_for_the_oldest_kubernetes_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (ABOUT["version"], ABOUT["appVersion"]) == (project["version"], project["version"])
    assert ABOUT["kubeVersion"] == f">={OLDEST}-0"
    images = {each["image"] for each in containers(MINIMAL).values()}
    assert images == {f"registry.example/metering:{project['version']}"}


def test_a_digest_names_the_image_before_a_tag() -> None:
    images = {each["image"] for each in containers(everything()).values()}
    assert images == {"registry.example.com/metering@sha256:" + "a" * 64}


def test_each_part_runs_the_command_of_compose_with_options_that_it_takes() -> None:
    commands: Any = typer.main.get_group(app)
    found = containers(everything())
    assert {part: each["args"][:1] for part, each in found.items()} == {
        part: each["command"] for part, each in PARTS.items()
    }
    for each in found.values():
        assert "command" not in each, "the image's entry point runs it"
        name, command, arguments = commands.resolve_command(typer.Context(commands), list(each["args"]))
        command.make_context(name, arguments)


@pytest.mark.parametrize("part", PARTS)
def test_a_pod_has_no_root_no_privileges_no_token_and_no_disk_but_its_volumes(part: str) -> None:
    pod, container = pods(everything())[part], containers(everything())[part]
    user, group = map(int, PARTS[part]["user"].split(":"))
    secure = pod["securityContext"]
    assert (secure["runAsUser"], secure["runAsGroup"], secure["fsGroup"]) == (user, group, group)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"requests", "limits"} <= container["resources"].keys()


@pytest.mark.parametrize("part", PARTS)
def test_no_service_of_the_namespace_changes_a_setting_of_a_pod(part: str) -> None:
    # For a Service "metering", Kubernetes would set METERING_PORT=tcp://….
    assert pods(everything())[part]["enableServiceLinks"] is False


def test_api_and_gateway_are_asked_whether_they_live_and_are_ready_at_paths_that_they_have() -> None:
    found = containers(everything())
    own = {"METERING_GATEWAY_CONFIG": str(ROOT / "deploy/gateway.toml"), "UPSTREAM_API_KEY": "none"}
    own |= {"METERING_GATEWAY_INGEST_KEY": "mk_1_2"}
    gateway = create_gateway(settings=settings_from_environment(environment=own))
    routes: dict[str, list[Any]] = {"api": health.router.routes, "gateway": gateway.routes}
    for part, served in routes.items():
        asked = {probe: found[part][probe]["httpGet"] for probe in PROBES}
        assert {each["path"] for each in asked.values()} <= {route.path for route in served}
        assert asked["livenessProbe"]["path"] == asked["startupProbe"]["path"] == "/livez"
        assert asked["readinessProbe"]["path"] == "/readyz"
        (port,) = found[part]["ports"]
        assert {each["port"] for each in asked.values()} == {port["name"]}


def test_workers_and_beat_are_asked_what_compose_asks_and_a_database_that_is_away_restarts_nothing() -> None:
    for part in ("worker", "beat"):
        container = containers(MINIMAL)[part]
        _, *command = PARTS[part]["healthcheck"]["test"]
        assert container["readinessProbe"]["exec"]["command"] == command
        assert container["readinessProbe"]["timeoutSeconds"] >= seconds(PARTS[part]["healthcheck"]["timeout"])
        assert "livenessProbe" not in container


def test_what_stops_takes_requests_until_every_node_knows_and_then_has_as_long_as_in_compose() -> None:
    values = {**everything(), "api": {"drainSeconds": 9}}
    for part, drain in {"api": 9, "gateway": 5}.items():
        pod, container = pods(values)[part], containers(values)[part]
        assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", str(drain)]
        longest = seconds(PARTS[part]["stop_grace_period"])
        assert pod["terminationGracePeriodSeconds"] - drain >= longest
    worker = seconds(PARTS["worker"]["stop_grace_period"])
    assert pods(MINIMAL)["worker"]["terminationGracePeriodSeconds"] >= worker


def test_the_gateways_grace_reaches_its_process_and_its_pod() -> None:
    values = everything()
    values["gateway"] |= {"graceSeconds": 120}
    assert variables(containers(values)["gateway"])["METERING_GATEWAY_GRACE_SECONDS"]["value"] == "120"
    assert pods(values)["gateway"]["terminationGracePeriodSeconds"] == 5 + 120 + 15


def test_no_api_goes_before_a_new_one_is_ready_and_there_is_never_a_second_beat() -> None:
    found = workloads(MINIMAL)
    assert found["api"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert found["beat"]["spec"]["strategy"] == {"type": "Recreate"}
    assert found["beat"]["spec"]["replicas"] == 1
    assert {part for part, each in found.items() if each["spec"].get("replicas", 1) < 2} == {"migrate", "beat"}


def test_a_gateways_events_outlive_its_pod() -> None:
    gateway = workloads(everything())["gateway"]
    container, pod = containers(everything())["gateway"], pods(everything())["gateway"]
    (claim,) = gateway["spec"]["volumeClaimTemplates"]
    pod = {**pod, "volumes": [*pod["volumes"], claim["metadata"]]}
    spool = variables(container)["METERING_GATEWAY_SPOOL"]["value"]
    # Not the root of the volume, which has folders of the file system.
    assert file_in(container, pod, spool + "/x") == (claim["metadata"]["name"], "events/x")
    assert set(gateway["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    assert gateway["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
    assert of_kind("Service", everything())[f"{gateway['metadata']['name'].removeprefix('m-metering-')}-pods"]


def test_the_migration_comes_first_and_needs_nothing_that_comes_later() -> None:
    hooks = {
        each["kind"]: each["metadata"]["annotations"]
        for each in render(everything())
        if "helm.sh/hook" in each["metadata"].get("annotations", {})
    }
    assert set(hooks) == {"Job", "NetworkPolicy"}
    assert {each["helm.sh/hook"] for each in hooks.values()} == {"pre-install,pre-upgrade"}
    weights = {kind: int(each["helm.sh/hook-weight"]) for kind, each in hooks.items()}
    assert weights["NetworkPolicy"] < weights["Job"]
    pod = pods(everything())["migrate"]
    assert pod["serviceAccountName"] == "default"
    made = {each["metadata"]["name"] for each in render(everything())}
    assert not made & {volume.get("configMap", {}).get("name") for volume in pod["volumes"]}


def test_an_account_of_yours_is_used_by_every_pod() -> None:
    values = {**MINIMAL, "serviceAccount": {"create": False, "name": "mine"}}
    assert {pod["serviceAccountName"] for pod in pods(values).values()} == {"mine"}
    assert of_kind("ServiceAccount", values) == {}


def test_the_drain_of_a_node_with_the_only_pod_of_a_part_is_not_blocked() -> None:
    budgets = of_kind("PodDisruptionBudget", everything())
    assert set(budgets) == {"api", "worker", "gateway"}
    for part, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in budget["spec"]
        assert selected(budget["spec"]["selector"]["matchLabels"], everything()) == {part}


def test_an_autoscaler_has_the_replicas_for_itself() -> None:
    assert of_kind("HorizontalPodAutoscaler", MINIMAL) == {}
    scalers = of_kind("HorizontalPodAutoscaler", everything())
    assert set(scalers) == {"api", "worker"}
    for part, scaler in scalers.items():
        target = workloads(everything())[part]
        assert "replicas" not in target["spec"]
        assert workloads(MINIMAL)[part]["spec"]["replicas"] == 2
        assert scaler["spec"]["scaleTargetRef"]["name"] == target["metadata"]["name"]
        assert scaler["spec"]["scaleTargetRef"]["kind"] == target["kind"]
        assert "cpu" in containers(everything())[part]["resources"]["requests"], "what the target is a share of"


def test_pods_of_a_part_are_spread_and_found_by_their_own_labels() -> None:
    for part in ("api", "worker", "gateway"):
        for each in pods(everything())[part]["topologySpreadConstraints"]:
            assert each["whenUnsatisfiable"] == "ScheduleAnyway"
            assert selected(each["labelSelector"]["matchLabels"], everything()) == {part}
    for part, each in workloads(everything()).items():
        if part != "migrate":
            assert selected(each["spec"]["selector"]["matchLabels"], everything()) == {part}


def test_names_follow_the_release_and_stay_short_enough() -> None:
    named = {**MINIMAL, "fullnameOverride": "billing"}
    assert {each["metadata"]["name"].split("-")[0] for each in render(named)} == {"billing"}
    longest = max(len(each["metadata"]["name"]) for each in render({**everything(), "fullnameOverride": "a" * 48}))
    assert longest <= 63
    assert not re.search(r"[^a-z0-9-]", "".join(each["metadata"]["name"] for each in render(everything())))
