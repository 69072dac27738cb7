"""Finding a client on a node, and installing one where there is none."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.domain.errors import PermanentError
from pipeline.ports.common import Limits, Sink
from pipeline.ports.transports import Connection

#: Cinc first: where both are, the free build is meant.
CANDIDATES = ("cinc-client", "chef-client", "/opt/cinc/bin/cinc-client", "/opt/chef/bin/chef-client")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst")


@dataclass(frozen=True)
class ChefPackage:
    """Where a client comes from: `location` is a file of this machine or an http(s) URL that the node can reach.

    A `.deb` is installed; a tar archive is unpacked at `/`. `sha256` (hex) is checked on the node when given.
    """

    location: str
    sha256: str | None = None

    @property
    def is_url(self) -> bool:
        return self.location.startswith(("https://", "http://"))

    @property
    def file_name(self) -> str:
        path = self.location.partition("?")[0] if self.is_url else self.location
        return path.rstrip("/").rpartition("/")[2]

    def unusable(self) -> str | None:
        """Why this package cannot be installed anywhere; None when it may be tried."""
        if not self.file_name.endswith((".deb", *ARCHIVES)):
            return f"the Chef package {self.file_name!r} is neither a .deb nor a tar archive"
        if not self.is_url and not Path(self.location).is_file():
            return f"the Chef package {self.location} does not exist on this machine"
        return None


def find_client(connection: Connection, node: str, candidates: Sequence[str], limits: Limits) -> str | None:
    """The path of the first of these clients that the node has; None when it has none."""
    found = bytearray()
    tries = shlex.join(candidates)
    command = f'for one in {tries}; do command -v "$one" && exit 0; done; exit 1'
    status = connection.run(node, command, limits=limits, output=found.extend)
    return found.decode().strip() if status == 0 else None


def install(
    connection: Connection, node: str, package: ChefPackage, place: str, *, limits: Limits, output: Sink
) -> None:
    """Bring the package onto the node into `place`, and install it; PermanentError when that does not work."""
    if reason := package.unusable():
        raise PermanentError(f"{reason}: correct the configured package")
    output(f"greenroom: installing {package.file_name} on {node}\n".encode())
    _bring(connection, node, package, place, limits=limits, output=output)
    status = connection.run(node, _install_command(package, place), limits=limits, output=output)
    if status != 0:
        raise PermanentError(
            f"the Chef package {package.file_name} could not be installed on node {node} (exit status {status}): "
            "see the log, and check that it is made for the node's system"
        )


def _bring(
    connection: Connection, node: str, package: ChefPackage, place: str, *, limits: Limits, output: Sink
) -> None:
    if package.is_url:
        _download(connection, node, package, place, limits=limits, output=output)
        return
    with tempfile.TemporaryDirectory(prefix="greenroom-chef-") as directory:
        shutil.copyfile(package.location, Path(directory) / package.file_name)
        connection.put(node, directory, place, limits=limits)


def _download(
    connection: Connection, node: str, package: ChefPackage, place: str, *, limits: Limits, output: Sink
) -> None:
    """Let the node fetch it; the URL may hold a password, so it goes in by stdin."""
    target = shlex.quote(f"{place}/{package.file_name}")
    escaped = package.location.replace("\\", "\\\\").replace('"', '\\"')
    command = f"mkdir -p {place} && curl -fsSL --connect-timeout 20 -o {target} -K -"
    status = connection.run(node, command, limits=limits, output=output, stdin=f'url = "{escaped}"\n'.encode())
    if status != 0:
        raise PermanentError(
            f"node {node} could not download the Chef package {package.file_name} (curl: {status}): "
            "check the URL from the node, or configure a local file"
        )


def _install_command(package: ChefPackage, place: str) -> str:
    name = shlex.quote(package.file_name)
    check = f"echo {shlex.quote(package.sha256)}'  '{name} | sha256sum -c - && " if package.sha256 else ""
    unpack = f"dpkg -i {name}" if package.file_name.endswith(".deb") else f"tar -xf {name} -C / --no-same-owner"
    return f"cd {place} && {check}{unpack} && rm -rf {place}"
