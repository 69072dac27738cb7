"""What a project of Greenroom gets of a cloud for itself: asked for over the API, made by a worker, past the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.domain.cloud_setups import CloudSetup, Found, Part, check_network, limits_of, plan, taken
from pipeline.domain.errors import GreenroomError, GuardRefused, InvalidTransition, TransientError, UserError
from pipeline.domain.guards import Act, Facts
from pipeline.envs import jobs
from pipeline.envs.books import CLOUD_SETUPS, Books
from pipeline.envs.gate import Asking, Gate, check_names
from pipeline.envs.providers import Provider
from pipeline.ports.clouds import Grounds
from pipeline.ports.common import Clock, Ids, Secret
from pipeline.ports.secrets import Secrets

#: A setup, and a secret that nobody fetched, are kept for so long, in seconds.
KEPT_S = 86400


@dataclass(frozen=True)
class SetupWish:
    """What is wanted; empty: what the provider's settings say. Other fields are `CloudSetup`'s."""

    cidr: str = "10.40.0.0/24"
    network: str = ""
    external_network: str = ""
    access_rules: bool = False
    renew: bool = False


@dataclass(frozen=True)
class Usual:
    """What a provider's settings say: the network of all nodes, and where each gets a floating address from, if any."""

    network: str
    floating_from: str = ""


@dataclass(frozen=True)
class CloudSetups:
    """Any number of processes at once. A setup may be asked for again: what is there already is left alone.

    The secret of a credential is known before the credential is made, and stands sealed in the store until it is told
    once.
    """

    books: Books
    providers: Callable[[str], Provider]
    usual: Callable[[str], Usual]
    secrets: Secrets
    gate: Gate
    clock: Clock
    ids: Ids
    deployment: str

    def ask(self, provider: str, project: str, wish: SetupWish, asking: Asking) -> CloudSetup:
        """Store the wish and the job that carries it out; UserError when it makes no sense."""
        check_names(asking)
        self._grounds(provider)
        usual, quota = self.usual(provider), self.books.projects.get(project).value.quota
        setup = CloudSetup(
            id=self.ids.new("setup"),
            deployment=self.deployment,
            provider=provider,
            project=project,
            network=wish.network or usual.network,
            who=asking.who,
            why=asking.why,
            asked_at=self.clock.now(),
            limits=limits_of(quota, floating=bool(usual.floating_from)),
            cidr=check_network(wish.cidr),
            external_network=wish.external_network or usual.floating_from,
            access_rules=wish.access_rules,
            renew=wish.renew,
            overrides=asking.overrides,
            dry_run=asking.dry_run,
            sealed_secret=self.secrets.seal(Secret(self.ids.token())),
        )
        self.books.commit(
            CLOUD_SETUPS.put(setup.id, setup, 0, ttl_s=KEPT_S), jobs=[jobs.cloud_setup(provider, setup.id)]
        )
        return setup

    def carry_out(self, setup_id: str) -> None:
        """Do it, and keep what came of it; nothing when that was done already."""
        loaded = self.books.cloud_setups.get(setup_id)
        if loaded.value.finished_at is not None:
            return
        done = replace(self._done(loaded.value), finished_at=self.clock.now())
        if not done.entry:
            done = replace(done, sealed_secret="")
        self.books.commit(CLOUD_SETUPS.put(setup_id, done, loaded.version, ttl_s=KEPT_S))

    def tell(self, setup_id: str) -> tuple[CloudSetup, Secret]:
        """The secret of the credential that a setup made, once; InvalidTransition when there is none to tell."""
        loaded = self.books.cloud_setups.get(setup_id)
        setup = loaded.value
        if setup.finished_at is None or not setup.sealed_secret:
            raise InvalidTransition(
                f"setup {setup_id} has no secret to tell: it is not finished, made no credential, or told it already; "
                "a setup with `renew` makes another"
            )
        secret = self.secrets.open(setup.sealed_secret)
        told = replace(setup, sealed_secret="")
        self.books.commit(CLOUD_SETUPS.put(setup_id, told, loaded.version, ttl_s=KEPT_S))
        return told, secret

    def _done(self, setup: CloudSetup) -> CloudSetup:
        try:
            return self._do(setup, self._grounds(setup.provider))
        except GuardRefused as error:
            return replace(setup, refused=error.guard, fault=str(error))
        except GreenroomError as error:  # whoever asked reads it, and may ask again
            return replace(setup, fault=str(error))

    def _do(self, setup: CloudSetup, grounds: Grounds) -> CloudSetup:
        found = grounds.find(setup)
        steps = plan(setup, found)
        if any(step.part is Part.ROUTER and not step.there for step in steps):
            grounds.check(setup)
        others = taken(setup, found)
        facts = Facts(setup.who, provider=setup.provider, marked=not others, now=self.clock.now())
        asking = Asking(setup.who, setup.why, setup.overrides, setup.dry_run)
        target = others or f"project {setup.project}"
        self.gate.pass_(Act.SET_UP, f"{target} at provider {setup.provider}", facts, asking)
        setup = replace(setup, steps=steps)
        if setup.dry_run:
            return setup
        found = self._made(setup, grounds, found)
        own = found[Part.CREDENTIAL].made_by == setup.id
        return replace(setup, entry=grounds.entry(found) if own else {})

    def _made(self, setup: CloudSetup, grounds: Grounds, found: Found) -> Found:
        """Make what is missing, one part after the other, each seen to be there before the next."""
        made: set[Part] = set()
        while missing := next((step for step in plan(setup, found) if not step.there), None):
            if missing.part in made:
                raise TransientError(
                    f"{missing.part} {missing.name} was made, and is not there as it should be; look at the cloud, and "
                    "ask again"
                )
            grounds.make(missing.part, setup, found, self.secrets.open(setup.sealed_secret))
            made.add(missing.part)
            found = grounds.find(setup)
        return found

    def _grounds(self, provider: str) -> Grounds:
        found = self.providers(provider).grounds
        if found is None:
            raise UserError(
                f"provider {provider} has nothing to set up: its driver is not openstack, or its settings name no "
                "`admin_cloud`"
            )
        return found
