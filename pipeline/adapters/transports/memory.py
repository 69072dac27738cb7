"""Nodes in this process: a few commands, files in a dictionary, and knobs to make them fail."""

# ruff: noqa: ARG002 - a twin takes all that the port gives, and needs less of it

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.domain.errors import NotFound, PermanentError, TooLarge, TransientError, UserError
from pipeline.ports.common import Clock, LimitExceeded, Limits, Sink
from pipeline.ports.transports import ASKED_BYTES, EnvironmentAccess


@dataclass(frozen=True)
class Call:
    """One command as a node got it."""

    environment_id: str
    node: str
    command: str
    limits: Limits
    output: Sink = field(repr=False)
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""


#: Answers a call with an exit status, or with None when it is not its business.
Handler = Callable[[Call], int | None]


class NotProgrammed(AssertionError):
    """A command that the memory transport was not told of."""


class MemoryTransport:
    """The twin of `OpenSshTransport`; what it keeps lives in this process alone.

    It knows `true`, `false`, `exit N`, `echo TEXT`, `sleep S`, `cd DIR`, `rm -f -- FILE` and lines of these; all else
    is asked of the handlers, in their order and before these, and refused when none answers. Knobs: `unreachable` (node
    name to reason), `refusing` (likewise, for wrong keys), `lose_after` (so many more commands until the link breaks).
    """

    def __init__(self, clock: Clock, handlers: Sequence[Handler] = ()) -> None:
        self._clock = clock
        self.handlers = list(handlers)
        self.files: dict[tuple[str, str, str], bytes] = {}
        self.calls: list[Call] = []
        self.unreachable: dict[str, str] = {}
        self.refusing: dict[str, str] = {}
        self.lose_after: int | None = None

    @contextmanager
    def connect(self, access: EnvironmentAccess) -> Iterator[MemoryConnection]:
        yield MemoryConnection(self, access)

    def probe(self, access: EnvironmentAccess, timeout_s: float) -> Mapping[str, str]:
        reasons = {**self.unreachable, **self.refusing}
        return {node.name: reasons[node.name] for node in access.nodes if node.name in reasons}

    def command_line(self, access: EnvironmentAccess, node: str, directory: str) -> Sequence[str]:
        place = Path(directory)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ["ssh", "-F", str(place / "config"), node]

    def close(self, environment_id: str) -> None:
        """Nothing is kept open."""

    def close_all(self) -> None:
        """Nothing is kept open."""

    def reach(self, node: str) -> None:
        """Raise what the knobs say."""
        if node in self.refusing:
            raise PermanentError(f"node {node} refuses SSH: {self.refusing[node]}")
        if node in self.unreachable:
            raise TransientError(f"node {node} does not answer SSH: {self.unreachable[node]}")
        if self.lose_after is not None:
            self.lose_after -= 1
            if self.lose_after < 0:
                raise TransientError(f"the link to node {node} broke during a command: it was told to")

    def execute(self, call: Call) -> int:
        """Run one command by the handlers, else by the table."""
        self.calls.append(call)
        for handler in self.handlers:
            if (status := handler(call)) is not None:
                return status
        return self._lines(call)

    def _lines(self, call: Call) -> int:
        """Run line by line; the last status counts, and `exit` ends it."""
        status = 0
        for line in call.command.splitlines():
            words = shlex.split(line.partition("||")[0])
            if words[:1] == ["exit"]:
                return int(words[1])
            status = self._line(words, call)
        return status

    def _line(self, words: Sequence[str], call: Call) -> int:
        match words:
            case ["true"] | ["cd", _]:
                return 0
            case ["false"]:
                return 1
            case ["echo", *text]:
                call.output(" ".join(text).encode() + b"\n")
                return 0
            case ["sleep", seconds]:
                _sleep(float(seconds), call.limits, self._clock)
                return 0
            case ["rm", "-f", "--", path]:
                self.files.pop((call.environment_id, call.node, path), None)
                return 0
        raise NotProgrammed(f"node {call.node} was not told how to answer {call.command!r}")


