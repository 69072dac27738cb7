"""A client of this machine, packed for nodes: Chef and Cinc live in one self-contained directory."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from pipeline.adapters.configurators.chef.package import ChefPackage

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
    if not target.exists():
        _pack(tree, target)
    return ChefPackage(str(target))


def _pack(tree: Path, target: Path) -> None:
    """Write beside and rename, so that another process never sees half an archive."""
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".packing-", dir=target.parent)
    os.close(descriptor)
    try:
        with tarfile.open(name, "w:gz", compresslevel=1) as archive:
            archive.add(tree, arcname=f"opt/{tree.name}")
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
