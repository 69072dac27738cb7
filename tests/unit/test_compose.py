"""docker-compose.yml and its image, as far as they can be checked without an engine."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()


def test_every_process_has_a_service() -> None:
    assert {"redis", "api", "hooks", "tick", "haproxy", "work", "statuses", "provider"} == SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] not in {"root", "0", 0}
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_when_it_is_healthy(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_data_lies_in_named_volumes(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        assert volume.split(":")[0] in FILE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_set(name: str) -> None:
    variables = SERVICES[name].get("environment", {})
    assert [variable for variable in variables if re.search(r"SECRET|TOKEN|KEY|PASS", variable)] == []
    assert "@" not in "".join(map(str, variables.values()))


def test_redis_writes_to_disk_before_it_answers() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--appendfsync always" in command


def test_ports_are_published_on_loopback_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "build" in service])
def test_the_image_is_built_from_what_exists(name: str) -> None:
    assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "build" in service])
def test_what_a_service_runs_exists(name: str) -> None:
    python, option, module = SERVICES[name]["entrypoint"]
    assert (python, option) == ("python", "-m")
    assert importlib.util.find_spec(module) is not None


def test_what_is_copied_into_the_image_exists_and_reaches_the_builder() -> None:
    sources = [
        word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    ]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources
    assert [source for source in sources if not (ROOT / source).exists() or source not in allowed] == []


def test_the_image_has_the_uv_of_set_up() -> None:
    pinned = re.search(r"^readonly UV_VERSION=(\S+)$", (ROOT / "scripts/setup").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"uv=={pinned[1]}\n" in DOCKERFILE


def test_every_process_knows_the_router() -> None:
    variables = [service["environment"] for name, service in SERVICES.items() if "build" in service]
    assert {one["GREENROOM_BASE_DOMAIN"] for one in variables} == {"greenroom.localhost"}
    port = SERVICES["haproxy"]["ports"][0].rpartition(":")[2]
    assert {one["GREENROOM_ROUTER__BIND"] for one in variables} == {f"0.0.0.0:{port}"}
    assert "haproxy" in DOCKERFILE


def test_the_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)[-1] == "greenroom"