class MemoryConnection:
    """A `Connection` of `MemoryTransport`."""

    def __init__(self, transport: MemoryTransport, access: EnvironmentAccess) -> None:
        self._transport = transport
        self._access = access

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
        self._reach(node)
        sink = _Bounded(output, limits.output_bytes)
        return self._transport.execute(
            Call(self._access.environment_id, node, command, limits, sink, dict(env or {}), stdin)
        )

    def ask(self, node: str, command: str, *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes]:
        said: list[bytes] = []
        limits = Limits(total_s=timeout_s, silence_s=timeout_s, output_bytes=ASKED_BYTES)
        try:
            return self.run(node, command, limits=limits, output=said.append, stdin=stdin), b"".join(said)
        except LimitExceeded as error:
            raise TransientError(f"node {node}: {error}") from error

    def put(self, node: str, source: str, target: str, *, limits: Limits, replace: bool = True) -> None:
        self._reach(node)
        place = _absolute(target)
        if replace:
            for key in [key for key in self._transport.files if self._below(key, node, place)]:
                del self._transport.files[key]
        for path in sorted(Path(source).rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(source).as_posix()
                self._transport.files[self._key(node, f"{place}/{name}")] = path.read_bytes()

    def put_file(self, node: str, content: bytes, target: str, *, mode: int = 0o644) -> None:
        self._reach(node)
        place = _absolute(target)
        if any(self._below(key, node, place) for key in self._transport.files):
            raise PermanentError(f"node {node} could not take the file {target}: it is a directory")
        self._transport.files[self._key(node, place)] = content

    def fetch(self, node: str, path: str, *, limit_bytes: int, limits: Limits) -> Iterator[bytes]:
        self._reach(node)
        content = self._transport.files.get(self._key(node, path))
        if content is None:
            raise NotFound(f"node {node} has no {path}")
        if len(content) > limit_bytes:
            raise TooLarge(f"{path} of node {node} is larger than {limit_bytes} bytes")
        yield content

    def fetch_tree(self, node: str, path: str, target: str, *, limit_bytes: int, limits: Limits) -> Sequence[str]:
        self._reach(node)
        place = PurePosixPath(_absolute(path))
        found = {
            PurePosixPath(key[2]).relative_to(place.parent).as_posix(): content
            for key, content in self._transport.files.items()
            if key == self._key(node, str(place)) or self._below(key, node, str(place))
        }
        if not found:
            raise NotFound(f"node {node} has no {path}")
        if sum(map(len, found.values())) > limit_bytes:
            raise TooLarge(f"{path} of node {node} is larger than {limit_bytes} bytes")
        return [_write(Path(target), name, found[name]) for name in sorted(found)]

    def _reach(self, node: str) -> None:
        if all(node != known.name for known in self._access.nodes):
            raise NotFound(f"environment {self._access.environment_id} has no node {node}")
        self._transport.reach(node)

    def _key(self, node: str, path: str) -> tuple[str, str, str]:
        return (self._access.environment_id, node, path)

    def _below(self, key: tuple[str, str, str], node: str, place: str) -> bool:
        return key[:2] == (self._access.environment_id, node) and key[2].startswith(f"{place}/")


class _Bounded:
    """Passes output on up to a number of bytes."""

    def __init__(self, output: Sink, limit: int) -> None:
        self._output = output
        self._left = limit
        self._limit = limit

    def __call__(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise LimitExceeded("output", f"more than {self._limit} bytes of output")
        self._output(data)


def _sleep(seconds: float, limits: Limits, clock: Clock) -> None:
    bound, which = min((limits.total_s, "total"), (limits.silence_s, "silence"))
    clock.sleep(min(seconds, bound))
    if seconds > bound:
        text = "still running after" if which == "total" else "no output for"
        raise LimitExceeded(which, f"{text} {bound:g} s")


def _absolute(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
        raise UserError(f"{path!r} must be an absolute path on the node, without `..`")
    return str(pure)


def _write(target: Path, name: str, content: bytes) -> str:
    place = target / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return name
