"""The chart: rendered by Helm's own library, validated against Kubernetes' schemas, and what its pods may do."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from stock_assets_tests.deploy.tools import DEPLOY, require_module

Document = dict[str, Any]
DIGEST = f"sha256:{'0' * 64}"
VALUES: Document = {
    "image": {"repository": "registry.example.org/stock_assets", "digest": DIGEST, "pullSecrets": ["registry"]},
    "objects": {
        "artifacts": "s3://bucket/artifacts",
        "mlflow": "s3://bucket/mlflow",
        "region": "eu-central-1",
        "endpoint": "https://objects.example.org",
    },
    "postgres": {"cidrs": ["10.20.0.0/16"]},
    "kubernetesApi": {"cidrs": ["172.20.0.1/32"]},
    "ingress": {"tlsSecret": "tls", "uiName": "dagster.example.org", "apiName": "api.example.org"},
    "nodeSelector": {"pool": "data"},
    "tolerations": [{"key": "pool", "operator": "Exists"}],
}
RUN = "00000000-0000-0000-0000-000000000001"


@pytest.fixture(scope="module")
def chart() -> Iterator[Any]:
    require_module("helm_python")
    from helm_python import Chart

    with Chart.load(DEPLOY / "chart") as loaded:
        yield loaded


def rendered(chart: Any, **values: object) -> list[Document]:
    files = chart.render({**VALUES, **values}, name="stock-assets", namespace="stocks")
    return [each for text in files.values() for each in yaml.safe_load_all(text) if each]


@pytest.fixture(scope="module")
def documents(chart: Any) -> list[Document]:
    return rendered(chart)


@pytest.fixture(scope="module")
def job(documents: list[Document]) -> Document:
    """The pod of a run, as dagster-k8s makes it of the chart's configuration."""
    require_module("dagster_k8s")
    from dagster._config import process_config, resolve_to_config_type
    from dagster_k8s import DagsterK8sJobConfig, K8sRunLauncher
    from dagster_k8s.job import UserDefinedDagsterK8sConfig, construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    launcher = instance(documents)["run_launcher"]
    assert (launcher["module"], launcher["class"]) == ("dagster_k8s", "K8sRunLauncher")
    processed = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), launcher["config"])
    assert processed.success, processed.errors
    given = launcher["config"]
    kept = ("job_image", "dagster_home", "instance_config_map", "image_pull_policy", "image_pull_secrets")
    kept += ("service_account_name", "env_config_maps", "env_secrets", "volumes", "volume_mounts", "resources")
    config = DagsterK8sJobConfig(postgres_password_secret=None, **{name: given[name] for name in kept})
    made = construct_dagster_k8s_job(
        config,
        ["dagster", "api", "execute_run"],
        f"dagster-run-{RUN}",
        UserDefinedDagsterK8sConfig.from_dict(given["run_k8s_config"]),
    )
    return ApiClient().sanitize_for_serialization(made)


def of(documents: list[Document], kind: str) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def instance(documents: list[Document]) -> Document:
    return yaml.safe_load(of(documents, "ConfigMap")["stock-assets-instance"]["data"]["dagster.yaml"])


def pods(documents: list[Document], job: Document) -> dict[str, Document]:
    """The template of every pod, by its component."""
    templates = [each["spec"]["template"] for each in [*of(documents, "Deployment").values(), job]]
    return {template["metadata"]["labels"]["app.kubernetes.io/component"]: template for template in templates}


@pytest.mark.parametrize("version", ["1.28", "1.31", "1.34", "1.37"])
def test_every_document_is_valid_in_kubernetes(documents: list[Document], job: Document, version: str):
    require_module("kubernetes_validate")
    import kubernetes_validate

    for document in [*documents, job]:
        kubernetes_validate.validate(document, version, strict=True)
    wrong = yaml.safe_load(yaml.safe_dump(documents[0]))
    wrong["metadta"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_every_pod_is_hardened_and_bounded(documents: list[Document], job: Document):
    found = pods(documents, job)
    assert set(found) == {"webserver", "daemon", "code-server", "api", "mlflow", "worker", "run"}
    for name, template in found.items():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == 10001, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["nodeSelector"] == {"pool": "data"}, name
        (container,) = spec["containers"]
        assert container["image"] == f"registry.example.org/stock_assets@{DIGEST}", name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert {"requests", "limits"} == set(container["resources"]), name
        assert {"mountPath": "/tmp", "name": "tmp"} in container["volumeMounts"], name
        if name != "run":
            assert container["livenessProbe"], name
        # Kubernetes' own API is for those alone that launch runs
        launches = name in ("webserver", "daemon")
        assert spec.get("automountServiceAccountToken", True) is launches, name


def test_there_is_one_daemon_and_never_two_of_what_holds_the_store(documents: list[Document]):
    deployments = of(documents, "Deployment")
    for name in ("daemon", "code-server"):
        spec = deployments[f"stock-assets-{name}"]["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert of(documents, "PersistentVolumeClaim")["stock-assets-store"]["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "keep"
    }


def test_what_opens_the_store_is_on_the_node_of_its_volume(documents: list[Document], job: Document):
    found = pods(documents, job)
    labels = found["code-server"]["metadata"]["labels"]
    for name, template in found.items():
        mounts = any("persistentVolumeClaim" in volume for volume in template["spec"]["volumes"])
        assert mounts is (name in ("code-server", "run", "api")), name
        if mounts and name != "code-server":
            (term,) = template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
            assert term["topologyKey"] == "kubernetes.io/hostname"
            assert term["labelSelector"]["matchLabels"].items() <= labels.items()


def test_the_hosts_share_a_bucket_and_the_store_lies_on_its_volume(documents: list[Document], job: Document):
    found = of(documents, "ConfigMap")["stock-assets-settings"]["data"]
    assert found["STOCK_ASSETS_ARTIFACTS"] == "s3://bucket/artifacts"
    pods_of_settings = {
        name
        for name, template in pods(documents, job).items()
        for each in template["spec"]["containers"][0].get("envFrom", ())
        if each.get("configMapRef", {}).get("name") == "stock-assets-settings"
    }
    assert pods_of_settings == {"code-server", "run", "api", "worker"}
    for name in pods_of_settings - {"api", "worker"}:
        (mount,) = [
            each
            for each in pods(documents, job)[name]["spec"]["containers"][0]["volumeMounts"]
            if each["name"] == "store"
        ]
        assert found["STOCK_ASSETS_STORE"].startswith(f"{mount['mountPath']}/"), name
    internet = of(documents, "NetworkPolicy")["stock-assets-to-the-internet"]["spec"]["podSelector"]
    for name in pods_of_settings:  # the bucket
        assert selects(internet, pods(documents, job)[name]["metadata"]["labels"]), name


def test_no_document_holds_a_secret(documents: list[Document]):
    assert not of(documents, "Secret")
    text = yaml.safe_dump_all(documents)
    assert "postgresql+psycopg2://" not in text
    assert re.findall(r"(?:TOKEN|PASSWORD): \S+", text) == []


# ---------------------------------------------------------------- who reaches whom


def selects(selector: Document, labels: dict[str, str]) -> bool:
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ()))


