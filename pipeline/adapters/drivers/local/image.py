"""Node images: a root file system made once by mmdebstrap, shared read-only by all nodes.

`STATE/images/NAME` is a link to `NAME@KEY`, where KEY is the digest of everything that went into it: a changed
recipe is built beside the old one, which stays as long as a node uses it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gzip
import hashlib
import json
import lzma
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.adapters.drivers.local.protocol import NAME, Refused
from pipeline.clients import sshd

#: Owners in an image and in a node are shifted by this much: root of a node is nobody on the machine. The range after
#: it is the one that systemd's table of user ids leaves unused; 100000 would be what useradd gives to people.
SHIFT = 0x7000_0000
DEFAULT_STATE = Path("/var/lib/greenroom")
HOOKS = "/usr/share/mmdebstrap/hooks/file-mirror-automount"

Progress = Callable[[str], None]

BASE_PACKAGES = ("ca-certificates", "curl", "iproute2", "openssh-server", "procps", "python3", "sudo", "tini")
SYSTEMD_PACKAGES = ("dbus", "systemd-sysv")
#: Units that wait for hardware, a network or a console that a node does not have.
MASKED_UNITS = (
    "apt-daily-upgrade.timer", "apt-daily.timer", "console-getty.service", "dev-hugepages.mount", "dev-mqueue.mount",
    "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty.target",
    "modprobe@.service", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "systemd-logind.service", "systemd-modules-load.service", "systemd-networkd.service",
    "systemd-remount-fs.service", "systemd-resolved.service", "systemd-timesyncd.service",
    "systemd-udev-trigger.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What goes into an image; `debs` and `archives` are digests of files kept under `STATE/recipes/NAME`."""

    name: str
    systemd: bool = False
    packages: tuple[str, ...] = ()
    debs: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    mirror: str = ""

    @property
    def included(self) -> tuple[str, ...]:
        own = BASE_PACKAGES + (SYSTEMD_PACKAGES if self.systemd else ())
        return tuple(sorted({*own, *self.packages}))

    @property
    def key(self) -> str:
        content = [asdict(self), self.included, MASKED_UNITS, sshd.SSHD_CONFIG, sshd.GREETINGS, SHIFT, "bookworm", 1]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Image:
    """A built image: `root` is the read-only root file system, `systemd` says what its first process is."""

    name: str
    key: str
    root: Path
    systemd: bool


#: Images that can be built by name alone.
RECIPES = {recipe.name: recipe for recipe in (Recipe("debian-12"), Recipe("debian-12-systemd", systemd=True))}


def images(state: Path) -> dict[str, Image]:
    """Find the built images by name; one whose owners are shifted otherwise is of no use."""
    found = (load(link) for link in sorted((state / "images").glob("[a-z0-9]*")) if link.is_symlink())
    return {image.name: image for image in found if image.root.stat().st_uid == SHIFT}


def load(link: Path) -> Image:
    """Read one image behind its link."""
    place = link.resolve()
    facts = json.loads((place / "image.json").read_text())
    return Image(facts["name"], facts["key"], place / "rootfs", facts["systemd"])


def recipe_of(state: Path, name: str) -> Recipe:
    """Find the recipe of an image: a kept one, else a built-in one. Refused when there is none."""
    kept = state / "recipes" / name / "recipe.json"
    if kept.is_file():
        facts: dict[str, Any] = json.loads(kept.read_text())
        lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
        return Recipe(**{**facts, **lists})
    if name not in RECIPES:
        raise Refused("permanent", f"no recipe for image {name}; there are {', '.join(sorted(RECIPES))}")
    return RECIPES[name]


def keep_recipe(state: Path, recipe: Recipe, debs: Sequence[Path], archives: Sequence[Path]) -> Recipe:
    """Store a recipe, so that later builds of that name use it too; files that are named replace all kept ones."""
    place = state / "recipes" / recipe.name
    place.mkdir(parents=True, exist_ok=True)
    if debs or archives:
        recipe = replace(recipe, debs=_kept(place, debs, "deb"), archives=_kept(place, archives, "tar"))
        _forget_files(place, recipe)
    (place / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    return recipe


def _kept(place: Path, files: Sequence[Path], kind: str) -> tuple[str, ...]:
    """Copy files to where they are found by their digests. Refused when one is not there."""
    for file in files:
        if not file.is_file():
            raise Refused("bad-request", f"{file} is no file on this machine")
    digests = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in files}
    for digest, file in digests.items():
        if not (place / f"{digest}.{kind}").exists():
            shutil.copyfile(file, place / f"{digest}.part")
            (place / f"{digest}.part").rename(place / f"{digest}.{kind}")
    return tuple(sorted(digests))


