"""The box of an image: vagrant-lxc would unpack a root file system for each container; ours share one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

from pipeline.adapters.drivers.vagrant.terms import Image

#: vagrant-lxc refuses a box without it, and our template has no use for it.
ARCHIVE = "rootfs.tar.gz"


def contents(templates: Path, image: Image) -> dict[str, bytes]:
    """The files of the box."""
    fixed = {file.name: file.read_bytes() for file in sorted((templates / "lxc/box").iterdir())}
    base = f"ROOT={image.root.resolve()}\nFIRST_ID={image.first_id}\n"
    return {**fixed, "base": base.encode(), ARCHIVE: _empty_archive()}


def name_of(image_name: str, files: dict[str, bytes]) -> str:
    """A box's name; another one whenever anything in it is."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)} ".encode() + content)
    return f"greenroom-{image_name}-{digest.hexdigest()[:12]}"


def pack(file: Path, files: dict[str, bytes]) -> None:
    """Write a box's file."""
    with tarfile.open(file, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if name == "lxc-template" else 0o644
            archive.addfile(member, io.BytesIO(content))


def _empty_archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w"):
        pass
    return content.getvalue()
