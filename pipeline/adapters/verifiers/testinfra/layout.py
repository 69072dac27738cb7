"""Where things are in the sandbox of a suite."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.domain.errors import PermanentError
from pipeline.ports.common import Secret
from pipeline.ports.transports import NodeAccess
from pipeline.ports.verifiers import VerifyRequest

SOURCE = "/src"
OURS = "/greenroom"
REPORT_DIRECTORY = "/report"
REPORT = f"{REPORT_DIRECTORY}/junit.xml"
#: An empty pytest configuration, for suites that have none: the application's own is not meant for them.
NO_SETTINGS = f"{OURS}/pytest.ini"
_KEY = f"{OURS}/key"
_SSH_CONFIG = f"{OURS}/ssh_config"
_KNOWN_HOSTS = f"{OURS}/known_hosts"
#: Our own programs for the sandbox, beside this file.
_INSIDE = Path(__file__).parent / "inside"
#: The suites that come with Greenroom, by name.
SHIPPED = Path(__file__).parent / "shipped"

_SETTINGS = ("pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
_ASK = "import json, sys; print(json.dumps([sys.executable, sys.prefix, sys.base_prefix, sys.base_exec_prefix]))"


def interpreter(python: str) -> Mapping[str, str]:
    """Directories that a Python interpreter needs, each under its own name: its environment, its base, all links."""
    try:
        done = subprocess.run([python, "-I", "-c", _ASK], capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise PermanentError(f"{python} does not run ({error}); it must have pytest-testinfra") from error
    executable, *prefixes = json.loads(done.stdout)
    wanted = {Path(prefix) for prefix in prefixes} | {link.parent.parent for link in _links(Path(executable))}
    wanted |= {path.resolve() for path in wanted}
    return {str(path): str(path.resolve()) for path in wanted if not _in_system(path)}


def mounts(source: str, python: Mapping[str, str]) -> Mapping[str, str]:
    """What the suite may read."""
    return {**python, SOURCE: source, f"{OURS}/inside": str(_INSIDE)}


def files(nodes: Iterable[NodeAccess], key: Secret, python: str) -> Mapping[str, Secret]:
    """Key, known hosts and ssh configuration, which exist in the sandbox alone."""
    known = "".join(f"{node.name} {node.host_public_key}\n" for node in nodes)
    config = "".join(_host(node) for node in nodes) + _ssh_options(python)
    return {
        _KEY: Secret(key.reveal().rstrip("\n") + "\n"),
        _KNOWN_HOSTS: Secret(known),
        _SSH_CONFIG: Secret(config),
        NO_SETTINGS: Secret("[pytest]\n"),
    }


def arguments(python: str, suite: Path, path: str, nodes: Iterable[NodeAccess]) -> tuple[str, ...]:
    """pytest for one suite; the configuration of the suite's own directory holds, else none."""
    directory = suite if suite.is_dir() else suite.parent
    own = any((directory / name).is_file() for name in _SETTINGS)
    return (
        *(python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "testinfra.plugin", "-p", "greenroom_nodes"),
        *("-rfE", "--color=no", f"--rootdir={SOURCE}", *(() if own else ("-c", NO_SETTINGS))),
        f"--hosts={','.join(f'ssh://{node.name}' for node in nodes)}",
        *(f"--ssh-config={_SSH_CONFIG}", f"--junitxml={REPORT}", "--", f"{SOURCE}/{path}"),
    )


def environment(request: VerifyRequest) -> Mapping[str, str]:
    """Variables of the suite: roles and their nodes, what was asked for each, no plugin but those named."""
    roles: dict[str, list[str]] = {}
    for node in request.nodes:
        roles.setdefault(node.role, []).append(node.name)
    asked = {node.name: _asked(request, node) for node in request.nodes if node.name in request.asked}
    return {
        "GREENROOM_ASKED": json.dumps(asked),
        "GREENROOM_NODES": json.dumps(roles),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{OURS}/inside",
        "PYTHONUNBUFFERED": "1",
    }


def _asked(request: VerifyRequest, node: NodeAccess) -> Mapping[str, object]:
    """What a node is to have, and where it is to reach the other nodes of its environment."""
    others = [other.inside for other in request.access.nodes if other.name != node.name]
    return {**asdict(request.asked[node.name]), "others": others}


def _links(executable: Path) -> Iterable[Path]:
    """The executable, and every file that it is a link to."""
    path = executable
    while True:
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _in_system(path: Path) -> bool:
    """Whether every sandbox has it already."""
    return path == Path("/") or Path("/usr") in (path, *path.parents)


def _host(node: NodeAccess) -> str:
    return f"Host {node.name}\n  HostKeyAlias {node.name}\n  User {node.user}\n"


def _ssh_options(python: str) -> str:
    return f"""\
Host *
  ProxyCommand {python} -I -S {OURS}/inside/connect.py /relay/%n.sock
  ProxyUseFdpass yes
  BatchMode yes
  StrictHostKeyChecking yes
  UserKnownHostsFile {_KNOWN_HOSTS}
  GlobalKnownHostsFile /dev/null
  UpdateHostKeys no
  IdentitiesOnly yes
  IdentityFile {_KEY}
  ControlPath /tmp/.ssh-%n
  LogLevel ERROR
"""
