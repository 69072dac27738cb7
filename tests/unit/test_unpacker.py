"""Unpacking tar streams that git would not make, but somebody else might."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pipeline.adapters.repositories.git.archive import Unpacker
from pipeline.domain.errors import UserError


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def unpack(target: Path, *members: tarfile.TarInfo) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member in members:
            tar.addfile(member)
    stream.seek(0)
    target.mkdir()
    Unpacker(target, 1000, 100).unpack(stream)


@pytest.mark.parametrize(
    "member",
    [
        entry("../x"),
        entry("a/../../x"),
        entry("/x"),
        entry("a//x"),
        entry("./x"),
        entry("..", tarfile.DIRTYPE),
        entry("hard", tarfile.LNKTYPE, "/etc/passwd"),
        entry("device", tarfile.CHRTYPE),
        entry("pipe", tarfile.FIFOTYPE),
        entry("link", tarfile.SYMTYPE, "/etc"),
        entry("link", tarfile.SYMTYPE, ".."),
        entry("ok"),
    ],
    ids=lambda member: f"{member.name} {member.linkname}".strip(),
)
def test_odd_members_are_refused_and_nothing_is_left(tmp_path: Path, member: tarfile.TarInfo) -> None:
    with pytest.raises(UserError):
        unpack(tmp_path / "out", entry("ok"), member)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_below_a_link_lands_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    with pytest.raises((UserError, FileExistsError)):
        unpack(tmp_path / "out", entry("link", tarfile.SYMTYPE, str(tmp_path / "outside")), entry("link/x"))
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_stream_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = entry("file")
        member.size = 900
        tar.addfile(member, io.BytesIO(b"x" * 900))
    (tmp_path / "out").mkdir()
    with pytest.raises(tarfile.TarError):
        Unpacker(tmp_path / "out", 1000, 100).unpack(io.BytesIO(stream.getvalue()[:700]))
    assert list((tmp_path / "out").iterdir()) == []
