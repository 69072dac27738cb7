"""Every kind of repository store, and what only real git can do wrong."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import pytest

from pipeline.adapters.repositories.git import GitRepositories
from pipeline.adapters.repositories.git.commands import GitCommands
from pipeline.adapters.repositories.memory import MemoryRepositories
from pipeline.domain.errors import NotFound, PermanentError, TooLarge, TransientError, UserError
from pipeline.domain.triggers import ZERO_SHA
from pipeline.ports.common import Secret
from pipeline.ports.repositories import Repositories

Files = Mapping[str, bytes]
NOBODY_HAS = "a" * 40


class World(Protocol):
    """Makes repositories for the contract."""

    url: str
    repositories: Repositories

    def commit(self, branch: str, files: Files) -> str:
        """Make `files` the whole content of a branch."""

    def tag(self, tag: str, sha: str) -> None:
        """Name a commit."""


def git(directory: Path, *arguments: str, content: bytes = b"") -> str:
    who = {f"GIT_{role}_{field}": "ada@example.org" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(directory), **who}
    done = subprocess.run(["git", *arguments], cwd=directory, input=content, env=env, capture_output=True, check=True)
    return done.stdout.decode().strip()


@dataclass
class GitWorld:
    """A bare repository, filled with plumbing: no tree is too odd for it."""

    directory: Path
    repositories: Repositories
    url: str = ""

    def __post_init__(self) -> None:
        self.url = str(self.directory)
        self.directory.mkdir()
        git(self.directory, "init", "--bare", "--quiet", "--initial-branch=main")

    def commit(self, branch: str, files: Files) -> str:
        lines = [f"{_mode(data)} {self._blob(data)}\t{path}" for path, data in files.items()]
        git(self.directory, "read-tree", "--empty")
        git(self.directory, "update-index", "--index-info", content=("\n".join(lines) + "\n").encode())
        return self.commit_tree(branch, git(self.directory, "write-tree"))

    def commit_tree(self, branch: str, tree: str) -> str:
        sha = git(self.directory, "commit-tree", "-m", branch, tree)
        git(self.directory, "update-ref", f"refs/heads/{branch}", sha)
        git(self.directory, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
        return sha

    def tree(self, *entries: tuple[str, str, bytes]) -> str:
        """A tree of `(mode, name, data)`, not checked by git in any way."""
        raw = b"".join(
            f"{mode} {name}".encode() + b"\0" + bytes.fromhex(self._blob(data)) for mode, name, data in entries
        )
        return git(self.directory, "hash-object", "-t", "tree", "-w", "--stdin", "--literally", content=raw)

    def tag(self, tag: str, sha: str) -> None:
        git(self.directory, "tag", "-a", "-m", tag, tag, sha)

    def _blob(self, data: bytes) -> str:
        return git(self.directory, "hash-object", "-w", "--stdin", content=data.removeprefix(b"-> "))


def _mode(data: bytes) -> str:
    return "120000" if data.startswith(b"-> ") else "100755" if data.startswith(b"#!") else "100644"


class MemoryWorld:
    url = "https://git.example/shop.git"

    def __init__(self) -> None:
        self.memory = MemoryRepositories()
        self.repositories: Repositories = self.memory

    def commit(self, branch: str, files: Files) -> str:
        return self.memory.commit(self.url, branch, files)

    def tag(self, tag: str, sha: str) -> None:
        self.memory.tag(self.url, tag, sha)


@pytest.fixture
def git_world(tmp_path: Path) -> GitWorld:
    return GitWorld(tmp_path / "shop.git", GitRepositories(str(tmp_path / "cache"), allow_local=True))


@pytest.fixture(params=["git", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "memory":
        return MemoryWorld()
    return GitWorld(tmp_path / "shop.git", GitRepositories(str(tmp_path / "cache"), allow_local=True))


def exported(world: World, sha: str, target: Path) -> dict[str, bytes]:
    target.mkdir()
    world.repositories.export(world.url, sha, str(target))
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# The contract

FILES = {"greenroom.yml": b"version: 1\n", "bin/run": b"#!/bin/sh\n", "empty": b"", "binary": b"\x00\xff\n\n"}


def test_refs_are_resolved_as_they_are_now(world: World) -> None:
    first = world.commit("main", FILES)
    assert world.repositories.resolve(world.url, "main") == first
    second = world.commit("main", {**FILES, "new": b"1"})
    other = world.commit("feature/x", {"a": b"1"})
    world.tag("v1", first)
    known = {"main": second, "feature/x": other, "v1": first, "HEAD": other, "refs/heads/main": second, first: first}
    assert {ref: world.repositories.resolve(world.url, ref) for ref in known} == known


def test_the_beginning_of_a_commit_is_enough(world: World) -> None:
    first = world.commit("main", FILES)
    world.commit("main", {"a": b"1"})
    world.tag("keep", first)
    assert world.repositories.resolve(world.url, first[:12]) == first


@pytest.mark.parametrize("ref", ["nope", "mai", "ain", "heads/main", NOBODY_HAS, "abcdef1"])
def test_an_unknown_ref_is_not_found(world: World, ref: str) -> None:
    world.commit("main", FILES)
    with pytest.raises(NotFound):
        world.repositories.resolve(world.url, ref)


@pytest.mark.parametrize(
    "ref", ["", "-x", "--upload-pack=touch x", "a..b", "a b", "a:b", "*", "main^{tree}", "@{u}", "a\n"]
)
def test_an_odd_ref_is_refused(world: World, ref: str) -> None:
    world.commit("main", FILES)
    with pytest.raises(UserError) as caught:
        world.repositories.resolve(world.url, ref)
    assert not isinstance(caught.value, NotFound)


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "-x", "--upload-pack=x", "ftp://h/x", "https://u:p@h/x", "relative", ""]
)
def test_an_odd_url_is_refused(world: World, url: str) -> None:
    world.commit("main", FILES)
    for act in (
        lambda: world.repositories.resolve(url, "main"),
        lambda: world.repositories.changed_paths(url, ZERO_SHA, NOBODY_HAS),
    ):
        with pytest.raises(UserError) as caught:
            act()
        assert not isinstance(caught.value, NotFound)


def test_files_are_read_byte_by_byte(world: World) -> None:
    sha = world.commit("main", FILES)
    for path, data in FILES.items():
        assert world.repositories.read(world.url, sha, path, limit_bytes=100) == data


def test_a_file_of_an_older_commit_is_read(world: World) -> None:
    first = world.commit("main", {"a": b"1"})
    world.commit("main", {"a": b"2"})
    assert world.repositories.read(world.url, first, "a", limit_bytes=1) == b"1"


def test_reading_has_a_limit(world: World) -> None:
    sha = world.commit("main", {"a": b"12345"})
    assert world.repositories.read(world.url, sha, "a", limit_bytes=5) == b"12345"
    with pytest.raises(TooLarge):
        world.repositories.read(world.url, sha, "a", limit_bytes=4)


@pytest.mark.parametrize("path", ["nope", "bin", "bin/", "*", "--help", ":(glob)**"])
def test_what_is_no_file_is_not_found(world: World, path: str) -> None:
    sha = world.commit("main", FILES)
    with pytest.raises(NotFound):
        world.repositories.read(world.url, sha, path, limit_bytes=100)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "bin/../../x"])
def test_paths_out_of_the_repository_are_refused(world: World, path: str) -> None:
    sha = world.commit("main", FILES)
    with pytest.raises(UserError) as caught:
        world.repositories.read(world.url, sha, path, limit_bytes=100)
    assert not isinstance(caught.value, NotFound)


@pytest.mark.parametrize("sha", ["main", "abc", "-" * 40, "A" * 40, "a" * 41, "--all"])
def test_only_whole_commit_ids_are_taken(world: World, sha: str, tmp_path: Path) -> None:
    world.commit("main", FILES)
    for act in (
        lambda: world.repositories.read(world.url, sha, "a", limit_bytes=1),
        lambda: world.repositories.changed_paths(world.url, ZERO_SHA, sha),
        lambda: exported(world, sha, tmp_path / "out"),
    ):
        with pytest.raises(UserError):
            act()


def test_an_unknown_commit_is_not_found(world: World) -> None:
    world.commit("main", FILES)
    with pytest.raises(NotFound):
        world.repositories.read(world.url, NOBODY_HAS, "a", limit_bytes=1)


def test_changed_paths(world: World) -> None:
    first = world.commit(
        "main", {"same": b"1", "changed": b"1", "gone": b"1", "dir/moved": b"long enough to be a move"}
    )
    second = world.commit(
        "main", {"same": b"1", "changed": b"2", "new é": b"1", "dir/place": b"long enough to be a move"}
    )
    paths = world.repositories.changed_paths(world.url, first, second)
    assert set(paths) == {"changed", "gone", "new é", "dir/moved", "dir/place"}
    assert world.repositories.changed_paths(world.url, first, first) == ()


@pytest.mark.parametrize("base", [ZERO_SHA, NOBODY_HAS, "", "main", "bbbbbbb", "--all"])
def test_without_a_known_base_all_paths_changed(world: World, base: str) -> None:
    sha = world.commit("main", FILES)
    assert set(world.repositories.changed_paths(world.url, base, sha)) == set(FILES)


def test_exactly_the_commit_is_exported(world: World, tmp_path: Path) -> None:
    first = world.commit("main", FILES)
    second = world.commit("main", {**FILES, "new": b"1"})
    assert exported(world, first, tmp_path / "first") == FILES
    assert exported(world, second, tmp_path / "second") == {**FILES, "new": b"1"}
    assert os.access(tmp_path / "first/bin/run", os.X_OK)
    assert not (tmp_path / "first/empty").stat().st_mode & 0o111


def test_only_an_empty_directory_is_filled(world: World, tmp_path: Path) -> None:
    sha = world.commit("main", FILES)
    (tmp_path / "target").mkdir()
    (tmp_path / "target/mine").write_bytes(b"mine")
    with pytest.raises(UserError, match="not empty"):
        world.repositories.export(world.url, sha, str(tmp_path / "target"))
    assert names_in(tmp_path / "target") == ["mine"]


def test_a_repository_that_is_not_there(world: World) -> None:
    with pytest.raises(NotFound):
        world.repositories.resolve(world.url.replace("shop", "nope"), "main")


def test_many_callers_at_once(world: World, tmp_path: Path) -> None:
    shas = [world.commit("main", {"a": str(i).encode()}) for i in range(4)]

    def both(i: int) -> tuple[bytes, dict[str, bytes]]:
        sha = shas[i % 4]
        content = world.repositories.read(world.url, sha, "a", limit_bytes=10)
        return content, exported(world, sha, tmp_path / f"out-{i}")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(both, range(12))) == [(str(i % 4).encode(), {"a": str(i % 4).encode()}) for i in range(12)]


# The twin's own knobs


def test_the_twin_fails_once_when_told() -> None:
    world = MemoryWorld()
    sha = world.commit("main", FILES)
    world.memory.fail_next(TransientError("away"))
    with pytest.raises(TransientError):
        world.repositories.resolve(world.url, "main")
    assert world.repositories.resolve(world.url, "main") == sha
    assert world.memory.calls == [f"resolve {world.url}"] * 2


def test_the_twin_asks_for_its_credential() -> None:
    world = MemoryWorld()
    sha = world.commit("main", FILES)
    world.memory.lock(world.url, Secret("tok"))
    with pytest.raises(PermanentError):
        world.repositories.resolve(world.url, "main")
    assert world.repositories.resolve(world.url, "main", credential=Secret("tok")) == sha


# Real git: what a commit may bring


def test_attributes_of_the_commit_change_no_file(git_world: GitWorld, tmp_path: Path) -> None:
    files = {
        ".gitattributes": b"left-out export-ignore\n*.txt export-subst ident text eol=crlf\n*.bin filter=lfs\n",
        "left-out": b"1",
        "a.txt": b"$Id$ $Format:%H$\n",
        "big.bin": b"version https://git-lfs.github.com/spec/v1\n",
    }
    assert exported(git_world, git_world.commit("main", files), tmp_path / "out") == files


def test_links_inside_the_tree_are_kept(git_world: GitWorld, tmp_path: Path) -> None:
    files = {"bin/run": b"#!/bin/sh\n", "run": b"-> bin/run", "bin/up": b"-> ../bin", "dangling": b"-> nowhere"}
    exported(git_world, git_world.commit("main", files), tmp_path / "out")
    links = {name: str((tmp_path / "out" / name).readlink()) for name in ("run", "bin/up", "dangling")}
    assert links == {"run": "bin/run", "bin/up": "../bin", "dangling": "nowhere"}


@pytest.mark.parametrize(
    "links",
    [
        {"a": b"-> /etc/passwd"},
        {"a": b"-> ../x"},
        {"d/a": b"-> ../../x"},
        {"d/x": b"-> ..", "y": b"-> d/x/.."},
        {"a": b"-> b/..", "b": b"-> ../c"},
    ],
)
def test_links_out_of_the_tree_are_refused(git_world: GitWorld, tmp_path: Path, links: Files) -> None:
    sha = git_world.commit("main", {**links, "file": b"1"})
    with pytest.raises(UserError, match="leads out of the tree"):
        exported(git_world, sha, tmp_path / "out")
    assert names_in(tmp_path / "out") == []


@pytest.mark.parametrize("names", [("..",), ("../x",), ("/etc/x",), ("a/../../x",), (".",), ("a", "a"), (".git",)])
def test_paths_out_of_the_tree_are_refused(git_world: GitWorld, tmp_path: Path, names: tuple[str, ...]) -> None:
    sha = git_world.commit_tree("main", git_world.tree(*(("100644", name, b"1") for name in names)))
    with pytest.raises(UserError):
        exported(git_world, sha, tmp_path / "out")
    assert names_in(tmp_path) == ["cache", "out", "shop.git"]
    assert names_in(tmp_path / "out") == []


def test_no_file_is_written_through_a_link(git_world: GitWorld, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    tree = git_world.tree(("120000", "a", str(outside).encode()), ("100644", "a/file", b"1"))
    sha = git_world.commit_tree("main", tree)
    with pytest.raises((UserError, TransientError)):
        exported(git_world, sha, tmp_path / "out")
    assert names_in(outside) == []


def test_a_symbolic_link_is_not_read(git_world: GitWorld) -> None:
    sha = git_world.commit("main", {"greenroom.yml": b"-> /etc/passwd"})
    with pytest.raises(NotFound, match="no regular file"):
        git_world.repositories.read(git_world.url, sha, "greenroom.yml", limit_bytes=1000)


def test_submodules_are_empty_directories(git_world: GitWorld, tmp_path: Path) -> None:
    entry = f"160000 {NOBODY_HAS}\tlib\n100644 {git_world._blob(b'1')}\ta\n"
    git(git_world.directory, "read-tree", "--empty")
    git(git_world.directory, "update-index", "--index-info", content=entry.encode())
    sha = git_world.commit_tree("main", git(git_world.directory, "write-tree"))
    assert exported(git_world, sha, tmp_path / "out") == {"a": b"1"}
    assert names_in(tmp_path / "out/lib") == []


@pytest.mark.parametrize(("bytes_", "files"), [(9, 100), (1000, 2)])
def test_exports_have_limits(git_world: GitWorld, tmp_path: Path, bytes_: int, files: int) -> None:
    sha = git_world.commit("main", {"a": b"12345", "b": b"12345", "c": b""})
    small = GitRepositories(str(tmp_path / "cache"), allow_local=True, export_bytes=bytes_, export_files=files)
    (tmp_path / "out").mkdir()
    with pytest.raises(TooLarge):
        small.export(git_world.url, sha, str(tmp_path / "out"))
    assert names_in(tmp_path / "out") == []


# Real git: the machine it runs on


def mirror_of(world: GitWorld) -> Path:
    [mirror] = (world.directory.parent / "cache").glob("*.git")
    return mirror


def test_nothing_but_the_mirror_is_left_behind(git_world: GitWorld, tmp_path: Path) -> None:
    exported(git_world, git_world.commit("main", FILES), tmp_path / "out")
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".config", ".git", ".lock"]
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_only_what_is_needed_is_fetched(git_world: GitWorld) -> None:
    first = git_world.commit("main", {"a": b"1"})
    git_world.commit("other", {"b": b"2"})
    git_world.repositories.read(git_world.url, first, "a", limit_bytes=1)
    kept = git(mirror_of(git_world), "for-each-ref", "--format=%(refname)")
    assert kept == f"refs/greenroom/{first}"


def test_a_known_commit_needs_no_remote(git_world: GitWorld) -> None:
    sha = git_world.commit("main", {"a": b"1"})
    git_world.repositories.read(git_world.url, sha, "a", limit_bytes=1)
    git_world.directory.rename(git_world.directory.with_suffix(".away"))
    assert git_world.repositories.read(git_world.url, sha, "a", limit_bytes=1) == b"1"


def spoil_packs(mirror: Path) -> None:
    for path in [*mirror.rglob("*.pack"), *mirror.rglob("objects/??/*")]:
        path.chmod(0o600)
        path.write_bytes(b"junk")


def spoil_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def spoil_blob(mirror: Path) -> None:
    """Lose everything but the commit: it is there, its files are not."""
    commit = git(mirror, "for-each-ref", "--format=%(objectname)")
    raw = git(mirror, "cat-file", "commit", commit) + "\n"
    for path in [*mirror.rglob("pack-*"), *mirror.rglob("objects/??/*")]:
        path.unlink()
    git(mirror, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", content=raw.encode())


@pytest.mark.parametrize("spoil", [spoil_packs, spoil_head, spoil_blob])
def test_a_broken_mirror_is_made_anew(git_world: GitWorld, tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    sha = git_world.commit("main", FILES)
    exported(git_world, sha, tmp_path / "first")
    spoil(mirror_of(git_world))
    assert exported(git_world, sha, tmp_path / "second") == FILES
    assert git_world.repositories.resolve(git_world.url, "main") == sha


def test_local_repositories_must_be_allowed(git_world: GitWorld, tmp_path: Path) -> None:
    git_world.commit("main", FILES)
    careful = GitRepositories(str(tmp_path / "careful"))
    for url in (git_world.url, f"file://{git_world.url}"):
        with pytest.raises(UserError, match="may not use"):
            careful.resolve(url, "main")
    with pytest.raises(UserError, match="not encrypted"):
        careful.resolve("http://git.example/x", "main")
    assert not (tmp_path / "careful").exists()


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    world = GitWorld(tmp_path / "a b%20é", GitRepositories(str(tmp_path / "cache"), allow_local=True))
    sha = world.commit("main", FILES)
    assert world.repositories.read(world.url, sha, "empty", limit_bytes=1) == b""


def test_the_machines_configuration_is_not_used(
    git_world: GitWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "seen"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "/nowhere"]\n    insteadOf = {git_world.url}\n[core]\n    pager = touch {trace}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.bare=false'")
    sha = git_world.commit("main", FILES)
    assert git_world.repositories.resolve(git_world.url, "main") == sha
    assert git_world.repositories.read(git_world.url, sha, "empty", limit_bytes=1) == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to another user")
def test_a_repository_of_another_user(git_world: GitWorld) -> None:
    sha = git_world.commit("main", FILES)
    for path in [git_world.directory, *git_world.directory.rglob("*")]:
        os.chown(path, 12345, 12345)
    assert git_world.repositories.read(git_world.url, sha, "empty", limit_bytes=1) == b""


def test_old_commits_leave_the_mirror(git_world: GitWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.adapters.repositories.git.mirror._KEPT", 2)
    shas = [git_world.commit("main", {"a": str(i).encode()}) for i in range(4)]
    for sha in shas:
        git_world.repositories.read(git_world.url, sha, "a", limit_bytes=1)
    kept = git(mirror_of(git_world), "for-each-ref", "--format=%(refname)").split()
    assert len(kept) == 2


# Real git over http: credentials and troubles


@dataclass
class Remote:
    """A remote that answers every request alike and notes what was asked."""

    url: str
    seen: list[Mapping[str, str]] = field(default_factory=list)


@pytest.fixture
def remote(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    status: int = getattr(request, "param", 401)
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("content-length", "0")
            self.send_header("www-authenticate", 'Basic realm="git"')
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Remote(f"http://127.0.0.1:{server.server_port}/shop.git")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("text", "login"), [("tok-123", "x-token-auth:tok-123"), ("ada:pass", "ada:pass")])
def test_a_credential_reaches_only_the_remote(
    remote: Remote, tmp_path: Path, text: str, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    argvs: list[list[str]] = []
    real = GitCommands._argv

    def noting(self: GitCommands, arguments: Any, timeout_s: float) -> list[str]:
        argvs.append(real(self, arguments, timeout_s))
        return argvs[-1]

    monkeypatch.setattr(GitCommands, "_argv", noting)
    repositories = GitRepositories(str(tmp_path), allow_http=True)
    with pytest.raises(PermanentError, match="token") as caught:
        repositories.resolve(remote.url, "main", credential=Secret(text))
    encoded = base64.b64encode(login.encode()).decode()
    assert remote.seen[0]["authorization"] == f"Basic {encoded}"
    told = repr(argvs) + str(caught.value) + "".join(path.read_text() for path in tmp_path.glob("*.config"))
    assert argvs
    assert not {secret for secret in (text, encoded) if secret in told}


def test_without_a_credential_nobody_is_asked(remote: Remote, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="refused us"):
        GitRepositories(str(tmp_path), allow_http=True).resolve(remote.url, "main")
    assert "authorization" not in remote.seen[0]


@pytest.mark.parametrize(
    ("remote", "error"), [(404, NotFound), (403, PermanentError), (503, TransientError)], indirect=["remote"]
)
def test_what_the_remote_says_is_sorted(remote: Remote, tmp_path: Path, error: type[Exception]) -> None:
    with pytest.raises(error):
        GitRepositories(str(tmp_path), allow_http=True).resolve(remote.url, "main")


def test_a_remote_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        GitRepositories(str(tmp_path), allow_http=True).resolve("http://127.0.0.1:1/x", "main")


def test_a_remote_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(TransientError, match="did not answer within"):
            GitRepositories(str(tmp_path), allow_http=True, timeout_s=0.2).resolve(url, "main")


def test_a_private_key_goes_to_ssh_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for ssh notes how it was called."""
    tools = tmp_path / "bin"
    tools.mkdir()
    note = tmp_path / "note"
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"
    script = (
        "#!/bin/sh\n"
        f'echo "$@" > {note}\n'
        f'for word; do [ "$last" = -i ] && stat -c %a "$word" >> {note} && cat "$word" >> {note}; last=$word; done\n'
        "echo 'Permission denied (publickey).' >&2\nexit 255\n"
    )
    (tools / "ssh").write_text(script)
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(PermanentError, match="key"):
        GitRepositories(str(tmp_path / "cache")).resolve("git@git.example:shop.git", "main", credential=Secret(key))
    argv, mode, *content = note.read_text().splitlines()
    assert "StrictHostKeyChecking=yes" in argv
    assert "abc" not in argv
    assert (mode, "\n".join(content) + "\n") == ("600", key)
    assert not list((tmp_path / "cache").glob("key-*"))
