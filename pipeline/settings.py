"""Settings of one deployment: `config.toml` in its home, then `GREENROOM_*` in the environment; read once."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from pipeline.domain.allowances import parse_allowance
from pipeline.domain.errors import UserError
from pipeline.domain.milestones import Deadlines
from pipeline.domain.qos import QosProfile, checked_profile
from pipeline.domain.traffic import checked_host, url_at, url_of
from pipeline.domain.wiring import parse_cidr


def default_home() -> Path:
    """`$GREENROOM_HOME`, else `~/.greenroom`."""
    return Path(os.environ.get("GREENROOM_HOME") or Path.home() / ".greenroom")


#: A provider's name becomes part of the names of queues and jobs, which take no other characters.
ProviderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


#: A blueprint names it as it names a role.
ProfileName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]


def _profile(told: object) -> object:
    return checked_profile(told) if isinstance(told, dict) else told


def _host(text: str) -> str:
    """A host name; ValueError, which settings take for a mistake in them."""
    try:
        return checked_host(text)
    except UserError as error:
        raise ValueError(str(error)) from error


def _kept(addresses: dict[str, str]) -> dict[str, str]:
    return {_host(host): str(IPv4Address(address)) for host, address in addresses.items()}


def _supported(provider: str) -> str:
    if provider not in ("libvirt", "lxc", "openstack"):
        raise ValueError(f'Vagrant\'s provider {provider!r} is not supported: "libvirt", "lxc" and "openstack" are')
    return provider


class OpenStackSettings(BaseModel):
    """An account of an OpenStack cloud: the entry `cloud` of `clouds_file`, or of where OpenStack's own tools look.

    `projects`: the entry that a project of Greenroom has instead, by the project's name. `network` is the one that all
    nodes are attached to, `external_network` where floating addresses come from. `floating`: every node gets one.
    `ssh_from` are the CIDRs from which Greenroom logs in. `images` names the cloud's images as blueprints do. `custom`:
    what blueprints may set of their servers, as `domain.allowances` reads it. `create_flavors`: the account may make
    flavors, so that promises of nodes are kept by the cloud. `choose_machine`: it may name the hypervisor. `login` is
    false where nobody can log in to servers, as on fake hypervisors. `admin_cloud`: an entry whose account may see the
    machines and everybody's servers; by it operators change the cloud itself, and set projects up.
    """

    cloud: str
    clouds_file: Path | None = None
    admin_cloud: str = ""
    region: str = ""
    projects: dict[str, str] = {}
    network: str
    external_network: str = ""
    floating: bool = False
    ssh_from: tuple[Annotated[str, AfterValidator(parse_cidr)], ...] = ("0.0.0.0/0",)
    images: dict[str, str] = {}
    custom: tuple[Annotated[str, AfterValidator(parse_allowance)], ...] = ()
    create_flavors: bool = False
    choose_machine: bool = False
    login: bool = True

    @model_validator(mode="after")
    def _has_floating_addresses(self) -> Self:
        if self.floating and not self.external_network:
            raise ValueError("`floating` needs an `external_network`, where the addresses come from")
        return self


class VagrantSettings(BaseModel):
    """Which provider of Vagrant makes the nodes.

    `up_s` and `destroy_s`: how long a call of Vagrant may take, in seconds. `addresses` is the range of which each
    environment gets a /24 of this machine. `uri` is where libvirt answers. `emulate`: its guests go without the
    processor's help; None: where there is none.
    """

    provider: Annotated[str, AfterValidator(_supported)] = "lxc"
    up_s: float = Field(default=240.0, gt=0)
    destroy_s: float = Field(default=120.0, gt=0)
    addresses: IPv4Network = IPv4Network("10.213.0.0/16")
    uri: str = "qemu:///system"
    emulate: bool | None = None


class ProviderSettings(BaseModel):
    """One provider: `max_nodes` at once, `build_s` for a build, `poll_s` between two looks at it (seconds).

    Of `build_s` it may take at most `accepted_s` until it shows all nodes, `active_s` more until they run, and
    `answering_s` more until they can be logged in to; None: what is left.

    `inventory` is a file that declares its machines. Without one the local driver reports this machine, which may pose
    as `zones` racks of `machines_per_zone` machines, and limits their measured load by `full` and `drain`: shares of
    what there is, by dimension. It builds `max_builds` and deletes `max_deletes` environments at a time, and takes
    `calls_per_s`; None: any number. Of its own accord Greenroom removes at most `delete_budget` environments in any
    `delete_interval_s` seconds. Every `sync_s` seconds a cloud's servers are compared with the books,
    and its machines are taken over where no file declares them. `registered`: machines that stand already may be
    registered beside those that it makes nodes on, as with driver static alone; every `visit_s` seconds they are
    greeted.
    """

    driver: Literal["local", "memory", "openstack", "static", "vagrant"]
    max_nodes: int = Field(default=60, ge=1)
    build_s: float = Field(default=300.0, gt=0)
    accepted_s: float | None = Field(default=None, gt=0)
    active_s: float | None = Field(default=None, gt=0)
    answering_s: float | None = Field(default=None, gt=0)
    poll_s: float = Field(default=0.5, gt=0)
    workers: int = Field(default=2, ge=1, le=32)
    inventory: Path | None = None
    zones: int = Field(default=1, ge=1, le=26)
    machines_per_zone: int = Field(default=1, ge=1, le=100)
    full: dict[str, float] = {}
    drain: dict[str, float] = {}
    delete_budget: int = Field(default=60, ge=0, le=10_000)
    delete_interval_s: float = Field(default=60.0, ge=1, le=86_400)
    max_builds: int | None = Field(default=None, ge=1)
    max_deletes: int | None = Field(default=None, ge=1)
    calls_per_s: float | None = Field(default=None, gt=0)
    sync_s: float = Field(default=60.0, ge=1)
    visit_s: float = Field(default=15.0, ge=1)
    registered: bool = False
    openstack: OpenStackSettings | None = None
    vagrant: VagrantSettings = Field(default_factory=VagrantSettings)

    @model_validator(mode="after")
    def _says_which_cloud(self) -> Self:
        if self.openstack is None and self.on_openstack():
            raise ValueError(f"driver {self.driver} needs a table `openstack` with at least `cloud` and `network`")
        return self

    @model_validator(mode="after")
    def _has_one_inventory(self) -> Self:
        if self.driver == "static" and self.inventory is not None:
            raise ValueError("driver static has its machines from `greenroom machines add`: take `inventory` out")
        return self

    @model_validator(mode="after")
    def _has_no_deadline_beyond_the_whole(self) -> Self:
        ways = {"accepted_s": self.accepted_s, "active_s": self.active_s, "answering_s": self.answering_s}
        longer = [name for name, limit_s in ways.items() if limit_s is not None and limit_s > self.build_s]
        if longer:
            raise ValueError(f"{longer[0]} is longer than build_s, {self.build_s:g}, in which all has to be over")
        return self

    def deadlines(self) -> Deadlines:
        """What a build may take."""
        return Deadlines(self.build_s, self.accepted_s, self.active_s, self.answering_s)

    def takes_machines(self) -> bool:
        """Whether machines may be registered at it."""
        return self.registered or self.driver == "static"

    def on_openstack(self) -> bool:
        """Whether its nodes are servers of an OpenStack cloud, whoever makes them."""
        return self.driver == "openstack" or (self.driver == "vagrant" and self.vagrant.provider == "openstack")

    def cloud(self) -> OpenStackSettings:
        """What a provider on OpenStack says of its cloud; UserError when it says nothing."""
        if self.openstack is None:
            raise UserError(f"the provider's settings have no table `openstack`, which driver {self.driver} needs")
        return self.openstack


class RouterSettings(BaseModel):
    """What sends requests to environments and stagings: a HAProxy, or floating addresses of a provider on OpenStack.

    HAProxy listens at HOST:PORT without and with TLS, empty: not so.
    `certificate` is a PEM file with a wildcard certificate of the base domain and its key; without one, a local
    authority of the deployment makes it. A HAProxy has `backends` for environments and `sticky_backends` for those
    that want to keep each visitor at one node, each of at most `targets` nodes.

    With floating addresses every host has one of the external network of `provider`, and nodes answer at their own
    port. `addresses` are those that are there already, by the hosts that they are kept for; others are made, and given
    back. As many as `backends` environments are known, each with at most `targets` nodes.
    """

    kind: Literal["haproxy", "floating_ip"] = "haproxy"
    provider: str = ""
    addresses: Annotated[dict[str, str], AfterValidator(_kept)] = {}

    bind: str = "127.0.0.1:8680"
    tls_bind: str = ""
    certificate: Path | None = None
    backends: int = Field(default=48, ge=2, le=1000)
    sticky_backends: int = Field(default=8, ge=0, le=1000)
    targets: int = Field(default=16, ge=1, le=256)

    @model_validator(mode="after")
    def _knows_its_kind(self) -> Self:
        floating = self.kind == "floating_ip"
        if floating != bool(self.provider) or (self.addresses and not floating):
            raise ValueError('`provider` and `addresses` belong to kind "floating_ip", which needs `provider`')
        if len(set(self.addresses.values())) < len(self.addresses):
            raise ValueError("`addresses` keeps one floating address for two hosts: each needs one of its own")
        return self

    def url_of(self, host: str, port: int) -> str:
        """How a browser reaches a name whose nodes answer at a port."""
        return url_at(host, port) if self.kind == "floating_ip" else url_of(host, self.bind, self.tls_bind)


class Settings(BaseSettings):
    """All settings; times in seconds, sizes in bytes.

    `qos_profiles` are named promises, told in the words of a blueprint's `qos`; they go before those that are built in.
    `base_domain` is where environments and stagings have their names; empty: there is no router.
    """

    model_config = SettingsConfigDict(env_prefix="GREENROOM_", env_nested_delimiter="__", extra="forbid")

    home: Path = Field(default_factory=default_home)
    deployment_id: str = Field(default="", pattern="^[a-z0-9]{0,20}$")
    redis_url: str = ""
    allow_lossy_store: bool = False
    api_bind: str = "127.0.0.1:8600"
    hooks_bind: str = "127.0.0.1:8601"
    public_url: str = "http://127.0.0.1:8600"
    workers: int = Field(default=2, ge=1, le=64)
    default_provider: str = "local"
    providers: dict[ProviderName, ProviderSettings] = Field(
        default_factory=lambda: {"local": ProviderSettings(driver="local")}
    )
    qos_profiles: dict[ProfileName, Annotated[QosProfile, BeforeValidator(_profile)]] = Field(default_factory=dict)
    helper_state: Path = Path("/var/lib/greenroom")
    allow_local_repositories: bool = True
    allow_http_repositories: bool = False
    chef_package: str = ""
    base_domain: Annotated[str, AfterValidator(lambda text: _host(text) if text else "")] = ""
    router: RouterSettings = Field(default_factory=RouterSettings)
    preemption_grace_s: float = Field(default=30.0, ge=0)
    keep_days: float = Field(default=30.0, gt=0)
    log_level: str = "INFO"

    @model_validator(mode="after")
    def _routes_by_a_provider(self) -> Self:
        if self.router.kind == "floating_ip":
            self.routing_cloud()
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings calls by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings calls by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = TomlConfigSettingsSource(settings_cls, default_home() / "config.toml")
        return init_settings, env_settings, file

    def routing_cloud(self) -> OpenStackSettings:
        """The cloud whose floating addresses route; ValueError says why there is none."""
        name = self.router.provider
        told = self.providers.get(name)
        if told is None or not told.on_openstack():
            raise ValueError(f"`router.provider` {name!r} is no provider on OpenStack in the settings")
        cloud = told.cloud()
        if not cloud.external_network:
            raise ValueError(f"provider {name} needs `external_network`, from where the router has its addresses")
        if cloud.floating:
            raise ValueError(
                f"provider {name} gives every node a floating address, and a port has one at most: the router could "
                "lead none there; take `floating` out, and let Greenroom reach nodes at their fixed addresses"
            )
        return cloud

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    @property
    def up_file(self) -> Path:
        """What runs where, while `greenroom up` does."""
        return self.run_dir / "up.json"

    @property
    def up_lock(self) -> Path:
        return self.run_dir / "up.lock"

    @property
    def process_logs_dir(self) -> Path:
        """Output of the processes, beside the logs of runs."""
        return self.home / "log"

    @property
    def redis_socket(self) -> Path:
        return self.run_dir / "redis.sock"

    @property
    def store_url(self) -> str:
        """The Redis that was named, else the embedded one."""
        return self.redis_url or f"unix://{self.redis_socket}"

    @property
    def helper_socket(self) -> Path:
        return self.run_dir / "nodes.sock"

    @property
    def router_dir(self) -> Path:
        """What the router was told; HAProxy's socket."""
        return self.run_dir / "router"

    @property
    def authority_dir(self) -> Path:
        """The local authority, and the certificate that it made."""
        return self.home / "tls"

    @property
    def token_file(self) -> Path:
        return self.home / "token"

    @property
    def service_key_file(self) -> Path:
        """With it the service logs in to registered machines."""
        return self.home / "service.key"

    @property
    def key_file(self) -> Path:
        return self.home / "secret.key"

    @property
    def logs_dir(self) -> Path:
        return self.home / "logs"

    @cached_property
    def deployment(self) -> str:
        """The id that marks everything this deployment makes; from its home's path unless it was named."""
        return self.deployment_id or "gr" + hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:8]
