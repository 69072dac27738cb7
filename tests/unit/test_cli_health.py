"""What `greenroom doctor` finds on this machine before it asks the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import health
from pipeline.settings import OpenStackSettings, ProviderSettings, Settings, VagrantSettings

HERE = ProviderSettings(driver="local")
BOXES = ProviderSettings(driver="vagrant")
GUESTS = ProviderSettings(driver="vagrant", vagrant=VagrantSettings(provider="libvirt"))
SERVERS = ProviderSettings(
    driver="vagrant",
    vagrant=VagrantSettings(provider="openstack"),
    openstack=OpenStackSettings(cloud="greenroom", network="net"),
)


def found(
    monkeypatch: pytest.MonkeyPatch, place: Path, *, plugins: tuple[str, ...], program: str | None, of: ProviderSettings
) -> list[health.Check]:
    monkeypatch.setattr(health, "VAGRANT_PLUGINS", place)
    monkeypatch.setattr(health, "which", lambda _: program)
    for name in plugins:
        (place / f"vagrant-{name}.json").touch()
    return list(health._vagrant(Settings(home=place, default_provider="one", providers={"one": of})))


def test_who_does_not_use_vagrant_hears_nothing_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert found(monkeypatch, tmp_path, plugins=(), program=None, of=HERE) == []


def test_vagrant_that_is_missing_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (check,) = found(monkeypatch, tmp_path, plugins=(), program=None, of=BOXES)
    assert (check["ok"], check["remedy"]) == (False, "`make setup-vagrant` installs it")


def test_a_missing_provider_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (check,) = found(monkeypatch, tmp_path, plugins=("libvirt",), program="/usr/bin/vagrant", of=BOXES)
    assert not check["ok"]
    assert "has libvirt;" in check["detail"]
    assert check["remedy"] == "`make setup-vagrant` installs it"


def test_the_ways_to_other_providers_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (check,) = found(monkeypatch, tmp_path, plugins=("lxc",), program="/usr/bin/vagrant", of=BOXES)
    assert check["ok"]
    ways = "has lxc; to have others: libvirt: `scripts/setup vagrant-libvirt` installs it; openstack: "
    assert check["detail"].startswith(ways)


@pytest.mark.parametrize("program", [None, "/usr/bin/vagrant"])
def test_the_way_to_libvirt_is_told_to_who_needs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str | None
) -> None:
    (check,) = found(monkeypatch, tmp_path, plugins=("lxc",), program=program, of=GUESTS)
    assert (check["ok"], check["remedy"]) == (False, "`scripts/setup vagrant-libvirt` installs it")


INSTALLED = '{"version":"1","installed":{"vagrant-openstack-provider":{"ruby_version":"3.1.2"}}}'
LOADED = 'require "vagrant-openstack-provider"\n'


@pytest.mark.parametrize(
    ("file", "text", "there"),
    [
        ("plugins.json", INSTALLED, True),
        ("plugins.json", '{"version":"1","installed":{}}', False),
        ("Vagrantfile", f"$LOAD_PATH.unshift('/srv/openstack/lib')\n{LOADED}", True),
        ("Vagrantfile", f"# {LOADED}", False),
    ],
)
def test_the_provider_of_servers_is_looked_for_in_the_home_that_the_driver_gives_vagrant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str, text: str, *, there: bool
) -> None:
    home = tmp_path / "vagrant/vagrant"
    home.mkdir(parents=True)
    (home / file).write_text(text)
    (check,) = found(monkeypatch, tmp_path, plugins=(), program="/usr/bin/vagrant", of=SERVERS)
    assert check["ok"] is there
    way = f"VAGRANT_HOME={home} vagrant plugin install vagrant-openstack-provider"
    assert check["remedy"] == ("" if there else way)
