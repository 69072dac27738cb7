"""A connection for tests whose nodes are shells of this machine, each behind a prefix such as `chroot DIR`."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.domain.errors import NotFound, TooLarge
from pipeline.ports.common import Limits, Sink


class ShellConnection:
    """Runs every command to its end; `ran` keeps what was asked for. Nodes it was not told of are refused."""

    def __init__(self, prefixes: Mapping[str, Sequence[str]], path: str = os.defpath) -> None:
        self._prefixes = prefixes
        self._path = path
        self.ran: list[str] = []

    def run(
        self,
        node: str,
        command: str,
        *,
        limits: Limits,
        output: Sink,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> int:
        self.ran.append(command)
        done = self._do(node, command, {**(env or {})}, stdin, limits.total_s)
        output(done.stdout)
        return done.returncode

    def ask(self, node: str, command: str, *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes]:
        raise AssertionError("no configurator asks in passing")

    def put(self, node: str, source: str, target: str, *, limits: Limits, replace: bool = True) -> None:
        quoted = shlex.quote(target)
        clear = f"rm -rf {quoted} && " if replace else ""
        packed = subprocess.run(["tar", "-cf", "-", "-C", source, "."], check=True, capture_output=True).stdout
        self._must(node, f"{clear}mkdir -p {quoted} && tar -xf - --no-same-owner -C {quoted}", packed)

    def put_file(self, node: str, content: bytes, target: str, *, mode: int = 0o644) -> None:
        path = shlex.quote(target)
        parent = shlex.quote(str(Path(target).parent))
        self._must(
            node, f"mkdir -p {parent} && cat > {path}.new && chmod {mode:o} {path}.new && mv {path}.new {path}", content
        )

    def fetch(self, node: str, path: str, *, limit_bytes: int, limits: Limits) -> Iterator[bytes]:
        done = self._do(node, f"cat {shlex.quote(path)}", {}, b"", limits.total_s)
        if done.returncode:
            raise NotFound(f"{path} is not on {node}")
        if len(done.stdout) > limit_bytes:
            raise TooLarge(f"{path} on {node}")
        yield done.stdout

    def fetch_tree(self, node: str, path: str, target: str, *, limit_bytes: int, limits: Limits) -> Sequence[str]:
        raise AssertionError("no configurator copies trees back")

    def _must(self, node: str, command: str, stdin: bytes) -> None:
        done = self._do(node, command, {}, stdin, 60)
        assert done.returncode == 0, done.stdout.decode()

    def _do(
        self, node: str, command: str, env: Mapping[str, str], stdin: bytes, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self._prefixes[node], "/bin/sh", "-c", command],
            input=stdin,
            env={"PATH": self._path, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
