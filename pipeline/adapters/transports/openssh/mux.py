"""Short commands over a kept connection without an ssh process: OpenSSH's own protocol of its control sockets.

PROTOCOL.mux of OpenSSH: packets of a length and numbers in network order; descriptors follow one by one. A process that
only passes bytes on would cost more than the command.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_HELLO, _NEW_SESSION = 0x00000001, 0x10000002
_DENIED, _FAILURE, _EXIT = 0x80000002, 0x80000003, 0x80000004
_VERSION, _REQUEST, _NO_ESCAPE = 4, 1, 0xFFFFFFFF
#: No packet that is meant for us is longer.
_LONGEST = 256 * 1024


class NotHeard(Exception):
    """The kept connection did not do it; the text says what is known."""


def ask(
    directory: Path, name: str, command: str, stdin: bytes, timeout_s: float, limit_bytes: int
) -> tuple[int, bytes]:
    """Exit status and output, errors among it, of a command behind the control socket `name` in `directory`.

    NotHeard when it is not known to have ended by itself: it may have begun.
    """
    deadline = time.monotonic() + timeout_s
    try:
        with _connected(directory, name, timeout_s) as control:
            return _Session(control, deadline, limit_bytes).run(command, stdin)
    except OSError as error:
        raise NotHeard(f"{name}: {error}") from error


@contextmanager
def _connected(directory: Path, name: str, timeout_s: float) -> Iterator[socket.socket]:
    """The path of a socket may have 107 bytes, and a deployment's directory may be longer."""
    with ExitStack() as left, socket.socket(socket.AF_UNIX) as control:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        left.callback(os.close, place)
        control.settimeout(timeout_s)
        control.connect(f"/proc/self/fd/{place}/{name}")
        yield control


class _Session:
    def __init__(self, control: socket.socket, deadline: float, limit_bytes: int) -> None:
        self._control = control
        self._deadline = deadline
        self._limit = limit_bytes

    def run(self, command: str, stdin: bytes) -> tuple[int, bytes]:
        self._send(_HELLO, _number(_VERSION))
        flags = b"".join(map(_number, (0, 0, 0, 0, _NO_ESCAPE)))  # no terminal, X11, agent, subsystem
        wish = _number(_REQUEST) + _text("") + flags + _text("") + _text(command)
        with ExitStack() as left:
            source = os.memfd_create("stdin", os.MFD_CLOEXEC)
            left.callback(os.close, source)
            os.pwrite(source, stdin, 0)
            output, sink = os.pipe2(os.O_CLOEXEC)
            left.callback(os.close, output)
            try:
                self._send(_NEW_SESSION, wish)
                for descriptor in (source, sink, sink):
                    socket.send_fds(self._control, [b"\0"], [descriptor])
            finally:
                os.close(sink)
            return self._listen(output)

    def _listen(self, output: int) -> tuple[int, bytes]:
        """Until the status is known and the output is over."""
        said, status, open_ = b"", None, True
        while open_ or status is None:
            waits = ([output] if open_ else []) + ([self._control.fileno()] if status is None else [])
            ready, _, _ = select.select(waits, [], [], max(0.0, self._deadline - time.monotonic()))
            if not ready:
                raise NotHeard("the command did not end in time")
            if output in ready:
                piece = os.read(output, 65536)
                said, open_ = said + piece, bool(piece)
                if len(said) > self._limit:
                    raise NotHeard(f"more than {self._limit} bytes of output")
            if self._control.fileno() in ready:
                status = self._status()
        return status, said

    def _status(self) -> int | None:
        """What the next message says of the end, if anything."""
        kind, body = self._receive()
        if kind == _EXIT:
            return int(struct.unpack_from(">I", body, 4)[0])
        if kind in {_DENIED, _FAILURE}:
            raise NotHeard(body[8:].decode(errors="replace") or "the kept connection refuses")
        return None

    def _send(self, kind: int, body: bytes) -> None:
        packet = _number(kind) + body
        self._control.sendall(_number(len(packet)) + packet)

    def _receive(self) -> tuple[int, bytes]:
        (length,) = struct.unpack(">I", self._exactly(4))
        if not 4 <= length <= _LONGEST:
            raise NotHeard(f"a message of {length} bytes")
        packet = self._exactly(length)
        return int(struct.unpack_from(">I", packet)[0]), packet[4:]

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            self._control.settimeout(max(0.001, self._deadline - time.monotonic()))
            piece = self._control.recv(count - len(data))
            if not piece:
                raise NotHeard("the kept connection ended")
            data += piece
        return data


def _number(value: int) -> bytes:
    return struct.pack(">I", value)


def _text(value: str) -> bytes:
    data = value.encode()
    return _number(len(data)) + data