def reachable(documents: list[Document], job: Document) -> set[tuple[str, str, int]]:
    """(from, to, port) of every connection between pods that the policies allow at both of its ends."""
    policies = [each["spec"] for each in of(documents, "NetworkPolicy").values()]
    labels = {name: template["metadata"]["labels"] for name, template in pods(documents, job).items()}
    pairs = set()
    for source, own in labels.items():
        for target, other in labels.items():
            out = _ports(policies, own, other, "egress", "to")
            into = _ports(policies, other, own, "ingress", "from")
            pairs |= {(source, target, port) for port in out & into}
    return pairs


def _ports(policies: list[Document], own: dict[str, str], other: dict[str, str], way: str, end: str) -> set[int]:
    """The ports of TCP by which the policies of a pod with labels `own` let it and `other` meet."""
    ports: set[int] = set()
    for policy in policies:
        for rule in policy.get(way, ()) if selects(policy["podSelector"], own) else ():
            peers = [each["podSelector"] for each in rule.get(end, ()) if "podSelector" in each]
            if end not in rule or any(selects(peer, other) for peer in peers):
                ports |= {port["port"] for port in rule["ports"] if port["protocol"] == "TCP"}
    return ports


def test_pods_reach_what_they_need_and_nothing_else(documents: list[Document], job: Document):
    assert reachable(documents, job) == {
        ("webserver", "code-server", 4000),
        ("daemon", "code-server", 4000),
        ("code-server", "mlflow", 5000),
        ("run", "mlflow", 5000),
    }
    policies = of(documents, "NetworkPolicy")
    everything = policies["stock-assets-nothing"]["spec"]
    for name, template in pods(documents, job).items():
        assert selects(everything["podSelector"], template["metadata"]["labels"]), name
    assert everything["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everything


def test_the_launcher_may_start_and_watch_runs_in_its_namespace_and_nothing_else(documents: list[Document]):
    assert not of(documents, "ClusterRole")
    rules = of(documents, "Role")["stock-assets-launcher"]["rules"]
    allowed = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert {pair for pair in allowed if pair[1] not in ("get", "list", "watch")} == {
        ("jobs", "create"),
        ("jobs", "delete"),
    }
    assert not {resource for resource, _ in allowed} & {"secrets", "*", "pods/exec"}


def test_services_lead_to_pods(documents: list[Document], job: Document):
    for name, service in of(documents, "Service").items():
        targets = [
            template
            for template in pods(documents, job).values()
            if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        ]
        assert len(targets) == 1, name
        ports = {port["name"] for port in targets[0]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name


# ---------------------------------------------------------------- wrong values


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"image": {"repository": "a", "digest": "latest"}}, "digest"),
        ({"image": {"repository": "a", "digest": DIGEST, "tag": "v1"}}, "tag"),
        ({"postgres": {"cidrs": ["0.0.0.0/0"]}}, "cidrs"),
        ({"postgres": {"cidrs": []}}, "cidrs"),
        ({"settings": {"STOCK_ASSETS_UI_TOKEN": "a secret"}}, "STOCK_ASSETS_UI_TOKEN"),
        ({"settings": {"SOURCE": "yahoo"}}, "SOURCE"),
        ({"settings": {"STOCK_ASSETS_ARTIFACTS": "s3://other"}}, "STOCK_ASSETS_ARTIFACTS"),
        ({"objects": {"mlflow": "s3://bucket/mlflow"}}, "artifacts"),
        ({"ingress": {"tlsSecret": "", "uiName": "a", "apiName": "b"}}, "tlsSecret"),
        ({"replicas": 3}, "replicas"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(chart: Any, values: Document, named: str):
    from helm_python import HelmValuesError

    with pytest.raises(HelmValuesError, match=named):
        chart.validate_schema({**VALUES, **values})


def test_the_defaults_lack_what_nobody_can_guess(chart: Any):
    from helm_python import HelmValuesError

    with pytest.raises(HelmValuesError, match="digest"):
        chart.validate_schema({})
