"""What a script is told and what it reports."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.configurators.script import MAX_SCRIPT_BYTES, Reports, ScriptConfigurator
from pipeline.domain.blueprint import ConfigureSpec
from pipeline.domain.errors import StageFailed
from pipeline.ports.common import Limits
from pipeline.ports.configurators import ConvergeRequest, ConvergeResult
from pipeline.ports.transports import NodeAccess
from tests.standins.shell_connection import ShellConnection

NODES = (NodeAccess("web-0", "web", "10.0.0.2", 22, "root", ""), NodeAccess("db-0", "db", "10.0.0.9", 22, "root", ""))


@pytest.fixture
def request_(tmp_path: Path) -> ConvergeRequest:
    (tmp_path / "source").mkdir()
    attributes = {"shop": {"port": 8080, "tls": True, "Host-Name": "a b", "list": [1]}}
    source = str(tmp_path / "source")
    return ConvergeRequest("env-1", "shop", NODES[0], NODES, source, ConfigureSpec(), (), "run.sh", attributes)


def converge(request: ConvergeRequest, script: str) -> tuple[ConvergeResult, str]:
    (Path(request.source) / "run.sh").write_text(script)
    output = bytearray()
    configurator = ScriptConfigurator(f"{Path(request.source).parent}/node")
    connection = ShellConnection({"web-0": ("env",)}, os.defpath)
    limits = Limits(total_s=20, silence_s=20)
    result = configurator.converge(connection, request, limits=limits, output=output.extend)
    return result, output.decode()


def test_a_script_knows_its_surroundings(request_: ConvergeRequest) -> None:
    _, output = converge(request_, "#!/bin/sh\nenv | grep ^GREENROOM_\n")
    known = dict(line.split("=", 1) for line in output.splitlines())
    assert known["GREENROOM_SERVICE"] == "shop"
    assert known["GREENROOM_ROLE"] == "web"
    assert known["GREENROOM_NODE"] == "web-0"
    assert known["GREENROOM_ENVIRONMENT"] == "env-1"
    assert known["GREENROOM_ATTR_SHOP_PORT"] == "8080"
    assert known["GREENROOM_ATTR_SHOP_TLS"] == "true"
    assert known["GREENROOM_ATTR_SHOP_HOST_NAME"] == "a b"
    assert "GREENROOM_ATTR_SHOP_LIST" not in known


def test_attributes_and_nodes_come_as_files(request_: ConvergeRequest) -> None:
    script = '#!/bin/sh\ncat "$GREENROOM_ATTRIBUTES"; echo; cat "$GREENROOM_NODES"; echo; cat "$GREENROOM_HOSTS"\n'
    attributes, nodes, *hosts = converge(request_, script)[1].splitlines()
    assert json.loads(attributes) == request_.attributes
    assert json.loads(nodes)[1] == {"name": "db-0", "role": "db", "address": "10.0.0.9"}
    assert hosts == ["web-0 web 10.0.0.2", "db-0 db 10.0.0.9"]


def test_reports_become_resources(request_: ConvergeRequest) -> None:
    result, output = converge(request_, "#!/bin/sh\necho greenroom: updated a b\nprintf 'greenroom: unchanged c'\n")
    assert [(one.name, one.status) for one in result.resources] == [("a b", "updated"), ("c", "unchanged")]
    assert "greenroom: updated a b" in output


def test_reports_may_arrive_in_any_pieces() -> None:
    reports = Reports(lambda _: None)
    for piece in (b"gree", b"nroom: upda", b"ted x\ngreenroom: odd y\nnot greenroom: updated z\n"):
        reports(piece)
    assert [one.name for one in reports.finish()] == ["x"]


def test_a_failing_script_is_named_with_its_status(request_: ConvergeRequest) -> None:
    with pytest.raises(StageFailed, match=r"script run.sh failed on node web-0 with exit status 3"):
        converge(request_, "#!/bin/sh\nexit 3\n")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("../outside", r"without \.\."),
        ("/etc/passwd", "relative"),
        ("link", "link that leads out"),
        ("absent.sh", "not in the repository"),
        ("directory", "not a file"),
        ("big.sh", f"more than {MAX_SCRIPT_BYTES}"),
    ],
)
def test_only_files_of_the_repository_are_run(request_: ConvergeRequest, script: str, words: str) -> None:
    source = Path(request_.source)
    (source.parent / "outside").write_text("#!/bin/sh\n")
    (source / "link").symlink_to("../outside")
    (source / "directory").mkdir()
    (source / "big.sh").write_bytes(b"#" * (MAX_SCRIPT_BYTES + 1))
    with pytest.raises(StageFailed, match=words):
        converge(replace(request_, script=script), "#!/bin/sh\n")
