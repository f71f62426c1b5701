"""The Helm chart: its values and their schema, which part knows which secret, and who reaches whom."""

import re
from pathlib import Path
from typing import Any

import pytest

from metering.gateway.settings import read_config, settings_from_environment
from metering.server.settings import Settings, load_settings, variable_of
from tests.deploy.chart import (
    DEFAULTS,
    MINIMAL,
    SCHEMA,
    Object,
    Values,
    containers,
    everything,
    file_in,
    helm,
    of_kind,
    pods,
    render,
    secrets_of,
    selected,
    text_of,
    variables,
    workloads,
)
from tests.deploy.files import DEPLOY, Recording

SERVICE_PARTS = ("migrate", "api", "worker", "beat")
EMPTY = {"name": "", "key": "x"}
# What the chart sets itself, or what has no meaning in a container.
NOT_FOR_VALUES = {"METERING_HOST", "METERING_PORT", "METERING_DATA", "METERING_STRIPE_LOCAL_PORT"}
SECRET_SETTINGS = {
    variable_of(name) for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}


def refused(values: Values) -> str:
    done = helm("template", "m", values=values)
    assert done.returncode != 0
    return done.stderr


def changed(path: str, value: Any) -> dict[str, Any]:
    """All values, with one of them set."""
    values: dict[str, Any] = everything()
    *parents, last = path.split(".")
    inner = values
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    return values


@pytest.mark.parametrize("part", SERVICE_PARTS)
def test_a_part_is_given_only_settings_that_it_reads(part: str) -> None:
    given = variables(containers(everything())[part])
    assert given.keys() <= set(map(variable_of, Settings.model_fields))


def test_the_settings_of_a_pod_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, each in variables(containers(everything())["api"]).items():
        if "value" in each:
            monkeypatch.setenv(name, each["value"])
    settings = load_settings()
    assert (settings.host, settings.port, settings.log_format) == ("0.0.0.0", 8000, "json")
    assert len(settings.proxy_networks) == 1


def test_every_setting_can_be_given_that_is_not_a_secret_and_no_other() -> None:
    known = set(map(variable_of, Settings.model_fields)) - SECRET_SETTINGS - NOT_FOR_VALUES
    assert set(SCHEMA["properties"]["settings"]["properties"]) == known


def test_every_setting_of_the_gateway_can_be_given_and_no_other(tmp_path: Path) -> None:
    given = variables(containers(everything())["gateway"])
    own = {name: each.get("value", "secret") for name, each in given.items()}
    own |= {"METERING_GATEWAY_CONFIG": str(DEPLOY / "gateway.toml"), "UPSTREAM_API_KEY": "none"}
    key = tmp_path / "key"
    key.write_text("mk_1_2")
    own |= {"METERING_GATEWAY_INGEST_KEY_FILE": str(key), "METERING_GATEWAY_RESUME_REDIS_URL": "redis://valkey"}
    environment = Recording(own)
    settings_from_environment(environment=environment)
    set_by_the_chart = set(own) | {"METERING_GATEWAY_INGEST_KEY"}
    in_values = everything()["gateway"]["settings"].keys()
    asked = {name for name in environment.asked if name.startswith("METERING_")}
    offered = set(SCHEMA["properties"]["gateway"]["properties"]["settings"]["properties"])
    assert offered == asked - set_by_the_chart | in_values


def names(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict) or not values:
        return {prefix}
    return {each for key, value in values.items() for each in names(value, f"{prefix}.{key}".lstrip("."))}


def described(schema: dict[str, Any], prefix: str = "") -> set[str]:
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    if "properties" not in schema or prefix.endswith("settings"):
        return {prefix}
    inner = schema["properties"].items()
    return {each for key, value in inner for each in described(value, f"{prefix}.{key}".lstrip("."))}


