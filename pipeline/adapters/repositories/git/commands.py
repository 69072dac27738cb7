"""Runs git with nothing inherited: no configuration, hooks, helpers, prompts or schemes but ours.

Argument lists never hold a secret. `timeout` ends git together with its helpers (ssh, git-remote-https), also after
this process died.
"""

from __future__ import annotations

import base64
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline.domain.errors import PermanentError
from pipeline.ports.common import Secret

LOCAL_TIMEOUT_S = 600.0
_TIMED_OUT = (124, 137)

#: Variables that would lead git to another repository or configuration than the one named.
_UNSET = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_TRACE",
    "GIT_TRACE_CURL",
    "GIT_CURL_VERBOSE",
    "SSH_ASKPASS",
)

_CONFIGURATION = """\
[core]
    hooksPath = /dev/null
    attributesFile = /dev/null
    excludesFile = /dev/null
    fsmonitor = false
[credential]
    helper =
[fetch]
    recurseSubmodules = false
[submodule]
    recurse = false
[gc]
    autoDetach = false
[maintenance]
    autoDetach = false
[http]
    lowSpeedLimit = 1000
    lowSpeedTime = 60
[safe]
"""


@dataclass(frozen=True)
class Outcome:
    """How one git command ended."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def timed_out(self) -> bool:
        return self.status in _TIMED_OUT


@dataclass(frozen=True)
class GitCommands:
    """Commands on one bare repository. `schemes` are git's names of the transports that it may use."""

    directory: Path
    configuration: Path
    schemes: Sequence[str]

    def configure(self, trusted: Sequence[str]) -> None:
        """Write the configuration that replaces the machine's; `trusted` directories may belong to someone else."""
        lines = "".join(f"    directory = {_quoted(path)}\n" for path in trusted)
        text = _CONFIGURATION + lines
        if not self.configuration.is_file() or self.configuration.read_text(encoding="utf-8") != text:
            _replace(self.configuration, text)

    def run(self, *arguments: str, timeout_s: float = LOCAL_TIMEOUT_S, env: Mapping[str, str] | None = None) -> Outcome:
        """Run to the end; a failing git is an outcome."""
        status, stdout, stderr = self._execute(
            self._argv(arguments, timeout_s),
            env={**self._environment(), **(env or {})},
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            strip_newline_in_stdout=False,
        )
        return Outcome(status, stdout, stderr)

    def start(self, *arguments: str, timeout_s: float = LOCAL_TIMEOUT_S) -> Any:
        """Start and return the process, its stdout a pipe."""
        return self._execute(self._argv(arguments, timeout_s), env=self._environment(), as_process=True)

    def _execute(self, argv: list[str], **how: Any) -> Any:
        from git import Git
        from git.exc import GitCommandNotFound

        try:
            return Git(str(self.directory.parent)).execute(argv, **how)
        except GitCommandNotFound as error:
            raise PermanentError("git, env or timeout cannot be found on this machine: install git") from error

    def _argv(self, arguments: Sequence[str], timeout_s: float) -> list[str]:
        unset = [word for name in _UNSET for word in ("-u", name)]
        timeout = ["timeout", "--kill-after=5", f"{timeout_s:.1f}"]
        return ["env", *unset, *timeout, "git", f"--git-dir={self.directory}", "--literal-pathspecs", *arguments]

    def _environment(self) -> dict[str, str]:
        home = str(self.configuration.parent)
        return {
            "HOME": home,
            "XDG_CONFIG_HOME": home,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.configuration),
            "GIT_CONFIG_COUNT": "0",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_ALLOW_PROTOCOL": ":".join(self.schemes),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "GIT_SSH_COMMAND": _ssh(),
        }


@contextmanager
def credentials(url: str, credential: Secret | None, directory: Path) -> Iterator[Mapping[str, str]]:
    """Environment that lets git log in at the host of `url`, and nowhere else.

    A private key (PEM) is for ssh; `user:password` or a bare token is for http.
    """
    if credential is None:
        yield {}
    elif credential.reveal().lstrip().startswith("-----BEGIN"):
        with tempfile.TemporaryDirectory(prefix="key-", dir=directory) as place:
            yield {"GIT_SSH_COMMAND": _ssh(_key_file(Path(place), credential))}
    else:
        yield _http_login(url, credential)


def _http_login(url: str, credential: Secret) -> Mapping[str, str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        return {}
    text = credential.reveal()
    # Every forge takes a token as password beside this name; Bitbucket takes no other name.
    login = text if ":" in text else f"x-token-auth:{text}"
    header = "Authorization: Basic " + base64.b64encode(login.encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
        "GIT_CONFIG_VALUE_0": header,
    }


def _key_file(place: Path, credential: Secret) -> Path:
    path = place / "key"
    path.touch(mode=0o600)
    path.write_text(credential.reveal().strip() + "\n", encoding="utf-8")
    return path


def _ssh(key: Path | None = None) -> str:
    options = ["-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=20", "-oClearAllForwardings=yes"]
    if key is not None:
        options += ["-oIdentitiesOnly=yes", "-oIdentityAgent=none", "-i", shlex.quote(str(key))]
    return " ".join(["ssh", *options])


def file_url(path: str) -> str:
    """A local path as a URL, so that git treats it as a remote one (shallow fetches, no hard links)."""
    return "file://" + quote(path)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".config-", delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).replace(path)
