"""What deployment reads: well formed, without a secret, and true to the program it starts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SETTINGS = (ROOT / "docs/settings.md").read_text()
pytestmark = pytest.mark.any_database


def resources() -> list[dict[str, Any]]:
    return [
        resource
        for file in sorted(KUBERNETES.glob("*.yaml"))
        if file.name not in {"kustomization.yaml", "metrics-adapter.yaml"}
        for resource in yaml.safe_load_all(file.read_text())
    ]


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", "docker-compose.yml"),
        ("vendor.github-workflows", ".github/workflows/ci.yml"),
    ],
)
def test_a_file_is_what_its_schema_says(schema: str, file: str) -> None:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", schema]
    done = subprocess.run([*command, str(ROOT / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_yaml_is_tidy() -> None:
    rules = "{extends: default, rules: {line-length: disable, document-start: disable, braces: disable, truthy: disable}}"
    command = [str(Path(sys.executable).parent / "yamllint"), "--strict", "-d", rules]
    files = ["docker-compose.yml", "deploy", ".github"]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_container_is_checked_read_only_and_without_a_default_secret() -> None:
    for name, service in COMPOSE["services"].items():
        assert "healthcheck" in service, name
        if service.get("build"):
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
    text = (ROOT / "docker-compose.yml").read_text()
    for secret in re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*)(.*?)\}", text):
        assert secret[1].startswith(":?"), secret
    given = (ROOT / ".env.example").read_text()
    assert all(not line.split("=", 1)[1] for line in given.splitlines() if "=" in line)


def test_pods_are_restricted_probed_and_bounded() -> None:
    containers = 0
    for resource in resources():
        pod = resource.get("spec", {}).get("template", {}).get("spec")
        if pod is None:
            continue
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            containers += 1
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert "livenessProbe" in container or resource["kind"] == "Job"
    assert containers == 3


def test_what_containers_write_to_is_bounded() -> None:
    for service in COMPOSE["services"].values():
        assert all("size=" in mount for mount in service.get("tmpfs", []))
    for resource in resources():
        pod = resource.get("spec", {}).get("template", {}).get("spec", {})
        assert all(volume["emptyDir"]["sizeLimit"] for volume in pod.get("volumes", []))


def test_the_port_is_the_mapped_and_checked_one_whatever_env_says() -> None:
    web = COMPOSE["services"]["web"]
    port = web["environment"]["PORT"]
    assert web["ports"] == [f"127.0.0.1:8003:{port}"]
    assert f":{port}/readyz" in web["healthcheck"]["test"][-1]


def test_selectors_find_their_pods() -> None:
    labels = [
        resource["spec"]["template"]["metadata"]["labels"]
        for resource in resources()
        if "template" in resource.get("spec", {})
    ]
    for resource in resources():
        selector = resource.get("spec", {}).get("selector")
        if selector:
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= found.items() for found in labels), resource["metadata"]


def test_every_variable_that_is_set_is_one_there_is() -> None:
    app = json.loads((ROOT / "app.json").read_text())
    names = set(app["env"])
    for resource in resources():
        names |= set(resource.get("data", {})) | set(resource.get("stringData", {}))
    for service in COMPOSE["services"].values():
        names |= {name for name in service.get("environment", {}) if service.get("build")}
    # Read by the image's command, not by a setting.
    names.discard("PORT")
    assert {name for name in names if f"`{name}`" not in SETTINGS} == set()


def test_every_way_starts_the_same_programs() -> None:
    """The web's and the worker's commands of the Procfile, wherever they stand."""
    procfile = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    flags = re.findall(
        r"--(?:lifespan on|no-server-header|no-proxy-headers|ws-max-size \d+|timeout-graceful-shutdown \d+)",
        procfile["web"],
    )
    assert len(flags) == 5
    image, run = (ROOT / "Dockerfile").read_text(), (ROOT / "Makefile").read_text()
    assert all(flag in image and flag in run for flag in flags)
    railway = json.loads((ROOT / "railway.json").read_text())["deploy"]
    assert railway["preDeployCommand"] == [procfile["release"]]
    worker = json.loads((ROOT / "deploy/railway-worker.json").read_text())["deploy"]
    assert worker["startCommand"] == procfile["worker"]
    release = COMPOSE["services"]["release"]["command"]
    assert " ".join(release) == procfile["release"]
    assert [
        " ".join(resource["spec"]["template"]["spec"]["containers"][0]["command"])
        for resource in resources()
        if resource["kind"] == "Job"
    ] == [procfile["release"]]


def test_the_image_takes_every_package_of_the_program() -> None:
    """What the build copies is named, so that nothing else slips in; a new package must be named."""
    image = (ROOT / "Dockerfile").read_text()
    apps = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert {app for app in apps if f"COPY {app} ./{app}\n" not in image} == set()
