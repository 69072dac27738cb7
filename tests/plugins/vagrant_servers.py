"""Drivers of Vagrant's provider `openstack` on the test cloud, with the plugin for tests."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from pipeline.adapters.drivers.openstack.around import Around
from pipeline.adapters.drivers.openstack.terms import Terms as CloudTerms
from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.adapters.drivers.vagrant.openstack.provider import OpenStack
from pipeline.adapters.drivers.vagrant.terms import Terms
from pipeline.clients.openstack import Account
from tests.openstack.vagrant_plugin import load_line
from tests.plugins.local_nodes import ROOT
from tests.plugins.openstack_cloud import CloudUnderTest


def know_the_provider(home: Path) -> None:
    """Let a home of Vagrant have the provider for tests."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "Vagrantfile").write_text(load_line())


def vagrant_servers(
    cloud: CloudUnderTest, deployment: str, home: Path, templates: Path = ROOT / "vagrant"
) -> VagrantDriver:
    """A driver whose files are below `home`; skipped where there is no Vagrant."""
    if shutil.which("vagrant") is None:
        pytest.skip("there is no vagrant: apt-get install it")
    know_the_provider(home / "vagrant")
    terms = CloudTerms(cloud.network, images={"plain": cloud.image}, login=False)
    provider = OpenStack(Around(deployment, Account(cloud.ours, str(cloud.clouds_file)), terms))
    return VagrantDriver(
        deployment, Terms(templates, dict), home, lambda _: contextlib.nullcontext(lambda _: None), lambda _: provider
    )