def test_the_values_and_their_schema_name_the_same() -> None:
    # A map has names of yours, in the values at most an example.
    maps = re.compile(r"(settings|\.requests|\.limits)(\..*)?$")
    found = {maps.sub(r"\1", each) for each in names(DEFAULTS)}
    assert found == described(SCHEMA) - {"global"}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("settings.METERING_ABANDON_AFTR", "3m", "METERING_ABANDON_AFTR"),
        ("settings.STRIPE_API_KEY", "sk_live_1", "STRIPE_API_KEY"),
        ("settings.METERING_FINALIZE_BATCH", 1_000_000, "METERING_FINALIZE_BATCH"),
        ("gateway.settings.METERING_GATEWAY_HOLD", "sliding", "METERING_GATEWAY_HOLD"),
        ("api.replica", 3, "replica"),
        ("api.replicas", -1, "/api/replicas"),
        ("worker.concurrency", 65, "/worker/concurrency"),
        ("image.pullPolicy", "Sometimes", "/image/pullPolicy"),
        ("image.repository", "r.example/metering@sha256:1", "/image/repository"),
        ("secrets.databaseUrl", "postgresql://a:b@c/d", "/secrets/databaseUrl"),
        ("secrets.stripeKey", {"name": "a", "key": "b"}, "stripeKey"),
        ("networkPolicy.databasePort", 65_536, "/networkPolicy/databasePort"),
        ("postgresql.enabled", True, "postgresql"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(path: str, value: Any, says: str) -> None:
    assert says in refused(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("image.repository", "", "image.repository is not set"),
        ("secrets.databaseUrl", EMPTY, "secrets.databaseUrl.name is not set"),
        ("secrets.redisUrl", EMPTY, "secrets.redisUrl.name is not set"),
        ("secrets.ownerDatabaseUrl", EMPTY, "secrets.ownerDatabaseUrl.name is not set"),
        ("secrets.gatewayIngestKey", EMPTY, "secrets.gatewayIngestKey.name is not set"),
        ("gateway.config", "", "gateway.config is not set"),
        ("gateway.config", '[[upstreams]]\n  api_key = "sk-1"\n', "api_key_env instead of api_key"),
        ("gateway.config", 'keys = [{customer_id = "acme", key = "gk_1"}]', "key_sha256 instead of key"),
        ("settings.METERING_TRUSTED_PROXIES", "", "settings.METERING_TRUSTED_PROXIES is not set"),
        ("ingress.host", "", "ingress.host is not set"),
        ("gateway.ingress.host", "", "gateway.ingress.host is not set"),
    ],
)
def test_what_is_missing_is_told_with_what_to_do(path: str, value: Any, says: str) -> None:
    assert says in refused(changed(path, value))


# Which part may know which secret; a secret that is not here fails as well.
KNOWN_TO = {
    "metering-service/database-url": {"migrate", "api", "worker", "beat"},
    "metering-service/redis-url": {"migrate", "api", "worker", "beat", "gateway"},
    "metering-owner/database-url": {"migrate"},
    "metering-owner/admin-key": {"migrate"},
    "metering-gateway/ingest-key": {"migrate", "gateway"},
    "metering-gateway/openai": {"gateway"},
    "metering-stripe/api-key": {"worker"},
    "metering-stripe/webhook-secret": {"api"},
    "metering-metrics/token": {"api"},
}


def test_each_part_knows_only_the_secrets_that_it_needs() -> None:
    told: dict[str, set[str]] = {}
    for part, pod in pods(everything()).items():
        for secret in secrets_of(pod):
            told.setdefault(secret, set()).add(part)
    assert told == KNOWN_TO


def test_only_the_migration_logs_in_as_the_owner_and_a_secret_without_a_name_is_not_read() -> None:
    read = {part: set(secrets_of(pod)) for part, pod in pods(MINIMAL).items()}
    service = {"metering-service/database-url", "metering-service/redis-url"}
    owner = {"metering-owner/database-url", "metering-owner/admin-key"}
    assert read == {"migrate": service | owner, "api": service, "worker": service, "beat": service}


def test_no_secret_stands_in_what_is_rendered() -> None:
    rendered = render(everything())
    assert "Secret" not in {each["kind"] for each in rendered}
    for part, container in containers(everything()).items():
        literal = {name for name, each in variables(container).items() if "value" in each}
        assert not literal & SECRET_SETTINGS, part
    assert "postgresql://" not in text_of(everything())


def test_the_gateways_files_are_mounted_where_it_looks_for_them_and_can_be_read(tmp_path: Path) -> None:
    container, pod = containers(everything())["gateway"], pods(everything())["gateway"]
    given = variables(container)
    sources = {volume["name"]: volume for volume in pod["volumes"]}
    volume, name = file_in(container, pod, given["METERING_GATEWAY_CONFIG"]["value"])
    config = of_kind("ConfigMap", everything())["gateway"]
    assert sources[volume]["configMap"]["name"] == config["metadata"]["name"]
    toml = tmp_path / name
    toml.write_text(config["data"][name])
    upstreams, keys = read_config(path=toml, environment={"OPENAI_API_KEY": "sk"})
    assert (len(upstreams), len(keys)) == (1, 1)
    volume, name = file_in(container, pod, given["METERING_GATEWAY_INGEST_KEY_FILE"]["value"])
    assert [item["path"] for item in sources[volume]["secret"]["items"]] == [name]


def test_another_configuration_of_the_gateway_makes_other_pods() -> None:
    def annotations(values: Values) -> Object:
        found: Object = workloads(values)["gateway"]["spec"]["template"]["metadata"]["annotations"]
        return found

    other = changed("gateway.config", everything()["gateway"]["config"] + "# new\n")
    assert annotations(everything()) != annotations(other)


