"""Packing a client of this machine for nodes."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from pipeline.adapters.configurators.chef import pack_local_client


def install(root: Path, name: str, *, embedded: bool = True) -> str:
    """Lay out a client as its makers' packages do; the directory for the PATH."""
    client = root / "opt" / name / "bin" / f"{name}-client"
    client.parent.mkdir(parents=True)
    client.write_text("#!/bin/sh\n")
    client.chmod(0o755)
    if embedded:
        (client.parent.parent / "embedded").mkdir()
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin" / client.name).symlink_to(client)
    return str(root / "bin")


@pytest.mark.parametrize("name", ["chef", "cinc"])
def test_a_self_contained_client_is_packed_to_its_place(tmp_path: Path, name: str) -> None:
    package = pack_local_client(str(tmp_path / "packed"), path=install(tmp_path, name))
    assert package is not None
    assert package.unusable() is None
    with tarfile.open(package.location) as archive:
        assert archive.getmember(f"opt/{name}/bin/{name}-client").mode == 0o755


def test_cinc_goes_first(tmp_path: Path) -> None:
    install(tmp_path, "chef")
    package = pack_local_client(str(tmp_path / "packed"), path=install(tmp_path, "cinc"))
    assert package is not None
    assert package.file_name.startswith("cinc-")


def test_a_client_is_packed_once(tmp_path: Path) -> None:
    path = install(tmp_path, "cinc")
    first = pack_local_client(str(tmp_path / "packed"), path=path)
    assert first is not None
    made = Path(first.location).stat().st_mtime_ns
    assert pack_local_client(str(tmp_path / "packed"), path=path) == first
    assert Path(first.location).stat().st_mtime_ns == made
    assert len(list((tmp_path / "packed").iterdir())) == 1


def test_a_client_that_needs_the_rest_of_its_machine_is_not_packed(tmp_path: Path) -> None:
    assert pack_local_client(str(tmp_path / "packed"), path=install(tmp_path, "chef", embedded=False)) is None


def test_without_a_client_there_is_no_package(tmp_path: Path) -> None:
    assert pack_local_client(str(tmp_path / "packed"), path=str(tmp_path)) is None
