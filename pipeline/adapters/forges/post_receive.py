"""Puts the post-receive hook into a bare repository."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.domain.errors import PermanentError, UserError
from pipeline.ports.common import Secret

SETTINGS = "greenroom-hook.json"
_KEPT = "50-kept"
_MARK = "# greenroom post-receive hook"
_SCRIPT = Path(__file__).with_name("hook_script.py")
_GIT_TIMEOUT_S = 30


def install_hook(repository: str, url: str, secret: Secret) -> str:
    """Install or renew the hook; the path of it.

    A hook that was there before is kept as `post-receive.d/50-kept` and runs first. Address and secret go to
    a file in the repository that only its owner can read. UserError when `repository` is no bare repository or has its
    hooks elsewhere, PermanentError when it cannot be written.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UserError(f"{url!r} is no http or https address of Greenroom")
    directory = Path(repository).resolve()
    hooks = _hooks_directory(directory)
    try:
        _make(hooks)
        _write(directory / SETTINGS, json.dumps({"url": url, "secret": secret.reveal()}), 0o600)
        _keep_foreign(hooks / "post-receive", hooks / "post-receive.d")
        _write(hooks / "post-receive", _SCRIPT.read_text(encoding="utf-8"), 0o755)
    except OSError as error:
        raise PermanentError(f"cannot install the hook in {directory}: {error.strerror}; run as its owner") from error
    return str(hooks / "post-receive")


def _hooks_directory(directory: Path) -> Path:
    bare, _, path = _git(directory, "rev-parse", "--is-bare-repository", "--git-path", "hooks").partition("\n")
    if bare != "true":
        raise UserError(f"{directory} is no bare repository; make one with `git init --bare` and push to it")
    hooks = Path(directory, path).resolve()
    if not hooks.is_relative_to(directory):
        raise UserError(f"core.hooksPath of {directory} is {hooks}, which others share; unset it for this repository")
    return hooks


def _git(directory: Path, *arguments: str) -> str:
    # Whoever runs this names the directory, so its owner may be another one (root installs for a git user).
    trust = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": str(directory)}
    command = ["git", f"--git-dir={directory}", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False, env={**os.environ, **trust}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PermanentError(f"git cannot be run on {directory}: {type(error).__name__}") from error
    if done.returncode:
        raise UserError(f"{directory} is no git repository: {done.stderr.strip()[:300]}")
    return done.stdout.strip()


def _keep_foreign(hook: Path, kept: Path) -> None:
    if not os.path.lexists(hook) or _is_ours(hook):
        return
    _make(kept)
    if os.path.lexists(kept / _KEPT):
        raise UserError(f"both {hook} and {kept / _KEPT} are hooks of others: move one of them away")
    hook.rename(kept / _KEPT)


def _is_ours(hook: Path) -> bool:
    return hook.is_file() and _MARK.encode() in hook.read_bytes()[:200]


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all; it belongs to whom the repository belongs to."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        _own(Path(temporary))
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _make(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir()
        _own(directory)


def _own(path: Path) -> None:
    owner = path.parent.stat()
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)
