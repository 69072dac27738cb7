"""Git repositories through bare mirrors on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from pipeline.adapters.repositories.git.archive import Unpacker
from pipeline.adapters.repositories.git.commands import GitCommands, file_url
from pipeline.adapters.repositories.git.mirror import Mirror, MirrorBroken, Remote, listing
from pipeline.domain.errors import NotFound, TooLarge, TransientError, UserError
from pipeline.domain.triggers import ZERO_SHA, is_sha, ref_refusal, repository_refusal
from pipeline.ports.common import Secret

_ABBREVIATED = re.compile(r"[0-9a-f]{7,39}")
_TRIES = 3
_SYMLINK = b"120000"
_T = TypeVar("_T")


class GitRepositories:
    """See `ports.repositories.Repositories`.

    `cache` is a directory of this machine for the mirrors. `allow_local` also takes `file://` and absolute paths,
    `allow_http` also unencrypted http. `timeout_s` bounds each talk with a remote.
    """

    def __init__(
        self,
        cache: str,
        *,
        allow_local: bool = False,
        allow_http: bool = False,
        timeout_s: float = 300.0,
        export_bytes: int = 2 * 1024**3,
        export_files: int = 100_000,
    ) -> None:
        self._cache = Path(cache).absolute()
        self._allow_local = allow_local
        self._allow_http = allow_http
        self._timeout_s = timeout_s
        self._export_bytes = export_bytes
        self._export_files = export_files

    def resolve(self, url: str, ref: str, *, credential: Secret | None = None) -> str:
        refusal = ref_refusal(ref)
        if refusal is not None:
            raise UserError(refusal)
        return self._use(url, credential, lambda mirror, remote: _resolve(mirror, remote, ref))

    def read(self, url: str, sha: str, path: str, *, limit_bytes: int, credential: Secret | None = None) -> bytes:
        _check_sha(sha)
        _check_path(path)

        def read(mirror: Mirror, remote: Remote) -> bytes:
            with mirror.reading():
                listed = mirror.listed(sha, path)
                if listed is not None:
                    return _read(mirror, sha, path, listed, limit_bytes)
            mirror.ensure(remote, sha)
            with mirror.reading():
                return _read(mirror, sha, path, mirror.local(*listing(sha, path)), limit_bytes)

        return self._use(url, credential, read)

    def changed_paths(self, url: str, base: str, sha: str, *, credential: Secret | None = None) -> tuple[str, ...]:
        _check_sha(sha)

        def changed(mirror: Mirror, remote: Remote) -> tuple[str, ...]:
            mirror.ensure(remote, sha)
            known = _known_base(mirror, remote, base)
            with mirror.reading():
                return _changed(mirror, known, sha)

        return self._use(url, credential, changed)

    def export(self, url: str, sha: str, target: str, *, credential: Secret | None = None) -> None:
        _check_sha(sha)
        if any(Path(target).iterdir()):
            raise UserError(f"{target} is not empty; a commit is only written into an empty directory")

        def export(mirror: Mirror, remote: Remote) -> None:
            mirror.ensure(remote, sha)
            with mirror.reading():
                self._unpack(self._commands(remote.name), sha, Path(target))

        self._use(url, credential, export)

    def _use(self, url: str, credential: Secret | None, act: Callable[[Mirror, Remote], _T]) -> _T:
        """Act on the mirror; one that is broken is made anew."""
        path = self._local_path(url)
        remote = Remote(url, url if path is None else file_url(path), credential, self._timeout_s)
        commands = self._commands(url)
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        commands.configure([str(commands.directory), *([] if path is None else _trusted(path))])
        mirror = Mirror(commands)
        for _ in range(_TRIES):
            try:
                return act(mirror, remote)
            except MirrorBroken as error:
                told = str(error)
                mirror.discard()
        raise TransientError(f"the mirror of {url} in {self._cache} breaks again and again: {told}; check the disk")

    def _local_path(self, url: str) -> str | None:
        """The path of a repository on this machine; UserError for what may not be fetched from."""
        refusal = repository_refusal(url)
        if refusal is not None:
            raise UserError(refusal)
        if url.startswith("http://") and not self._allow_http:
            raise UserError(f"{url} is not encrypted: use https")
        if not url.startswith(("/", "file://")):
            return None
        if not self._allow_local:
            raise UserError(f"{url} lies on this machine, which this project may not use")
        return url.removeprefix("file://")

    def _commands(self, url: str) -> GitCommands:
        name = hashlib.sha256(url.encode()).hexdigest()[:32]
        schemes = ["https", "ssh", *(["http"] * self._allow_http), *(["file"] * self._allow_local)]
        return GitCommands(self._cache / f"{name}.git", self._cache / f"{name}.config", schemes)

    def _unpack(self, commands: GitCommands, sha: str, target: Path) -> None:
        process = commands.start("archive", "--format=tar", sha)
        fault: tarfile.TarError | None = None
        try:
            Unpacker(target, self._export_bytes, self._export_files).unpack(cast("IO[bytes]", process.stdout))
            process.stdout.read()
        except tarfile.TarError as error:
            fault = error
        finally:
            status, told = _end(process)
        if "invalid path" in told:
            raise UserError(f"commit {sha} cannot be written to a disk: {told}; rewrite it without that path")
        if fault is not None or status:
            raise MirrorBroken(told or f"the archive of {sha} is not whole") from fault


def _end(process: Any) -> tuple[int, str]:
    """Exit status and stderr; a git that still writes ends by its broken pipe."""
    process.stdout.close()
    told = process.stderr.read().decode("utf-8", "replace").strip()[:500]
    process.stderr.close()
    return process.proc.wait(), told


def _check_sha(sha: str) -> None:
    if not is_sha(sha):
        raise UserError(f"{sha[:80]!r} is no commit id of 40 hexadecimal digits")


def _check_path(path: str) -> None:
    if not path or path.startswith("/") or "\x00" in path or ".." in path.split("/"):
        raise UserError(f"{path!r} is no path inside a repository")


def _trusted(path: str) -> list[str]:
    real = os.path.realpath(path)
    return [path, real, os.path.join(path, ".git"), os.path.join(real, ".git")]  # noqa: PTH118 - kept as text


def _resolve(mirror: Mirror, remote: Remote, ref: str) -> str:
    if is_sha(ref):
        mirror.ensure(remote, ref)
        with mirror.reading():
            return mirror.commit(ref) or ref
    named = (ref,) if ref == "HEAD" or ref.startswith("refs/") else (f"refs/heads/{ref}", f"refs/tags/{ref}")
    wanted = [name for base in named for name in (f"{base}^{{}}", base)]
    refs = mirror.ls_remote(remote, *wanted)
    for name in wanted:
        if name in refs:
            return refs[name]
    if _ABBREVIATED.fullmatch(ref):
        return mirror.search(remote, ref)
    raise NotFound(f"{remote.name} has no branch, tag or commit {ref}: push it first, or name one that is there")


def _read(mirror: Mirror, sha: str, path: str, listed: bytes, limit_bytes: int) -> bytes:
    described, _, name = listed.split(b"\0")[0].partition(b"\t")
    if name != path.encode():
        raise NotFound(f"commit {sha} has no {path}")
    mode, kind, blob, size = described.split()
    if mode == _SYMLINK or kind != b"blob":
        raise NotFound(f"{path} of commit {sha} is no regular file")
    if int(size) > limit_bytes:
        raise TooLarge(f"{path} of commit {sha} has {int(size)} bytes; at most {limit_bytes} are taken")
    return mirror.local("cat-file", "blob", blob.decode("ascii"))


def _known_base(mirror: Mirror, remote: Remote, base: str) -> str | None:
    """The commit before, if anybody still has it."""
    if base == ZERO_SHA or not (is_sha(base) or _ABBREVIATED.fullmatch(base)):
        return None
    if is_sha(base):
        try:
            mirror.ensure(remote, base, thorough=False)
        except NotFound:
            return None
    with mirror.reading():
        return mirror.commit(base)


def _changed(mirror: Mirror, base: str | None, sha: str) -> tuple[str, ...]:
    if base is None:
        listed = mirror.local("ls-tree", "-r", "-z", "--name-only", sha)
    else:
        listed = mirror.local("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, sha)
    return tuple(path.decode("utf-8", "replace") for path in listed.split(b"\0") if path)
