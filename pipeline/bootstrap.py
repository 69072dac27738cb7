"""The composition root: chooses adapters by what is configured, each imported when it is first needed."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pipeline.adapters.clock import RandomIds, SystemClock
from pipeline.adapters.secrets.sealed import SealedSecrets, key_from, ssh_key_from, token_from
from pipeline.domain.errors import InfraError, UserError
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import Inventory, unknown_names
from pipeline.domain.qos import PROFILES, QosProfile
from pipeline.domain.rules import OperatorRule
from pipeline.envs import books
from pipeline.envs.addresses import Addresses
from pipeline.envs.books import Books
from pipeline.envs.build_logs import BuildLogs
from pipeline.envs.calls import CallLimits, WatchedDriver
from pipeline.envs.care import Care
from pipeline.envs.census import Censuses
from pipeline.envs.cloud_acts import CloudActs
from pipeline.envs.cloud_setups import CloudSetups, Usual
from pipeline.envs.doors import Doors
from pipeline.envs.gate import Asking, Budget, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.leases import Leases
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.lifecycle import Lifecycle
from pipeline.envs.login_keys import LoginKeys
from pipeline.envs.measuring import Measuring
from pipeline.envs.moving_off import MovingOff
from pipeline.envs.orders import Orders
from pipeline.envs.placements import Placements
from pipeline.envs.pools import Pools
from pipeline.envs.preemption import Preemptions
from pipeline.envs.previews import Preview, preview
from pipeline.envs.providers import Provider
from pipeline.envs.qos_checks import QosChecks
from pipeline.envs.reaper import Reaper
from pipeline.envs.registry import Registry
from pipeline.envs.relief import Relief
from pipeline.envs.removals import Removals
from pipeline.envs.room import Room
from pipeline.envs.scheduler import Scheduler
from pipeline.envs.snapshots import Snapshots
from pipeline.envs.stocks import BookedStock
from pipeline.envs.surveys import Surveys
from pipeline.envs.suspects import Suspects
from pipeline.envs.templates import Templates
from pipeline.envs.watch import Watch
from pipeline.ports.blueprints import BlueprintReader
from pipeline.ports.clouds import Cloud, Estate, Grounds
from pipeline.ports.common import Secret
from pipeline.ports.configurators import Configurator
from pipeline.ports.drivers import Driver
from pipeline.ports.forges import Forge
from pipeline.ports.logs import LogStore
from pipeline.ports.machines import MachineHands
from pipeline.ports.reports import ReportReader
from pipeline.ports.routers import Router
from pipeline.ports.stores import AsyncStore
from pipeline.ports.transports import Transport
from pipeline.ports.verifiers import Verifier
from pipeline.settings import OpenStackSettings, ProviderSettings, Settings
from pipeline.stages.acceptances import Acceptances
from pipeline.stages.commands import Commands
from pipeline.stages.context import Tools
from pipeline.stages.control import BY_HAND, Control
from pipeline.stages.handouts import Handouts
from pipeline.stages.intake import Intake
from pipeline.stages.mornings import Mornings
from pipeline.stages.moving import Moving
from pipeline.stages.planner import Planner
from pipeline.stages.preempted import Preempted
from pipeline.stages.projects import Projects
from pipeline.stages.pulls import Pulls
from pipeline.stages.remarks import Remarks
from pipeline.stages.requests import Requests
from pipeline.stages.retention import Retention
from pipeline.stages.runner import Pulse, Runner
from pipeline.stages.scaling import Scale
from pipeline.stages.schedules import Schedules
from pipeline.stages.stagings import Stagings
from pipeline.stages.statuses import Statuses
from pipeline.stages.switching import Switching
from pipeline.stages.tick import Tick
from pipeline.stages.verdicts import Verdicts
from pipeline.stages.work import Work

if TYPE_CHECKING:
    import redis

    from pipeline.adapters.drivers.openstack.snapshots import OpenStackSnapshots
    from pipeline.adapters.drivers.openstack.terms import Terms
    from pipeline.adapters.drivers.vagrant.driver import Choice, VagrantDriver
    from pipeline.adapters.drivers.vagrant.provider import Provider as VagrantProvider
    from pipeline.adapters.queues.rq import RqJobQueue
    from pipeline.adapters.routers.floating_ip import FloatingRouter
    from pipeline.adapters.routers.haproxy import HaproxyRouter
    from pipeline.adapters.stores.redis import RedisStore
    from pipeline.adapters.transports.openssh import OpenSshTransport
    from pipeline.clients.openstack import Account

log = logging.getLogger(__name__)
#: The cookbooks that ship with Greenroom: beside the packages in a checkout, inside them in a wheel.
COOKBOOKS = next(
    place
    for place in (Path(__file__).parent / "cookbooks", Path(__file__).resolve().parent.parent / "chef-cookbooks")
    if place.is_dir()
)

#: Templates of Vagrantfiles, likewise.
VAGRANTFILES = next(
    place
    for place in (Path(__file__).parent / "vagrantfiles", Path(__file__).resolve().parent.parent / "vagrant")
    if place.is_dir()
)

#: Drivers whose nodes stand on this machine.
ON_THIS_MACHINE = frozenset({"local", "vagrant"})

#: The smallest blueprint; reading it builds all that reading needs.
WARM_UP = b"""\
version: 1
service: warm-up
environment: {image: none, roles: {none: {}}}
test: []
"""


class Application:
    """One process' view of a deployment; every part is made when it is first asked for, and once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = SystemClock()
        self.ids = RandomIds()
        self._providers: dict[str, Provider] = {}
        self._inventory_files: dict[Path, tuple[bytes, Inventory]] = {}

    @cached_property
    def redis(self) -> redis.Redis:
        import redis

        return redis.Redis.from_url(self.settings.store_url, socket_timeout=30, health_check_interval=30)

    @cached_property
    def store(self) -> RedisStore:
        """The store, refused if it could lose what was answered."""
        from pipeline.adapters.stores.redis import RedisStore

        store = RedisStore(self.redis)
        if not self.settings.allow_lossy_store:
            store.check_durable()
        return store

    @cached_property
    def async_store(self) -> AsyncStore:
        import redis.asyncio

        from pipeline.adapters.stores.redis import AsyncRedisStore

        client = redis.asyncio.Redis.from_url(self.settings.store_url, socket_timeout=30)
        return AsyncRedisStore(client)

    @cached_property
    def books(self) -> Books:
        return Books(self.store)

    @cached_property
    def inventories(self) -> Inventories:
        return Inventories(self.books, self.clock, self.gate)

    @cached_property
    def cloud_acts(self) -> CloudActs:
        moving = MovingOff(self.books, self.inventories, self.gate, self.clock, self.settings.deployment)
        return CloudActs(
            self.books,
            self.provider,
            self.inventories,
            self.leftovers,
            self.removals,
            moving,
            self.gate,
            self.clock,
            self.ids,
        )

    @cached_property
    def cloud_setups(self) -> CloudSetups:
        def usual(provider: str) -> Usual:
            told = self.settings.providers[provider].cloud()
            return Usual(told.network, told.external_network if told.floating else "")

        return CloudSetups(
            self.books,
            self.provider,
            usual,
            self.secrets,
            self.gate,
            self.clock,
            self.ids,
            self.settings.deployment,
        )

    @cached_property
    def qos_checks(self) -> QosChecks:
        return QosChecks(self.books, self.provider, self.secrets, self.clock, self.ids)

    @cached_property
    def gate(self) -> Gate:
        budgets = {
            name: Budget(provider.delete_budget, provider.delete_interval_s)
            for name, provider in self.settings.providers.items()
        }
        return Gate(self.books, self.clock, budgets, self.routers)

    @cached_property
    def haproxy(self) -> HaproxyRouter | None:
        """The HAProxy of this machine; None without a base domain, or where something else routes."""
        if not self.settings.base_domain or self.settings.router.kind != "haproxy":
            return None
        from pipeline.adapters.routers.haproxy import HaproxyRouter, Layout, certificate_in

        told, certificate = self.settings.router, self.settings.router.certificate
        if told.tls_bind and certificate is None:
            certificate = certificate_in(self.settings.authority_dir, self.settings.base_domain, self.clock.now())
        layout = Layout(
            home=self.settings.router_dir,
            bind=told.bind,
            tls_bind=told.tls_bind,
            certificate=certificate,
            plain=told.backends,
            sticky=told.sticky_backends,
            targets=told.targets,
        )
        return HaproxyRouter("haproxy", layout)

    @cached_property
    def floating(self) -> FloatingRouter | None:
        """Floating addresses that route; None without a base domain, or where something else does."""
        told = self.settings.router
        if not self.settings.base_domain or told.kind != "floating_ip":
            return None
        from pipeline.adapters.routers.floating_ip import ANSWER_S, FloatingRouter, Neutron, Room

        cloud, deployment, name = self.settings.routing_cloud(), self.settings.deployment, "floating-ip"
        account = replace(_account(cloud, cloud.cloud), timeout_s=ANSWER_S)
        neutron = Neutron(name, deployment, account, cloud.network, cloud.external_network)
        room = Room(told.backends, told.targets)
        return FloatingRouter(name, self.settings.router_dir, deployment, neutron, told.addresses, room)

    @property
    def router(self) -> Router | None:
        """What sends requests to environments and stagings; None without a base domain."""
        return self.floating or self.haproxy

    @property
    def routers(self) -> tuple[Router, ...]:
        """All that may send traffic to environments."""
        return (self.router,) if self.router is not None else ()

    @cached_property
    def removals(self) -> Removals:
        return Removals(self.books, self.gate, self.clock)

    def declared_inventory(self, provider: str) -> Inventory | None:
        """What the settings of a provider, or else its driver, say of its machines; None when neither knows any."""
        file = self.inventory_of_file(provider)
        return file if file is not None else self.provider(provider).driver.inventory()

    def inventory_of_file(self, provider: str) -> Inventory | None:
        """What the file says that a provider's settings name; None when they name none."""
        path = self.settings.providers[provider].inventory
        return None if path is None else self.inventory_file(path)

    def inventory_file(self, path: Path) -> Inventory:
        """The inventory of a file, parsed again only when it changed: a large one takes longer than an office lasts."""
        from pipeline.adapters.inventories import yaml_file

        content = yaml_file.content_of(path)
        known = self._inventory_files.get(path)
        if known is None or known[0] != content:
            known = self._inventory_files[path] = (content, self.parse_inventory(str(path), content))
        return known[1]

    def parse_inventory(self, source: str, content: bytes) -> Inventory:
        """The inventory that a file's content declares; `source` names the file in messages."""
        from pipeline.adapters.inventories import yaml_file

        return yaml_file.parse(source, content)

    def preview_inventory(self, provider: str, declared: Inventory) -> Preview:
        """What taking over another inventory would change at a provider; UserError when there is no such provider."""
        self.provider(provider)
        return preview(self.books, provider, declared, self.clock.now())

    def sync_inventory(self, provider: str) -> None:
        """Take over what is declared of a provider's machines, or reported by its driver."""
        declared = self.declared_inventory(provider)
        if declared is not None:
            self.inventories.sync(provider, declared)

    @cached_property
    def surveys(self) -> Surveys:
        return Surveys(
            self.books, self.provider, self.inventories, self.clock, self.settings.deployment, self.inventory_of_file
        )

    def stock(self, provider: str) -> BookedStock:
        """The registered machines of a provider."""
        alone = self.settings.providers[provider].driver == "static"
        return BookedStock(provider, self.books, self.inventories, self.clock, alone)

    @cached_property
    def hands(self) -> MachineHands:
        """On registered machines, with the service's own key."""
        from pipeline.adapters.drivers.static.hands import SshHands
        from pipeline.adapters.keys import SshKeys

        who = f"greenroom-{self.settings.deployment}"
        private = ssh_key_from(str(self.settings.service_key_file), lambda: SshKeys().ed25519(who)[0])
        return SshHands(self.settings.deployment, self.transport, private, SshKeys().public_of(private, who))

    @cached_property
    def registry(self) -> Registry:
        takers = tuple(name for name, one in self.settings.providers.items() if one.takes_machines())
        return Registry(
            self.books,
            self.stock,
            self.hands,
            self.inventories,
            self.gate,
            self.settings.deployment,
            self.clock,
            takers,
        )

    @cached_property
    def leftovers(self) -> Leftovers:
        return Leftovers(self.books, self.provider, self.clock, self.settings.deployment)

    @cached_property
    def censuses(self) -> Censuses:
        return Censuses(self.books, self.inventories, self.clock)

    def read_rules(self, project: str, text: str) -> tuple[OperatorRule, ...]:
        """The rules that a project lays on its own requests; UserError names every mistake."""
        from pipeline.adapters.inventories import yaml_file

        return yaml_file.read_rules("rules.yml", text, f"project {project}")

    def unknown_names(self, rules: Sequence[OperatorRule]) -> list[str]:
        """What rules name that no provider's inventory has now."""
        return list(unknown_names(rules, [self.inventories.view(name).inventory for name in self.settings.providers]))

    @cached_property
    def placements(self) -> Placements:
        load_placement()
        default, names = self.settings.default_provider, tuple(self.settings.providers)
        return Placements(self.books, self.provider, self.inventories, self.clock, default, names)

    @cached_property
    def secrets(self) -> SealedSecrets:
        return SealedSecrets(key_from(str(self.settings.key_file)))

    @cached_property
    def logs(self) -> LogStore:
        from pipeline.adapters.logs.files import FileLogStore

        return FileLogStore(str(self.settings.logs_dir))

    @cached_property
    def qos_profiles(self) -> Mapping[str, QosProfile]:
        """What blueprints may name: the built-in profiles, and over them those of the settings."""
        return {**PROFILES, **self.settings.qos_profiles}

    @cached_property
    def reader(self) -> BlueprintReader:
        from pipeline.adapters.blueprints.yaml12 import YamlBlueprintReader

        return YamlBlueprintReader(self.qos_profiles)

    @cached_property
    def forges(self) -> Sequence[Forge]:
        """In the order in which they are asked whether a delivery is theirs; Gitea's carry GitHub's headers, too."""
        from pipeline.adapters.forges.bitbucket import BitbucketForge
        from pipeline.adapters.forges.gitea import GiteaForge
        from pipeline.adapters.forges.github import GithubForge
        from pipeline.adapters.forges.gitlab import GitlabForge
        from pipeline.adapters.forges.plain import PlainForge

        return (PlainForge(), GiteaForge(), GithubForge(), GitlabForge(), BitbucketForge())

    @cached_property
    def transport(self) -> OpenSshTransport:
        from pipeline.adapters.transports.openssh import OpenSshTransport

        return OpenSshTransport(str(self.settings.run_dir / "ssh"))

    @cached_property
    def tools(self) -> Tools:
        from pipeline.adapters.repositories.git import GitRepositories
        from pipeline.adapters.verifiers.commands import CommandVerifier
        from pipeline.adapters.workspaces import DirectoryWorkspaces

        mirrors = str(self.settings.home / "mirrors")
        return Tools(
            books=self.books,
            providers=self.provider,
            removals=self.removals,
            repositories=GitRepositories(
                mirrors,
                allow_local=self.settings.allow_local_repositories,
                allow_http=self.settings.allow_http_repositories,
            ),
            configurator=lambda name: self.configurators[name],
            testinfra=self.testinfra,
            commands=CommandVerifier(self.reports),
            reports=self.reports,
            logs=self.logs,
            workspaces=DirectoryWorkspaces(str(self.settings.home / "scratch")),
            secrets=self.secrets,
            clock=self.clock,
            ids=self.ids,
        )

    @cached_property
    def reports(self) -> ReportReader:
        from pipeline.adapters.reports.junit import JUnitReader

        return JUnitReader()

    @cached_property
    def testinfra(self) -> Verifier:
        from pipeline.adapters.sandboxes.bubblewrap import BubblewrapSandbox
        from pipeline.adapters.verifiers.testinfra import TestinfraVerifier

        sandbox = BubblewrapSandbox(str(self.settings.home / "scratch"))
        return TestinfraVerifier(sandbox, self.reports, sys.executable)

    @cached_property
    def configurators(self) -> Mapping[str, Configurator]:
        from pipeline.adapters.configurators.chef import ChefConfigurator, ChefPackage, pack_local_client
        from pipeline.adapters.configurators.script import ScriptConfigurator

        def package() -> ChefPackage | None:
            if self.settings.chef_package:
                return ChefPackage(self.settings.chef_package)
            return pack_local_client(str(self.settings.home / "chef"))

        chef = ChefConfigurator(package, shipped=str(COOKBOOKS))
        return {"chef": chef, "script": ScriptConfigurator()}

    def provider(self, name: str) -> Provider:
        """A provider by its name; UserError when the settings have none of that name."""
        if name not in self.settings.providers:
            known = ", ".join(sorted(self.settings.providers))
            raise UserError(f"there is no provider {name!r} in the settings; there are: {known}")
        if name not in self._providers:
            self._providers[name] = self._make_provider(name, self.settings.providers[name])
        return self._providers[name]

    def _make_provider(self, name: str, settings: ProviderSettings) -> Provider:
        driver, transport = self._driver(name, settings)
        limits = CallLimits(settings.max_deletes, settings.calls_per_s)
        return Provider(
            name=name,
            driver=WatchedDriver(name, driver, self.books, self.clock, limits),
            transport=transport,
            max_nodes=settings.max_nodes,
            deadlines=settings.deadlines(),
            poll_s=settings.poll_s,
            max_builds=settings.max_builds,
            cloud=self._cloud(settings),
            estate=self._estate(settings),
            grounds=self._grounds(settings),
            snapshots=self._snapshots(settings),
            sync_s=settings.sync_s,
            visit_s=settings.visit_s if settings.takes_machines() else None,
        )

    def _driver(self, name: str, settings: ProviderSettings) -> tuple[Driver, Transport]:
        """Registered machines, or what makes servers, or that with registered machines beside it."""
        if not settings.takes_machines():
            return self._making(settings)
        from pipeline.adapters.drivers.static.beside import BesideDriver
        from pipeline.adapters.drivers.static.driver import StaticDriver

        machines = StaticDriver(self.settings.deployment, self.stock(name), self.hands)
        if settings.driver == "static":
            return machines, self.transport
        made, transport = self._making(settings)
        return BesideDriver(made, machines), transport

    def _making(self, settings: ProviderSettings) -> tuple[Driver, Transport]:
        """What makes the nodes of a provider, and how they are reached."""
        if settings.driver == "memory":
            from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
            from pipeline.adapters.transports.memory import MemoryTransport

            return MemoryDriver(MemoryCloud(), self.settings.deployment), MemoryTransport(self.clock)
        if settings.driver == "openstack":
            return self._openstack(settings), self.transport
        if settings.driver == "vagrant":
            return self._vagrant(settings), self.transport
        from pipeline.adapters.drivers.local.driver import LocalDriver
        from pipeline.adapters.drivers.local.this_machine import Pose

        state = self.settings.helper_state
        pose = Pose(state, settings.zones, settings.machines_per_zone, settings.full, settings.drain)
        return LocalDriver(str(self.settings.helper_socket), self.settings.deployment, pose), self.transport

    def _vagrant(self, settings: ProviderSettings) -> VagrantDriver:
        from pipeline.adapters.drivers.local.image import SHIFT, images
        from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
        from pipeline.adapters.drivers.vagrant.terms import Image, Terms

        def at_hand() -> Mapping[str, Image]:
            """Those of the local driver whose first process is not systemd."""
            found = images(self.settings.helper_state)
            return {name: Image(image.root, SHIFT) for name, image in found.items() if not image.systemd}

        told = settings.vagrant
        terms = Terms(VAGRANTFILES, at_hand, told.addresses, told.up_s, told.destroy_s)
        hearing = BuildLogs(self.books, self.logs, "vagrant").hearing
        choice = self._vagrants_provider(settings)
        return VagrantDriver(self.settings.deployment, terms, self.settings.home / "vagrant", hearing, choice)

    def _vagrants_provider(self, settings: ProviderSettings) -> Choice | None:
        """Makes the one that the settings name; None: what the driver has by itself."""
        if settings.on_openstack():
            return lambda _: self._servers(settings)
        if settings.vagrant.provider != "libvirt":
            return None
        from pipeline.adapters.drivers.vagrant.libvirt.provider import Here, Libvirt, must_emulate

        told = settings.vagrant
        emulate = must_emulate() if told.emulate is None else told.emulate
        here = Here(told.uri, self.settings.helper_state, told.addresses, emulate)
        return lambda add_box: Libvirt(self.settings.deployment, here, add_box)

    def _servers(self, settings: ProviderSettings) -> VagrantProvider:
        """What Vagrant makes in a cloud."""
        from pipeline.adapters.drivers.openstack.around import Around
        from pipeline.adapters.drivers.vagrant.openstack.provider import OpenStack

        told = settings.cloud()
        own, accounts = _account(told, told.cloud), _projects_accounts(told)
        return OpenStack(Around(self.settings.deployment, own, accounts, _terms(told)))

    def _cloud(self, settings: ProviderSettings) -> Cloud | None:
        """What tells of servers that are not ours; None where the driver is all there is to ask."""
        if not settings.on_openstack():
            return None
        from pipeline.adapters.clouds.openstack import OpenStackCloud

        told = settings.cloud()
        accounts = [_account(told, entry) for entry in (told.cloud, *told.projects.values())]
        return OpenStackCloud(accounts, _administrator(settings), told.images.values())

    def _estate(self, settings: ProviderSettings) -> Estate | None:
        """What an operator's account may change of the cloud; None where no such account is named."""
        admin = _administrator(settings)
        if admin is None:
            return None
        from pipeline.adapters.clouds.openstack import OpenStackEstate

        return OpenStackEstate(admin)

    def _grounds(self, settings: ProviderSettings) -> Grounds | None:
        """What an administrator's account sets up for projects; None where no such account is named."""
        admin = _administrator(settings)
        if admin is None:
            return None
        from pipeline.adapters.clouds.openstack import OpenStackGrounds

        return OpenStackGrounds(admin)

    def _snapshots(self, settings: ProviderSettings) -> OpenStackSnapshots | None:
        """What keeps disks of nodes; None where nothing can."""
        if not settings.on_openstack():
            return None
        from pipeline.adapters.drivers.openstack.snapshots import OpenStackSnapshots

        told = settings.cloud()
        own, accounts = _account(told, told.cloud), _projects_accounts(told)
        return OpenStackSnapshots(self.settings.deployment, own, accounts, _terms(told))

    def _openstack(self, settings: ProviderSettings) -> Driver:
        from pipeline.adapters.drivers.openstack.driver import OpenStackDriver

        told = settings.cloud()
        accounts = _projects_accounts(told)
        locks = self.settings.run_dir / "builds"
        return OpenStackDriver(self.settings.deployment, _account(told, told.cloud), accounts, _terms(told), locks)

    @cached_property
    def lifecycle(self) -> Lifecycle:
        from pipeline.adapters.keys import SshKeys

        return Lifecycle(
            self.books,
            self.provider,
            self.removals,
            Suspects(self.books, self.inventories, self.clock),
            self.room,
            Orders(self.secrets, SshKeys(), self.settings.deployment),
            self.clock,
            self.ids,
        )

    @cached_property
    def room(self) -> Room:
        return Room(self.books, self.provider, self.inventories, self.clock)

    @cached_property
    def scale(self) -> Scale:
        return Scale(self.tools, self.inventories, self.room, tuple(self.settings.providers))

    @cached_property
    def moving(self) -> Moving:
        return Moving(self.scale)

    @cached_property
    def reaper(self) -> Reaper:
        return Reaper(self.books, self.provider, self.clock, self.gate, self.removals)

    @cached_property
    def preemptions(self) -> Preemptions:
        return Preemptions(self.books, self.gate, self.settings.preemption_grace_s)

    @cached_property
    def control(self) -> Control:
        return Control(self.tools, self.reaper)

    @cached_property
    def templates(self) -> Templates:
        return Templates(self.books, self.reader, self.gate, self.clock)

    @cached_property
    def snapshots(self) -> Snapshots:
        return Snapshots(self.books, self.provider, self.gate, self.clock)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.books, self.secrets, self.clock)

    @cached_property
    def requests(self) -> Requests:
        from pipeline.adapters.keys import SshKeys
        from pipeline.adapters.user_keys import HttpsUserKeys

        names, keys = tuple(self.settings.providers), SshKeys()
        return Requests(
            self.tools, self.templates, self.control, self.reaper, keys, HttpsUserKeys(), self.handouts, names
        )

    @cached_property
    def login_keys(self) -> LoginKeys:
        return LoginKeys(self.provider, self.secrets)

    @cached_property
    def pools(self) -> Pools:
        default = self.settings.default_provider
        return Pools(
            self.books, self.templates, self.provider, default, self.login_keys, self.gate, self.clock, self.ids
        )

    @cached_property
    def handouts(self) -> Handouts:
        return Handouts(self.tools, self.pools, self.login_keys, self.control)

    @cached_property
    def acceptances(self) -> Acceptances:
        return Acceptances(self.tools, self.inventories, self.templates, self.qos_profiles)

    @cached_property
    def schedules(self) -> Schedules:
        return Schedules(self.books, self.gate, self.clock, self.ids)

    @cached_property
    def mornings(self) -> Mornings:
        return Mornings(self.books, self.clock)

    @cached_property
    def stagings(self) -> Stagings:
        return Stagings(self.tools, self.templates, self.gate, self.router, self.settings.base_domain)

    @cached_property
    def addresses(self) -> Addresses:
        return Addresses(self.books, self.router, self.settings.base_domain, self.settings.router.url_of)

    @cached_property
    def switching(self) -> Switching:
        return Switching(self.stagings, self.requests, self.commands)

    @cached_property
    def pulls(self) -> Pulls:
        return Pulls(self.tools, self.requests, self.router, self.settings.base_domain)

    @cached_property
    def remarks(self) -> Remarks:
        by_name = {forge.name: forge for forge in self.forges}
        return Remarks(self.books, by_name, self.secrets, self.clock, self.ids, self.settings.router.url_of)

    @cached_property
    def commands(self) -> Commands:
        return Commands(self.tools)

    @cached_property
    def projects(self) -> Projects:
        names = tuple(self.settings.providers)
        return Projects(self.books, self.secrets, self.clock, self.ids, self.gate, names)

    @cached_property
    def intake(self) -> Intake:
        return Intake(self.async_store, self.forges, self.secrets, self.clock, self.ids)

    @cached_property
    def planner(self) -> Planner:
        return Planner(self.tools, self.reader, self.settings.default_provider)

    @cached_property
    def statuses(self) -> Statuses:
        by_name = {forge.name: forge for forge in self.forges}
        return Statuses(self.books, by_name, self.secrets, self.clock, self.ids, self.settings.public_url)

    def work(self, pulse: Pulse) -> Work:
        """The tasks of a worker whose attempts show that they live by `pulse`."""
        runner = Runner(self.tools, pulse)
        return Work(
            self.books,
            self.planner,
            runner,
            self.lifecycle,
            self.reaper,
            self.statuses,
            self.retention,
            self.qos_checks,
            Measuring(self.provider, self.inventories),
            self.surveys,
            self.leftovers,
            self.commands,
            self.cloud_acts,
            self.cloud_setups,
            Watch(self.books, self.provider, self.clock),
            self.switching,
            Care(self.books, self.stock, self.hands, self.settings.deployment, self.clock),
            self.pools,
            self.handouts,
            self.pulls,
            self.remarks,
        )

    @cached_property
    def retention(self) -> Retention:
        tools = self.tools
        return Retention(self.books, tools.logs, tools.workspaces, self.clock, self.settings.keep_days)

    @cached_property
    def queue(self) -> RqJobQueue:
        from pipeline.adapters.queues.rq import RqJobQueue

        return RqJobQueue(self.redis)

    @cached_property
    def tick(self) -> Tick:
        load_placement()
        names = tuple(self.settings.providers)
        return Tick(
            tools=self.tools,
            scheduler=Scheduler(self.books, self.provider, self.inventories, self.preemptions, self.clock, names),
            inventories=self.inventories,
            relief=Relief(self.books, self.inventories, self.gate, self.clock, self.settings.preemption_grace_s),
            reaper=self.reaper,
            control=self.control,
            preempted=Preempted(self.tools),
            verdicts=Verdicts(self.books, self.inventories, self.clock),
            cloud_acts=self.cloud_acts,
            schedules=self.schedules,
            scale=self.scale,
            queue=self.queue,
            outbox=self.store,
            provider_names=names,
            switching=self.switching,
            doors=Doors(self.books, self.router, self.settings.base_domain),
            pools=self.pools,
            handouts=self.handouts,
            pulls=self.pulls,
        )

    def run_router(self) -> None:
        """Become the HAProxy of this machine, with all that was told so far; or look after floating addresses."""
        if self.floating is not None:
            self._look_after(self.floating)
        if self.haproxy is None:
            raise UserError("there is no router: set `base_domain` in the settings")
        command = self.haproxy.prepare()
        os.execv(command[0], command)  # noqa: S606  # no shell is wanted

    def _look_after(self, router: FloatingRouter) -> NoReturn:
        from pipeline.adapters.routers.floating_ip import LOOK_S

        while True:
            try:
                router.keep()
            except InfraError as error:
                log.warning("floating addresses are looked after later: %s", error)
            self.clock.sleep(LOOK_S)

    def hang_up(self) -> None:
        """End every kept connection of the deployment, which stops."""
        self.transport.close_all()

    def clean_nodes(self, why: str, overrides: Mapping[str, str]) -> Collection[str]:
        """Remove every node on this machine that bears the deployment's mark; GuardRefused, or told in the audit.

        The names of the providers whose nodes are on this machine.
        """
        from pipeline.adapters.drivers.local.driver import LocalDriver

        told = {name: one for name, one in self.settings.providers.items() if not one.on_openstack()}
        here = {name: one.driver for name, one in told.items() if one.driver in ON_THIS_MACHINE}
        if not here:
            return here
        everything = f"everything of {self.settings.deployment} on this machine"
        self.gate.pass_(Act.DESTROY, everything, Facts(BY_HAND), Asking(BY_HAND, why, overrides))
        if "local" in here.values():
            LocalDriver(str(self.settings.helper_socket), self.settings.deployment).clean()
        for name in (name for name, driver in here.items() if driver == "vagrant"):
            self._vagrant(self.settings.providers[name]).clean()
        return here

    def traces(self) -> Mapping[str, list[str]]:
        """What of the deployment is seen on this machine, by kind."""
        from pipeline.adapters.drivers.local.traces import traces

        return traces(self.settings.deployment, str(self.settings.home))

    def standing(self, provider: str) -> list[str]:
        """Every node that a provider shows, asked of it alone: nothing of the deployment needs to run."""
        driver, _ = self._driver(provider, self.settings.providers[provider])
        return [f"{node.environment_id}/{node.name}" for node in driver.list().nodes]

    def install_hook(self, repository: str, url: str, secret: Secret) -> str:
        """Put the post-receive hook into a bare repository of this machine; the path of it."""
        from pipeline.adapters.forges.post_receive import install_hook

        return install_hook(repository, url, secret)

    def warm_up(self) -> None:
        """Import and build what work-horses need, before the first fork, so that none of them pays for it."""
        import asyncssh
        import git

        _ = (asyncssh, git)
        books.warm_up()
        self.reader.read("warm-up", WARM_UP)

    def warm_up_handouts(self) -> None:
        """Import and build what the first hand-out of a process needs, which would wait for it half a second."""
        import git

        _ = (git, self.transport)
        books.warm_up()
        for kind in (books.TEMPLATES, books.POOLS, books.MACHINES):
            kind.warm_up()
        self.reader.read("warm-up", WARM_UP)

    def warm_up_provider(self, name: str) -> None:
        """Import what a provider's worker needs for its first environment, which would wait for it 0.6 s."""
        self.provider(name)
        books.warm_up()
        if self.settings.providers[name].driver == "local":
            import asyncssh

            _ = asyncssh

    @cached_property
    def token(self) -> Secret:
        """The API's token, made at the first start with mode 0600."""
        return token_from(str(self.settings.token_file))


