"""Commands and files over the kept connections of one environment."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.adapters.transports.openssh import mux, remote
from pipeline.adapters.transports.openssh.archive import MAX_ENTRIES, pack, unpack
from pipeline.adapters.transports.openssh.config import socket_name
from pipeline.adapters.transports.openssh.masters import ENV, Masters, judge
from pipeline.clients.processes import Child, Stream
from pipeline.domain.errors import NotFound, PermanentError, TooLarge, TransientError, UserError
from pipeline.ports.common import LimitExceeded, Limits, Sink
from pipeline.ports.transports import ASKED_BYTES, EnvironmentAccess, NodeAccess

#: Seconds that a node may take to start a command; without it a connection that hangs would hold us for ever.
_START_S = 25.0
#: Seconds without output after the command's end; what it left running may keep the output open for ever.
_LINGER_S = 0.5
#: The same for a file's content, which nothing keeps open: on a busy machine its last piece may be late, never missing.
_READ_LINGER_S = 20.0
#: Seconds that the node has to end a command when we hang up, before it is told in another session.
_HANG_UP_S = 2.0
#: What a shell says of a command that a signal ended, here for one that took its own shell along (`kill -9 0`).
_KILLED = 128 + 9
#: Exit statuses of our own scripts.
_MISSING, _ODD = 44, 45
_SMALL = Limits(total_s=60, silence_s=60, output_bytes=64 * 1024)


class OpenSshConnection:
    """A `Connection`; safe to use from several threads."""

    def __init__(self, access: EnvironmentAccess, masters: Masters, directory: Path) -> None:
        self._access = access
        self._masters = masters
        self._directory = directory

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
        feed = (remote.first_line(command, env), stdin)
        return self._run(node, remote.watched(len(stdin)), lambda: feed, limits, output, watched=True)

    def ask(self, node: str, command: str, *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes]:
        place = self._node(node)
        self._masters.ensure(place)
        told = remote.as_root(place.user, command)
        try:
            return mux.ask(self._directory, socket_name(place), told, stdin, timeout_s, ASKED_BYTES)
        except mux.NotHeard as error:
            if self._masters.answers(place):
                raise TransientError(f"node {node} did not do what it was asked: {error}") from error
        self._masters.reopen(place)
        try:
            return mux.ask(self._directory, socket_name(place), told, stdin, timeout_s, ASKED_BYTES)
        except mux.NotHeard as error:
            raise TransientError(f"node {node} did not do what it was asked: {error}") from error

    def put(self, node: str, source: str, target: str, *, limits: Limits, replace: bool = True) -> None:
        script = remote.first_line(_put_script(_absolute(target), replace=replace))

        def feed() -> Iterator[bytes]:
            yield script
            yield from pack(source)

        said = _Tail()
        status = self._run(node, remote.streamed(), feed, limits, said, watched=False)
        if status != 0:
            raise PermanentError(f"node {node} could not take {target}: {said.text or f'tar ended with {status}'}")

    def put_file(self, node: str, content: bytes, target: str, *, mode: int = 0o644) -> None:
        said = _Tail()
        status = self.run(node, _put_file_script(_absolute(target), mode), limits=_SMALL, output=said, stdin=content)
        if status != 0:
            raise PermanentError(f"node {node} could not take the file {target}: {said.text or f'status {status}'}")

    def fetch(self, node: str, path: str, *, limit_bytes: int, limits: Limits) -> Iterator[bytes]:
        quoted = shlex.quote(path)
        script = f"[ -f {quoted} ] || exit {_MISSING}; exec 2>/dev/null; exec head -c {limit_bytes + 1:d} -- {quoted}"
        return self._read(node, path, script, limit_bytes, replace(limits, output_bytes=limit_bytes))

    def fetch_tree(self, node: str, path: str, target: str, *, limit_bytes: int, limits: Limits) -> Sequence[str]:
        Path(target).mkdir(parents=True, exist_ok=True)
        stream_limit = 2 * limit_bytes + MAX_ENTRIES * 4096  # the archive is bounded more closely where it is read
        pieces = self._read(node, path, _tree_script(path), limit_bytes, replace(limits, output_bytes=stream_limit))
        return unpack(pieces, Path(target), limit_bytes=limit_bytes, what=f"{path} of node {node}")

    def _read(self, node: str, path: str, script: str, limit_bytes: int, limits: Limits) -> Iterator[bytes]:
        """Yield a script's output. Errors also for its exit status, after the last piece."""
        session = self._session(node, remote.watched(0), lambda: (remote.first_line(script),), watched=True)
        session.linger_s = _READ_LINGER_S
        try:
            yield from session.pieces(limits)
        except LimitExceeded as error:
            if error.which == "output":
                raise TooLarge(f"{path} of node {node} is larger than {limit_bytes} bytes") from error
            raise
        if session.status == _MISSING:
            raise NotFound(f"node {node} has no {path}")
        if session.status != 0:
            raise PermanentError(f"{path} of node {node} could not be read (status {session.status})")

    def _run(
        self,
        node: str,
        argument: str,
        feed: Callable[[], Iterable[bytes]],
        limits: Limits,
        output: Sink,
        *,
        watched: bool,
    ) -> int:
        session = self._session(node, argument, feed, watched=watched)
        for piece in session.pieces(limits):
            output(piece)
        return session.status

    def _session(self, node: str, argument: str, feed: Callable[[], Iterable[bytes]], *, watched: bool) -> _Session:
        return _Session(self._node(node), self._masters, self._directory, argument, feed, watched)

    def _node(self, name: str) -> NodeAccess:
        for node in self._access.nodes:
            if node.name == name:
                return node
        raise NotFound(f"environment {self._access.environment_id} has no node {name}")


