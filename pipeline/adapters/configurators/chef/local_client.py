"""A client of this machine, packed for nodes: Chef and Cinc live in one self-contained directory."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from pipeline.adapters.configurators.chef.package import ChefPackage

log = logging.getLogger(__name__)
CLIENTS = ("cinc-client", "chef-client")


def pack_local_client(directory: str, *, path: str | None = None) -> ChefPackage | None:
    """Pack the client found on `path` (None: $PATH) into `directory`, once; None when there is none to pack.

    Only a tree `…/NAME/bin` beside `…/NAME/embedded` is self-contained, as the makers' packages install it. It becomes
    /opt/NAME on the node.
    """
    client = next((found for name in CLIENTS if (found := shutil.which(name, path=path))), None)
    if client is None:
        return None
    real = Path(os.path.realpath(client))
    tree = real.parent.parent
    if not (tree / "embedded").is_dir() or tree.name not in ("chef", "cinc"):
        return None
    target = Path(directory) / f"{tree.name}-{real.stat().st_mtime_ns:x}.tar.gz"
    try:
        if not target.exists():
            _pack(tree, target)
    except PermissionError as error:
        log.warning("the client at %s is not used: this user may not read all of it (%s)", tree, error)
        return None
    return ChefPackage(str(target))


def _pack(tree: Path, target: Path) -> None:
    """Write beside and rename: nobody ever sees half an archive. The same tree gives the same bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".packing-", dir=target.parent)
    os.close(descriptor)
    try:
        with (
            Path(name).open("wb") as file,
            gzip.GzipFile("", "wb", 1, file, mtime=0) as content,
            tarfile.open(mode="w|", fileobj=content) as archive,
        ):
            archive.add(tree, arcname=f"opt/{tree.name}", filter=_roots)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