def _account(told: OpenStackSettings, entry: str) -> Account:
    """An entry of a provider's `clouds.yaml`."""
    from pipeline.clients.openstack import Account

    return Account(entry, str(told.clouds_file or ""), told.region)


def _projects_accounts(told: OpenStackSettings) -> Mapping[str, Account]:
    """Those of the projects that have one of their own."""
    return {project: _account(told, entry) for project, entry in told.projects.items()}


def _administrator(settings: ProviderSettings) -> Account | None:
    """The account by which a cloud itself is changed; None where the settings name none."""
    told = settings.cloud() if settings.on_openstack() else None
    return _account(told, told.admin_cloud) if told is not None and told.admin_cloud else None


def _terms(told: OpenStackSettings) -> Terms:
    """What the settings say of a cloud, as those work with it who make servers there."""
    from pipeline.adapters.drivers.openstack.terms import Terms

    return Terms(
        network=told.network,
        external_network=told.external_network,
        floating=told.floating,
        ssh_from=told.ssh_from,
        images=told.images,
        custom=frozenset(told.custom),
        create_flavors=told.create_flavors,
        choose_machine=told.choose_machine,
        login=told.login,
    )


def load_placement() -> None:
    """Take over the filters and scores that installed packages bring; before the first fleet is made."""
    from pipeline.adapters import plugins

    plugins.load()


def build(settings: Settings | None = None) -> Application:
    """The application for these settings, or for those of this machine."""
    return Application(settings or Settings())
