"""Drivers of Vagrant's provider `openstack` on the test cloud, with the plugin for tests."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from pipeline.adapters.drivers.openstack.around import Around
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.adapters.drivers.vagrant.openstack.provider import OpenStack
from pipeline.adapters.drivers.vagrant.terms import Terms as VagrantTerms
from pipeline.clients.openstack import Account
from tests.openstack.vagrant_plugin import load_line
from tests.plugins.local_nodes import ROOT
from tests.plugins.openstack_cloud import CloudUnderTest


def know_the_provider(home: Path) -> None:
    """Let a home of Vagrant have the provider for tests."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "Vagrantfile").write_text(load_line())


def vagrant_servers(
    cloud: CloudUnderTest,
    deployment: str,
    home: Path,
    *,
    templates: Path = ROOT / "vagrant",
    terms: Terms | None = None,
    projects: Mapping[str, str] = MappingProxyType({}),
) -> VagrantDriver:
    """A driver whose files are below `home`; skipped where there is no Vagrant.

    Without `terms`, nobody logs in. `projects` have entries of their own.
    """
    if shutil.which("vagrant") is None:
        pytest.skip("there is no vagrant: apt-get install it")
    know_the_provider(home / "vagrant")
    terms = terms or Terms(cloud.network, images={"plain": cloud.image}, login=False)
    accounts = {name: Account(entry, str(cloud.clouds_file)) for name, entry in projects.items()}
    own = Account(cloud.ours, str(cloud.clouds_file))
    provider = OpenStack(Around(deployment, own, accounts, terms))
    return VagrantDriver(
        deployment,
        VagrantTerms(templates, dict),
        home,
        lambda _: contextlib.nullcontext(lambda _: None),
        lambda _: provider,
    )
