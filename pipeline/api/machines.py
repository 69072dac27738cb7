"""Routes of machines: the inventories, and those that are registered, leased whole and cleaned in between."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from pipeline.api.views import Guarded, Reasoned
from pipeline.bootstrap import Application
from pipeline.domain.durations import LONGEST_S
from pipeline.domain.inventory import Machine, MachineKind, MachineState
from pipeline.domain.registered import Login, Registered, Use, as_machine
from pipeline.envs.gate import Asking
from pipeline.envs.inventories import registered_at
from pipeline.stages.control import BY_HAND

NAME = r"^[A-Za-z0-9][A-Za-z0-9-]{0,62}$"
WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
ADDRESS = r"^[A-Za-z0-9:][A-Za-z0-9_.:%-]{0,254}$"
HOST_KEY = r"^([a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\r\n]*)?)?$"
Word = Annotated[str, Field(pattern=WORD)]
Address = Annotated[str, Query(pattern=ADDRESS)]
Port = Annotated[int, Query(ge=1, le=65535)]


class NewMachine(Guarded):
    """A machine that lets the service's key in: as `user`, who is root or may use sudo without a password.

    `host_key` is the only one that is believed; left out, the answer names the one that is shown. `reset` is the
    command that cleans it between two leases, as root, in at most `reset_s` seconds. `images` are what is installed.
    """

    provider: str
    name: str = Field(pattern=NAME)
    address: str = Field(pattern=ADDRESS)
    port: int = Field(default=22, ge=1, le=65535)
    user: str = Field(default="root", pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    host_key: str = Field(default="", pattern=HOST_KEY, max_length=2000)
    zone: Word
    kind: Literal[MachineKind.BARE_METAL, MachineKind.VM] = MachineKind.BARE_METAL
    aggregates: list[Word] = Field(default=[], max_length=32)
    features: list[Word] = Field(default=[], max_length=64)
    images: list[Word] = Field(min_length=1, max_length=16)
    capacity: dict[str, float] = Field(default={})
    reset: str = Field(min_length=1, max_length=2000)
    reset_s: float = Field(default=300.0, gt=0, le=LONGEST_S)

    def wanted(self) -> Registered:
        login = Login(self.address, " ".join(self.host_key.split()[:2]), self.port, self.user)
        return Registered(
            self.provider,
            self.name,
            login,
            self.zone,
            self.reset,
            self.kind,
            self.reset_s,
            tuple(dict.fromkeys(self.aggregates)),
            frozenset(self.features),
            frozenset(self.images),
            self.capacity,
        )


class RegisteredView(BaseModel):
    """`state`: free, leased, dirty, quarantined, or down; `reason` says why. `used_by` is the node that has it."""

    state: Use | Literal["down"]
    reason: str
    since: float
    used_by: str
    address: str
    port: int
    user: str
    host_key: str
    images: list[str]
    reset: str
    reset_s: float

    @classmethod
    def of(cls, one: Registered) -> RegisteredView:
        login = one.login
        return cls(
            state="down" if one.fault else one.use,
            reason=one.fault or one.reason,
            since=one.since,
            used_by=one.used_by,
            address=login.address,
            port=login.port,
            user=login.user,
            host_key=login.host_key,
            images=sorted(one.images),
            reset=one.reset,
            reset_s=one.reset_s,
        )


class KeyView(BaseModel):
    key: str


class MachineView(BaseModel):
    provider: str
    name: str
    zone: str
    aggregates: list[str]
    kind: str
    state: MachineState
    state_reason: str
    state_since: float
    back_at: float | None = None
    probation: bool = False
    capacity: dict[str, float]
    nodes: list[str]
    registered: RegisteredView | None = Field(default=None, description="how it is leased; null: it is not registered")

    @classmethod
    def of(cls, provider: str, machine: Machine, nodes: list[str], one: Registered | None = None) -> MachineView:
        return cls(
            provider=provider,
            name=machine.name,
            zone=machine.zone,
            aggregates=list(machine.aggregates),
            kind=machine.kind,
            state=machine.state,
            state_reason=machine.state_reason,
            state_since=machine.state_since,
            back_at=machine.back_at,
            probation=machine.probation,
            capacity=dict(machine.capacity),
            nodes=nodes,
            registered=None if one is None else RegisteredView.of(one),
        )


class NewState(Reasoned):
    state: MachineState


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["machines"])

    @routes.get("/machines", summary="The machines of all providers, of one, or of one name, and what stands on them")
    def machines(provider: str = "", name: str = "") -> list[MachineView]:
        providers = [provider] if provider else list(app.settings.providers)
        return [view for one in providers for view in _machines(app, one) if name in {"", view.name}]

    @routes.post(
        "/machines", status_code=201, summary="Register a machine that lets the service in; it is cleaned first"
    )
    def register(new: NewMachine) -> MachineView:
        return _registered(app.registry.register(new.wanted(), new.asking("registered by hand")))

    @routes.get("/machines/key", summary="The public key that registered machines must let in")
    def key() -> KeyView:
        return KeyView(key=app.hands.key())

    @routes.get(
        "/machines/host-key", summary="The host key that an address shows, to be compared with the machine's own"
    )
    def host_key(address: Address, port: Port = 22) -> KeyView:
        return KeyView(key=app.registry.shown_host_key(address, port))

    _of_one(app, routes)
    return routes


def _of_one(app: Application, routes: APIRouter) -> None:
    @routes.get("/machines/{provider}/{name}", summary="One machine, and what stands on it")
    def machine(provider: str, name: str) -> MachineView:
        app.inventories.view(app.provider(provider).name).inventory.machine(name)
        return next(one for one in _machines(app, provider) if one.name == name)

    @routes.delete("/machines/{provider}/{name}", summary="Forget a registered machine, as `remove` without a body")
    def delete(provider: str, name: str, dry_run: bool = False) -> MachineView:
        asking = Asking(BY_HAND, "removed by hand", dry_run=dry_run)
        return _registered(app.registry.remove(provider, name, asking))

    @routes.post("/machines/{provider}/{name}/remove", summary="Forget a registered machine, through the gate")
    def remove(provider: str, name: str, new: Guarded) -> MachineView:
        return _registered(app.registry.remove(provider, name, new.asking("removed by hand")))

    @routes.post(
        "/machines/{provider}/{name}/release", status_code=202, summary="Clean a registered machine, then put it back"
    )
    def release(provider: str, name: str, new: Guarded) -> MachineView:
        return _registered(app.registry.release(provider, name, new.asking("released by hand")))

    @routes.post("/machines/{provider}/{name}/state", summary="Put a machine into another state, through the gate")
    def state(provider: str, name: str, new: NewState) -> MachineView:
        app.provider(provider)
        changed = app.registry.set_state(provider, name, new.state, new.asking())
        return MachineView.of(provider, changed, [], app.registry.find(provider, name))


def _registered(one: Registered) -> MachineView:
    return MachineView.of(one.provider, as_machine(one), [one.used_by] if one.used_by else [], one)


def _machines(app: Application, provider: str) -> list[MachineView]:
    app.provider(provider)
    on: dict[str, list[str]] = {}
    for loaded in app.books.environments.everything(f"environments:standing:{provider}"):
        for node in loaded.value.nodes:
            on.setdefault(node.machine, []).append(f"{loaded.value.id}/{node.name}")
    machines = app.inventories.view(provider).inventory.machines
    registered = {one.name: one for one in registered_at(app.books, provider)}
    return [MachineView.of(provider, one, on.get(one.name, []), registered.get(one.name)) for one in machines]
