"""What the test cloud says where the machine's packages cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.openstack.cloud import packages

#: As apt-get does where an earlier dpkg was interrupted: it updates its lists, and installs nothing.
INTERRUPTED = """\
#!/bin/sh
echo "$*" >>"${0%/*}/calls"
case "$*" in *update) exit 0 ;; esac
echo "E: dpkg was interrupted" >&2
exit 100
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that fails, on a machine that has no package yet; its calls."""
    program = tmp_path / "apt-get"
    program.write_text(INTERRUPTED)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(packages, "_installed", lambda _: False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path / "calls"


def test_an_apt_that_fails_is_told_in_one_line_with_what_to_do(apt: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        packages.install(["mariadb-server"])
    said = ended.value.code
    assert isinstance(said, str)
    assert "\n" not in said
    assert said.startswith("`apt-get -o DPkg::Lock::Timeout=300 -q install -y --no-install-recommends mariadb-server`")
    assert "failed with status 100" in said
    assert "`dpkg --configure -a`), then start the test cloud again" in said
    assert "E: dpkg was interrupted" in capfd.readouterr().err
    assert len(apt.read_text().splitlines()) == 2
    assert not packages.POLICY.exists()