DNS, STORE, OUTSIDE = {("UDP", 53), ("TCP", 53)}, {("TCP", 5432), ("TCP", 6379)}, {("TCP", 443)}
# Ports that a part is reached on, and those that it reaches, by whom; None is anyone.
MAY = {
    "migrate": (set(), {None: DNS | {("TCP", 5432)}}),
    "api": ({("TCP", 8000)}, {None: DNS | STORE | OUTSIDE}),
    "worker": (set(), {None: DNS | STORE | OUTSIDE}),
    "beat": (set(), {None: DNS | STORE}),
    "gateway": ({("TCP", 8080)}, {None: DNS | OUTSIDE | {("TCP", 6379)}, "api": {("TCP", 8000)}}),
}


def ports(rule: Object) -> set[tuple[str, int]]:
    return {(each["protocol"], each["port"]) for each in rule["ports"]}


def peer(rule: Object) -> str | None:
    if "to" not in rule:
        return None
    ((part,),) = [selected(each["podSelector"]["matchLabels"], everything()) for each in rule["to"]]
    return part


def test_network_policies_let_through_exactly_what_is_used() -> None:
    found = {}
    for policy in of_kind("NetworkPolicy", everything()).values():
        spec = policy["spec"]
        (part,) = selected(spec["podSelector"]["matchLabels"], everything())
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        reached = {each for rule in spec.get("ingress", []) for each in ports(rule)}
        found[part] = (reached, {peer(rule): ports(rule) for rule in spec["egress"]})
        own = containers(everything())[part].get("ports", [])
        assert reached == {("TCP", each["containerPort"]) for each in own}
    assert found == MAY


def test_the_gateway_reaches_valkey_only_for_resume_and_its_own_api_only_if_that_is_its_api() -> None:
    plain = changed("gateway.resumeRedisUrl", EMPTY)
    plain["gateway"]["meteringUrl"] = "https://metering.example.com"
    (rule,) = of_kind("NetworkPolicy", plain)["gateway"]["spec"]["egress"]
    assert ports(rule) == DNS | OUTSIDE
    url = variables(containers(plain)["gateway"])["METERING_GATEWAY_URL"]
    assert url["value"] == "https://metering.example.com"


def test_who_may_reach_the_api_can_be_limited_and_the_gateway_still_may() -> None:
    policies = of_kind("NetworkPolicy", everything())
    (rule,) = policies["api"]["spec"]["ingress"]
    own, other = rule["from"]
    assert selected(own["podSelector"]["matchLabels"], everything()) == {"gateway"}
    assert [other] == everything()["networkPolicy"]["apiFrom"]
    assert of_kind("NetworkPolicy", {**MINIMAL, "networkPolicy": {"enabled": False}}) == {}


def test_services_lead_to_the_ports_of_their_pods_and_the_gateway_finds_the_api() -> None:
    found = of_kind("Service", everything())
    for name, service in found.items():
        (part,) = selected(service["spec"]["selector"], everything())
        assert name.startswith(part)
        (port,) = service["spec"]["ports"]
        assert port["targetPort"] in {each["name"] for each in containers(everything())[part]["ports"]}
    url = variables(containers(everything())["gateway"])["METERING_GATEWAY_URL"]["value"]
    assert url == f"http://m-metering-api:{found['api']['spec']['ports'][0]['port']}"


def test_the_internet_reaches_neither_metrics_nor_probes() -> None:
    assert of_kind("Ingress", MINIMAL) == {}
    ingresses = of_kind("Ingress", everything())
    assert set(ingresses) == {"api", "gateway"}
    for part, ingress in ingresses.items():
        ((rule),) = ingress["spec"]["rules"]
        for each in rule["http"]["paths"]:
            assert not any(path.startswith(each["path"]) for path in ("/metrics", "/livez", "/readyz"))
            assert each["backend"]["service"]["name"] == f"m-metering-{part}"
    assert ingresses["api"]["spec"]["tls"][0]["hosts"] == ["metering.example.com"]


def test_prometheus_finds_the_pods_under_the_job_of_the_alerting_rules_and_has_the_token() -> None:
    monitors = of_kind("ServiceMonitor", everything())
    services = of_kind("Service", everything())
    for part, monitor in monitors.items():
        labels = monitor["spec"]["selector"]["matchLabels"]
        found = [name for name, each in services.items() if labels.items() <= each["metadata"]["labels"].items()]
        assert found == [part]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (api,) = monitors["api"]["spec"]["endpoints"]
    job = api["relabelings"][0]["replacement"]
    assert f'job="{job}"' in (DEPLOY / "prometheus" / "rules.yml").read_text()
    assert api["authorization"]["credentials"] == {"name": "metering-metrics", "key": "token"}
    assert "authorization" not in monitors["gateway"]["spec"]["endpoints"][0]
