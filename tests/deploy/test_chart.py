"""The Helm chart makes valid objects of Kubernetes, and says of the server what is true of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.config import Settings
from streamer.telemetry.telemetry import Telemetry
from tests.architecture import ROOT

CHART = ROOT / "deploy" / "helm" / "streamer"
PATH = os.pathsep.join([str(ROOT / "build" / "tools"), os.environ["PATH"]])
HELM, KUBECONFORM = shutil.which("helm", path=PATH), shutil.which("kubeconform", path=PATH)
VERSIONS = ("1.35.0", "1.36.0", "1.37.0")
"""The last three of Kubernetes."""
SCHEMAS = (
    "configmap-v1",
    "service-v1",
    "deployment-apps-v1",
    "networkpolicy-networking-v1",
    "poddisruptionbudget-policy-v1",
)
ALL = {
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "ray": {"enabled": True, "address": "head:6379", "tokenSecret": "ray-token"},
    "service": {"headless": True, "annotations": {"a": "b"}},
    "networkPolicy": {"clients": [{"podSelector": {"matchLabels": {"app": "haproxy"}}}]},
    "secretName": "keys",
    "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
    "envFrom": [{"secretRef": {"name": "streamer-keys"}}],
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "nodeSelector": {"e": "f"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "affinity": {"podAntiAffinity": {}},
}
"""Every switch on."""

pytestmark = pytest.mark.skipif(HELM is None, reason="helm is not installed: make chart")


def helm(*args: str) -> str:
    assert HELM is not None
    done = subprocess.run([HELM, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def template(tmp_path: Path, values: dict[str, Any], version: str = VERSIONS[-1]) -> Path:
    file, rendered = tmp_path / "values.json", tmp_path / f"rendered-{version}.yaml"
    file.write_text(json.dumps(values))
    rendered.write_text(helm("template", "asr", str(CHART), "--kube-version", version, "--values", str(file)))
    return rendered


def objects(tmp_path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The rendered objects by kind and name."""
    documents = yaml.safe_load_all(template(tmp_path, values).read_text())
    return {f"{it['kind']}/{it['metadata']['name']}": it for it in documents if it}


def test_helm_finds_nothing_to_say_against_the_chart() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def conform(rendered: Path, schemas: Path, version: str) -> tuple[list[dict[str, Any]], int]:
    """The objects that kubeconform finds invalid, and the number of valid ones. Those of KEDA and the Prometheus
    operator have no schema here."""
    location = f"{schemas}/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    done = subprocess.run(
        [
            str(KUBECONFORM), "-strict", "-summary", "-output", "json", "-kubernetes-version", version,
            "-schema-location", location, "-skip", "ScaledObject,ServiceMonitor", str(rendered),
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    return found["resources"], found["summary"]["valid"]


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kubernetes' schemas from a package, with references that kubeconform can follow."""
    package = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    folder = tmp_path_factory.mktemp("schemas")
    for version in VERSIONS:
        source = Path(package.__file__).parent / "kubernetes-json-schema" / f"v{version}-local-strict"
        definitions = json.loads((source / "_definitions.json").read_text())["$defs"]
        (folder / f"v{version}").mkdir()
        for name in SCHEMAS:
            schema = json.loads((source / f"{name}.json").read_text().replace("/api/_definitions.json", ""))
            del schema["$id"]
            (folder / f"v{version}" / f"{name}.json").write_text(json.dumps({**schema, "$defs": definitions}))
    return folder


@pytest.mark.skipif(KUBECONFORM is None, reason="kubeconform is not installed: make chart")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", [{}, ALL], ids=["default", "all"])
def test_the_objects_are_valid_for_kubernetes(
    tmp_path: Path, schemas: Path, values: dict[str, Any], version: str
) -> None:
    invalid, valid = conform(template(tmp_path, values, version), schemas, version)
    assert (invalid, valid) == ([], 6)


@pytest.mark.skipif(KUBECONFORM is None, reason="kubeconform is not installed: make chart")
def test_a_wrong_object_is_found(tmp_path: Path, schemas: Path) -> None:
    found, _ = conform(template(tmp_path, {"service": {"httpPort": "http"}}), schemas, VERSIONS[-1])
    assert [one["name"] for one in found] == ["asr-streamer"]


def test_the_settings_of_the_chart_are_settings_of_the_server(tmp_path: Path) -> None:
    for values in ({}, {"settings": {"server": {"trusted_proxies": ["10.0.0.0/8"], "max_audio_bytes": 2**31}}}):
        settings = json.loads(objects(tmp_path, values)["ConfigMap/asr-streamer"]["data"]["settings.json"])
        assert Settings(**settings).server.max_sessions == 300
    assert Settings(**settings).server.max_audio_bytes == 2**31


@pytest.mark.parametrize("hard_s", [40, 90.5])
def test_a_pod_has_more_time_than_its_drain(tmp_path: Path, hard_s: float) -> None:
    rendered = objects(tmp_path, {"settings": {"drain": {"soft_s": 30, "hard_s": hard_s}}})
    pod = rendered["Deployment/asr-streamer"]["spec"]["template"]["spec"]
    assert hard_s + 15 <= pod["terminationGracePeriodSeconds"] <= hard_s + 21


def test_the_autoscaler_asks_for_a_metric_that_exists_and_sets_no_replicas_beside_it(tmp_path: Path) -> None:
    rendered = objects(tmp_path, ALL)
    [trigger] = rendered["ScaledObject/asr-streamer"]["spec"]["triggers"]
    [name] = re.findall(r"streamer_\w+", trigger["metadata"]["query"])
    assert name in {family.name for family in Telemetry("stub").registry.collect()}
    assert "replicas" not in rendered["Deployment/asr-streamer"]["spec"]
    monitor = rendered["ServiceMonitor/asr-streamer"]["spec"]
    labels = rendered["Service/asr-streamer-metrics"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert f'service="{rendered["Service/asr-streamer-metrics"]["metadata"]["name"]}"' in trigger["metadata"]["query"]


def test_metrics_are_on_no_service_of_clients(tmp_path: Path) -> None:
    ports = [port["name"] for port in objects(tmp_path, ALL)["Service/asr-streamer"]["spec"]["ports"]]
    assert ports == ["http", "grpc"]


def test_ray_needs_the_address_of_its_head(tmp_path: Path) -> None:
    assert HELM is not None
    done = subprocess.run(
        [HELM, "template", "asr", str(CHART), "--kube-version", VERSIONS[-1], "--set", "ray.enabled=true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ray.address: expected host:port" in done.stderr


def test_the_token_of_ray_is_a_file_of_a_secret(tmp_path: Path) -> None:
    pod = objects(tmp_path, ALL)["Deployment/asr-streamer"]["spec"]["template"]["spec"]
    for container in (*pod["containers"], *pod["initContainers"]):
        environment = {one["name"]: one.get("value") for one in container["env"]}
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"] == "/etc/ray/token"
        assert {"name": "ray-token", "mountPath": "/etc/ray", "readOnly": True} in container["volumeMounts"]