def _forget_files(place: Path, recipe: Recipe) -> None:
    for kind, used in (("deb", recipe.debs), ("tar", recipe.archives)):
        for file in place.glob(f"*.{kind}"):
            if file.stem not in used:
                file.unlink()


@contextlib.contextmanager
def locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold a file lock; say so when another builder has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another builder of {path.stem}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_image(state: Path, name: str, progress: Progress) -> Image:
    """Build an image unless it is there and its recipe is unchanged. Refused when it cannot be built."""
    recipe = recipe_of(state, name)
    place = state / "images"
    for directory in (state, place):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    with locked(state / "locks" / f"{name}.lock", progress):
        found = images(state).get(name)
        if found is not None and found.key == recipe.key:
            progress(f"image {name} is ready ({found.key})")
            return found
        _build(state, recipe, progress)
        _drop_unused(place, recipe)
        return load(place / name)


def _build(state: Path, recipe: Recipe, progress: Progress) -> None:
    """Make the image aside and put it in place by renaming."""
    started = time.monotonic()
    aside = state / "images" / f".building-{recipe.name}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    _bootstrap(state, recipe, aside / "rootfs", progress)
    for digest in recipe.archives:
        progress(f"unpacking archive {digest[:12]}")
        _unpack(state / "recipes" / recipe.name / f"{digest}.tar", aside / "rootfs")
    progress("adapting the root file system")
    _adapt(recipe, aside / "rootfs")
    facts = {"name": recipe.name, "key": recipe.key, "systemd": recipe.systemd, "packages": recipe.included}
    (aside / "image.json").write_text(json.dumps(facts))
    os.chown(aside, 0, SHIFT)
    aside.chmod(0o710)  # only a node's root may pass: an ordinary user must not run the image's setuid programs
    _publish(aside, state / "images" / f"{recipe.name}@{recipe.key}", state / "images" / recipe.name)
    progress(f"image {recipe.name} built in {time.monotonic() - started:.0f} s ({recipe.key})")


def _publish(aside: Path, final: Path, link: Path) -> None:
    if final.exists():  # left by a build that ended between the two renames
        shutil.rmtree(final)
    aside.rename(final)
    fresh = link.with_name(f".link-{link.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(final.name)
    fresh.rename(link)


def _bootstrap(state: Path, recipe: Recipe, root: Path, progress: Progress) -> None:
    debs = [str(state / "recipes" / recipe.name / f"{digest}.deb") for digest in recipe.debs]
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "info")]
    argv = [
        "ionice", "-c3", "nice", "-n19",  # neighbours keep their disk and processor while an image is made
        "mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory",
        "--include=" + ",".join([*recipe.included, *debs]),
        *excluded, *([f"--hook-dir={HOOKS}"] if debs else []),
        "bookworm", str(root), *([recipe.mirror] if recipe.mirror else []),
    ]  # fmt: skip
    progress(f"building image {recipe.name}: about 200 MB from the package mirror, about a minute")
    lines = []
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if line.startswith(("I:", "E:", "W:", "Setting up")):
                progress(line.rstrip())
    if process.returncode:
        tail = "\n".join(lines[-15:])
        raise Refused("transient", f"mmdebstrap could not build image {recipe.name}; is the mirror reachable?\n{tail}")


#: How compressed files begin, and what opens them; anything else is taken for a plain tar.
COMPRESSED: Mapping[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7": lzma.open}


def _unpack(archive: Path, root: Path) -> None:
    """Let the image's own tar write the files as root's: inside, no link of the image leads out of it."""
    with archive.open("rb") as file:
        opened = COMPRESSED.get(file.read(2), Path.open)
    argv = ["chroot", str(root), "tar", "-x", "-f", "-", "-C", "/", "--no-same-owner", "--keep-directory-symlink"]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=said, stderr=said) as process:
            broken = _feed(process, archive, opened)
        said.seek(0)
        tail = said.read()[-500:].decode(errors="replace")
    if broken or process.returncode:
        raise Refused("permanent", f"archive {archive.name} cannot be unpacked: {tail or broken}")