class _Session:
    """One script on one node."""

    def __init__(
        self,
        node: NodeAccess,
        masters: Masters,
        directory: Path,
        argument: str,
        feed: Callable[[], Iterable[bytes]],
        watched: bool,
    ) -> None:
        self._node = node
        self._masters = masters
        self._directory = directory
        self._argument = argument
        self._feed = feed
        self._watched = watched
        self.linger_s = _LINGER_S
        self.status = -1

    def pieces(self, limits: Limits) -> Iterator[bytes]:
        """Yield the output, then `status` is known. A kept connection that died unnoticed is opened once more."""
        self._masters.ensure(self._node)
        try:
            yield from self._attempt(limits)
        except _NotStarted:
            self._masters.reopen(self._node)
            try:
                yield from self._attempt(limits)
            except _NotStarted as error:
                raise judge(self._node, str(error)) from error

    def _attempt(self, limits: Limits) -> Iterator[bytes]:
        reports = remote.Reports()
        with self._child(self._argument, self._feed(), hold_input=self._watched) as child:
            try:
                yield from self._listen(child, reports, limits)
            except BaseException:
                self._stop(child, reports)
                raise
            self._conclude(reports)

    def _listen(self, child: Child, reports: remote.Reports, limits: Limits) -> Iterator[bytes]:
        """Yield the command's output; a node that does not even start it is lost, and no slow command."""
        start = replace(limits, total_s=_START_S, silence_s=_START_S)  # output may overtake the report of the start
        try:
            for stream, piece in child.stream(start):
                if stream is Stream.OUTPUT:
                    yield piece
                else:
                    self._note(child, reports, piece, limits)
        except LimitExceeded as error:
            if reports.pid is None and error.which != "output":
                raise _NotStarted(f"no command was started within {_START_S:g} s") from error
            raise

    def _note(self, child: Child, reports: remote.Reports, piece: bytes, limits: Limits) -> None:
        """Take reports: from the start on the limits count; at the end we hang up and wait for what is under way."""
        began, over = reports.pid is not None, reports.status is not None
        reports.take(piece)
        if reports.pid is not None and not began:
            child.limit(limits)
        if reports.status is not None and not over:
            child.say_last(remote.OVER)
            child.linger(self.linger_s)

    def _conclude(self, reports: remote.Reports) -> None:
        if reports.status is not None:
            self.status = reports.status
        elif reports.pid is None:
            raise _NotStarted(reports.rest)
        elif self._masters.answers(self._node):
            self.status = _KILLED
        else:
            raise TransientError(f"the link to node {self._node.name} broke during a command: {reports.rest.strip()}")

    def _stop(self, child: Child, reports: remote.Reports) -> None:
        """End the command on the node: hang up, and if that is not heard there, kill its process group."""
        child.end_input()
        if reports.pid is None or reports.status is not None or (self._watched and child.gone_within(_HANG_UP_S)):
            return
        line = remote.first_line(f"kill -s KILL -- -{reports.pid}")
        killer = self._child(remote.watched(0), (line,), hold_input=True)
        # Where even this is not heard the node is lost; what ended the command says more than that.
        with killer, contextlib.suppress(LimitExceeded, _NotStarted):
            for _ in self._listen(killer, remote.Reports(), _SMALL):
                pass

    def _child(self, argument: str, feed: Iterable[bytes], *, hold_input: bool) -> Child:
        # Without the kept connection this ssh must not make one of its own, slowly and unseen.
        command = remote.as_root(self._node.user, argument)
        argv = ["ssh", "-F", "config", "-T", "-o", "ProxyCommand=false", self._node.name, command]
        return Child(argv, env=ENV, cwd=str(self._directory), feed=feed, hold_input=hold_input)


class _NotStarted(Exception):
    """The command did not begin on the node; the text is what ssh said."""


class _Tail:
    """A sink that keeps the last words for a message."""

    def __init__(self) -> None:
        self._kept = b""

    def __call__(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-500:]

    @property
    def text(self) -> str:
        return " ".join(self._kept.decode(errors="replace").split())


def _absolute(path: str) -> str:
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts or len(pure.parts) < 2:
        raise UserError(f"{path!r} must be an absolute path on the node, without `..`")
    return str(pure)


def _put_script(target: str, *, replace: bool) -> str:
    place, fresh = shlex.quote(target), shlex.quote(f"{target}.greenroom-new")
    if not replace:
        return f"mkdir -p {place} && exec tar -x -p -f - -C {place}"
    parent = shlex.quote(str(PurePosixPath(target).parent))
    return (
        f"mkdir -p {parent} && rm -rf {fresh} && mkdir {fresh} && tar -x -p -f - -C {fresh}"
        f" && rm -rf {place} && mv {fresh} {place}"
    )


def _put_file_script(target: str, mode: int) -> str:
    place, fresh = shlex.quote(target), f"{shlex.quote(target)}.greenroom-$$"
    parent = shlex.quote(str(PurePosixPath(target).parent))
    return (
        f"if [ -d {place} ]; then echo it is a directory; exit {_ODD}; fi; mkdir -p {parent} && umask 077"
        f" && cat > {fresh} && chmod {mode:o} {fresh} && mv -f {fresh} {place} || {{ rm -f {fresh}; exit {_ODD}; }}"
    )


def _tree_script(path: str) -> str:
    pure = PurePosixPath(_absolute(path))
    place, parent, name = shlex.quote(str(pure)), shlex.quote(str(pure.parent)), shlex.quote(pure.name)
    return (
        f"[ -f {place} ] || [ -d {place} ] || exit {_MISSING}; exec 2>/dev/null;"
        f" tar -c -f - -C {parent} -- {name}; [ $? -le 1 ]"
    )
