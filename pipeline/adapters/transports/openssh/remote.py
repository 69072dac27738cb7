"""How a command is run on a node so that nothing of it stands in an argument list and it ends when we end."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from pipeline.domain.errors import UserError

#: Said on the input when a command is over; an input that ends without it ends the command.
OVER = b"over\n"

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# The first line of the input is the script. Its output and errors are one stream; standard error is left for these two
# reports. The traps keep a script's `kill 0` from hiding its exit status.
_READ = 'IFS= read -r s; s=$(printf %b "$s"); echo "greenroom-pid $$" >&2; trap : TERM INT HUP; '
_RUN = '{ trap : TERM INT HUP; (eval "$s") 2>&1; echo "greenroom-exit $?" >&2; }'
# The watcher passes the script's own input on, then waits: for our last word, or for the end of the input, which means
# that we are gone. Then it ends the whole process group, itself included.
_WATCH = '{ trap "" TERM INT HUP; %s exec >/dev/null; IFS= read -r x || kill -s KILL -- -$$; }'

_REPORT = re.compile(r"^greenroom-(pid|exit) (\d+)\r?\n", re.MULTILINE)


def watched(stdin_bytes: int) -> str:
    """The launcher of a script with a known input; it is killed on the node when its input ends early."""
    head = f"head -c {stdin_bytes:d};" if stdin_bytes else ""
    return f"{_READ}{_WATCH % head} | {_RUN}"


def streamed() -> str:
    """The launcher of a script whose input is all that comes, to its end."""
    return _READ + _RUN


def as_root(user: str, script: str) -> str:
    """The remote command that runs a script of `watched` or `streamed` as root in a process group of its own."""
    sudo = "" if user == "root" else "sudo -n -- setsid -w "  # sshd gives a login its own group, sudo does not
    return f"exec {sudo}sh -c {shlex.quote(script)}"


def first_line(command: str, env: Mapping[str, str] | None = None) -> bytes:
    """The script as one line. Errors: UserError for what a shell cannot hold."""
    script = "".join(f"export {_variable(name)}={shlex.quote(value)}\n" for name, value in (env or {}).items())
    script += command
    if "\0" in script:
        raise UserError("a command or a variable of its environment contains a NUL character")
    return script.replace("\\", "\\\\").replace("\n", "\\n").encode() + b"\n"


class Reports:
    """What the remote shell reported, and whatever else was said on its standard error."""

    def __init__(self) -> None:
        self._text = ""
        self.pid: int | None = None
        self.status: int | None = None

    def take(self, data: bytes) -> None:
        self._text = (self._text + data.decode(errors="replace"))[-8192:]
        self._text = _REPORT.sub(self._note, self._text)

    @property
    def rest(self) -> str:
        """All that was not a report: why ssh failed."""
        return self._text

    def _note(self, match: re.Match[str]) -> str:
        if match[1] == "pid":
            self.pid = int(match[2])
        else:
            self.status = int(match[2])
        return ""


def _variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise UserError(f"{name!r} is no name of a variable")
    return name