def _feed(process: subprocess.Popen[bytes], archive: Path, opened: Callable[..., Any]) -> str:
    """Write the decompressed archive; what is wrong with it, or nothing."""
    if process.stdin is None:
        raise TypeError("the process has no pipe")
    try:
        with opened(archive, "rb") as content, process.stdin as pipe:
            shutil.copyfileobj(content, pipe)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        return str(error)
    return ""


def _adapt(recipe: Recipe, root: Path) -> None:
    sshd.set_up(root)
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("")
    if recipe.systemd:
        for unit in MASKED_UNITS:
            mask = root / "etc/systemd/system" / unit
            mask.unlink(missing_ok=True)
            mask.symlink_to("/dev/null")
        (root / "etc/systemd/system/default.target").unlink(missing_ok=True)
        (root / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
    shift_owners(root)


def shift_owners(root: Path) -> None:
    """Add `SHIFT` to the owner and group of everything below `root`, keeping setuid bits and file capabilities."""
    _shift(str(root))
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            _shift(f"{directory}/{name}")


def _shift(path: str) -> None:
    facts = os.lstat(path)
    regular = stat.S_ISREG(facts.st_mode)
    capability = _capability(path) if regular else b""
    os.lchown(path, facts.st_uid + SHIFT, facts.st_gid + SHIFT)
    if facts.st_mode & (stat.S_ISUID | stat.S_ISGID) and not stat.S_ISLNK(facts.st_mode):
        Path(path).chmod(stat.S_IMODE(facts.st_mode))  # a change of owner clears them
    if capability:
        os.setxattr(path, "security.capability", capability)


def _capability(path: str) -> bytes:
    """Convert a file's capabilities to those of a user namespace whose root is `SHIFT` (revision 3 of the format)."""
    try:
        old = os.getxattr(path, "security.capability")
    except OSError:  # none, or a file system without
        return b""
    (magic,) = struct.unpack_from("<I", old)
    return struct.pack("<I", 0x03000000 | (magic & 1)) + old[4:20] + struct.pack("<I", SHIFT)


def _drop_unused(place: Path, recipe: Recipe) -> None:
    """Remove older versions that no process has mounted."""
    for old in place.glob(f"{recipe.name}@*"):
        if old.name != f"{recipe.name}@{recipe.key}" and not _mounted(old):
            shutil.rmtree(old)


def _mounted(place: Path) -> bool:
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):  # the process ended meanwhile
            if f"{place}/" in mounts.read_text():
                return True
    return False


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="greenroom-image", description="Build a node image when it is missing.")
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE)
    parser.add_argument("--name", help="debian-12 by default, debian-12-systemd with --systemd")
    parser.add_argument("--systemd", action="store_true", help="systemd is the first process of its nodes")
    parser.add_argument("--deb", type=Path, action="append", default=[], help="package file to install as well")
    parser.add_argument("--archive", type=Path, action="append", default=[], help="tar to unpack at / as well")
    parser.add_argument("--package", action="append", default=[], help="package of the distribution to install as well")
    parser.add_argument("--mirror", default="", help="package mirror, a URL")
    return parser.parse_args(argv)


def _wanted(options: argparse.Namespace) -> str:
    """Keep what the options add to the recipe, and give the image's name."""
    name: str = options.name or ("debian-12-systemd" if options.systemd else "debian-12")
    if not NAME.fullmatch(name):
        raise Refused("bad-request", f"image name {name!r}: expected letters a-z, digits and -")
    known = name in RECIPES or (options.state / "recipes" / name).is_dir()
    base = recipe_of(options.state, name) if known else Recipe(name)
    packages = tuple(sorted({*base.packages, *options.package}))
    wanted = replace(
        base, systemd=base.systemd or options.systemd, packages=packages, mirror=options.mirror or base.mirror
    )
    if wanted != base or options.deb or options.archive or not known:
        keep_recipe(options.state, wanted, options.deb, options.archive)
    return name


def main(argv: Sequence[str] | None = None) -> int:
    """Build the image that the options name; progress goes to standard error."""

    def progress(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    options = _arguments(argv)
    if os.geteuid() != 0:
        progress("building a node image needs root: run this with sudo")
        return 1
    try:
        ensure_image(options.state.resolve(), _wanted(options), progress)
    except Refused as refused:
        progress(str(refused))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
