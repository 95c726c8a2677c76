"""What is deployed beside the server speaks of what the server really has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.access import Hosts, new_key
from streamer.access.factory import MetricsPolicy, build_authenticator, metrics_policy
from streamer.config import AccessSettings, Settings, load
from streamer.config.addresses import host_and_port
from streamer.telemetry.dashboards import grafana
from streamer.telemetry.panels import DASHBOARDS
from streamer.telemetry.telemetry import Telemetry
from tests.architecture import ROOT

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
WORDS = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
NAMES = re.compile(r"\b(?:streamer_|process_)\w+")
MATCHER = re.compile(r'(\w+)\s*(=~|=)\s*"([^"]*)"')


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[tuple[str, str]]]:
    """Every series name a scrape has, with its label pairs."""
    names: dict[str, set[tuple[str, str]]] = {}
    telemetry = Telemetry("stub")
    telemetry.watch_certificate(lambda: 0.0)
    for family in telemetry.registry.collect():
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels.items())
    return names


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of all dashboards and rules."""
    found = [
        (f"{dashboard.title}: {panel.title}", query.expr)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    ]
    for group in read(PROMETHEUS / "rules.yml")["groups"]:
        found += [(rule.get("alert") or rule["record"], rule["expr"]) for rule in group["rules"]]
    return found


@pytest.mark.parametrize(("where", "expr"), expressions())
def test_every_expression_names_what_the_server_exposes(
    exposed: dict[str, set[tuple[str, str]]], where: str, expr: str
) -> None:
    recorded = {
        rule["record"]
        for group in read(PROMETHEUS / "rules.yml")["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    names = set(NAMES.findall(expr))
    assert names or any(name in expr for name in recorded) or expr.startswith("up{")
    assert not names - exposed.keys()
    for name, labels in re.findall(r"(streamer_\w+)\{([^}]*)\}", expr):
        for label, kind, value in MATCHER.findall(labels):
            values = value.split("|") if kind == "=~" else [value]
            assert {(label, each) for each in values} <= exposed[name], f"{name} has no such {label}"
    pairs = {label for name in names for label, _ in exposed[name]} | {"le", "instance"}
    for grouped in re.findall(r"by \(([^)]*)\)", expr):
        assert set(WORDS.findall(grouped)) <= pairs


def test_grafanas_files_are_those_the_panels_make() -> None:
    for dashboard in DASHBOARDS:
        path = DEPLOY / "grafana" / "dashboards" / f"{dashboard.uid}.json"
        assert json.loads(path.read_text()) == grafana(dashboard), (
            "run: python -m streamer.telemetry.dashboards deploy/grafana/dashboards"
        )


def test_panels_lie_side_by_side_and_never_on_each_other() -> None:
    for dashboard in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in grafana(dashboard)["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken
            assert at["x"] + at["w"] <= 24
            taken |= cells


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "rules.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "rules.test.yml")],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is in Debian's package prometheus")
    done = subprocess.run([promtool, *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_a_severity_and_words() -> None:
    tested = {
        test["alertname"] for case in read(PROMETHEUS / "rules.test.yml")["tests"] for test in case["alert_rule_test"]
    }
    alerts = [rule for group in read(PROMETHEUS / "rules.yml")["groups"] for rule in group["rules"] if "alert" in rule]
    assert {alert["alert"] for alert in alerts} == tested
    assert all(
        alert["labels"]["severity"] in ("page", "ticket") and alert["annotations"]["summary"] for alert in alerts
    )


def test_compose_mounts_files_that_are_there() -> None:
    services = read(DEPLOY / "compose.yaml")["services"]
    assert services.keys() == {"streamer", "prometheus", "jaeger", "grafana"}
    for service in services.values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    grace_s = int(services["streamer"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > 40, "drain.hard_s"


def image_settings(**changed: str) -> Settings:
    """What a server of the image is set to, with a service's own variables."""
    set_there = re.findall(r"(STREAMER_\w+)=(\S+)", (DEPLOY / "Dockerfile").read_text())
    return load(environ=dict(set_there) | changed).settings


def test_prometheus_scrapes_where_the_image_lets_strangers_read_the_metrics() -> None:
    service = read(DEPLOY / "compose.yaml")["services"]["streamer"]
    settings = image_settings(**{name: str(value) for name, value in service["environment"].items()})
    [job] = read(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    host, port = host_and_port(settings.server.metrics_address, "server.metrics_address")
    assert target == f"streamer:{port}"
    Hosts(host, settings.server.hosts).check(target)
    for access in (AccessSettings(), AccessSettings(keys=(str(new_key("somebody")[1]),))):
        assert metrics_policy(settings.server, build_authenticator(access)) is MetricsPolicy.OPEN


def test_the_image_is_probed_where_strangers_do_not_come() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    _, port = host_and_port(image_settings().server.metrics_address, "server.metrics_address")
    assert f"http://127.0.0.1:{port}/readyz" in text
    assert str(port) in re.search(r"^EXPOSE (.*)$", text, re.M)[1].split()  # type: ignore[index]
    published = read(DEPLOY / "compose.yaml")["services"]["streamer"]["ports"]
    assert not any(each.endswith(f":{port}") for each in published)


def test_the_datasources_are_those_the_dashboards_ask() -> None:
    sources = read(DEPLOY / "grafana" / "provisioning" / "datasources" / "streamer.yaml")["datasources"]
    asked = {panel["datasource"]["uid"] for board in DASHBOARDS for panel in grafana(board)["panels"]}
    assert asked <= {source["uid"] for source in sources}


def test_the_image_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    assert all(":" in line for line in lines if line.startswith("FROM")), "no moving tag"
