"""Stagings as people ask for them: wishes are checked and written down; the tick carries them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import stagings
from pipeline.domain.blueprint import Blueprint
from pipeline.domain.contracts import checked_name
from pipeline.domain.errors import AlreadyExists, InvalidTransition, NotFound, UserError
from pipeline.domain.guards import Act, Facts
from pipeline.domain.stagings import Lock, Staging, StagingSpec
from pipeline.domain.traffic import check_path, check_port, checked_host
from pipeline.domain.triggers import is_sha, ref_refusal, repository_refusal
from pipeline.envs import jobs
from pipeline.envs.books import STAGINGS, Books, Loaded
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.templates import LIMIT, Templates
from pipeline.ports.routers import Router
from pipeline.ports.stores import Event, JobRequest, Put
from pipeline.stages.context import FILE, Tools, project_token

#: Which staging has a domain.
DOMAINS = "staging_domain"


@dataclass(frozen=True)
class Stagings:
    """Any number of processes at once. `router` is None where the settings have no base domain."""

    tools: Tools
    templates: Templates
    gate: Gate
    router: Router | None
    base_domain: str

    @property
    def books(self) -> Books:
        return self.tools.books

    def put(self, name: str, spec: StagingSpec) -> Staging:
        """Make a staging, or change what is wanted of it; slots that stand are served by it from their next switch.

        Errors: UserError (what it says, no router), NotFound (project, template), AlreadyExists (name, domain).
        """
        self._routed()
        checked = self._checked(checked_name(name), spec)
        return self.books.again(lambda: self._put(name, checked))

    def get(self, name: str) -> Staging:
        """NotFound names those that there are."""
        return self._find(name).value

    def all(self, project: str = "") -> list[Staging]:
        index = f"stagings:project:{project}" if project else "stagings"
        return [loaded.value for loaded in self.books.stagings.everything(index)]

    def deploy(self, name: str, ref: str, asking: Asking, as_of: float | None = None) -> Staging:
        """Ask for a ref in the idle slot. NotFound: no such ref, or no greenroom.yml in it. InvalidTransition: it is
        locked, or a deploy of a newer moment than `as_of` was accepted.
        """
        staging = self.get(name)
        stagings.check_unlocked(staging, "deploy")
        sha = self._commit(staging.spec, ref)
        moment = self.tools.clock.now() if as_of is None else as_of
        return self._change(name, asking, lambda one, _: stagings.want(one, ref, sha, asking.who, asking.why, moment))

    def promote(self, name: str, asking: Asking) -> Staging:
        """Ask for the idle slot to become live."""
        return self._change(
            name, asking, lambda one, now: stagings.promote(one, asking.who, asking.why, now, asking.overrides)
        )

    def rollback(self, name: str, asking: Asking) -> Staging:
        """Ask for the slot that was live before to become live again."""
        return self._change(
            name, asking, lambda one, now: stagings.rollback(one, asking.who, asking.why, now, asking.overrides)
        )

    def approve(self, name: str, asking: Asking) -> Staging:
        """Let the idle slot be promoted."""
        return self._change(name, asking, lambda one, now: stagings.approve(one, asking.who, asking.why, now))

    def lock(self, name: str, asking: Asking) -> Staging:
        """Let nobody deploy, promote or remove; UserError without a reason."""
        if not asking.why.strip():
            raise UserError(f"staging {name} is locked with a reason only; say `reason`")

        def locked(staging: Staging, now: float) -> Staging:
            stagings.check_unlocked(staging, "lock it anew")
            return replace(staging, lock=Lock(asking.who, asking.why, now))

        return self._change(name, asking, locked)

    def unlock(self, name: str, asking: Asking) -> Staging:
        return self._change(name, asking, lambda staging, _: replace(staging, lock=None))

    def remove(self, name: str, asking: Asking) -> Staging:
        """Take both slots back and forget it. GuardRefused while it has a live slot."""
        return self.books.again(lambda: self._remove(name, asking))

    def _remove(self, name: str, asking: Asking) -> Staging:
        loaded = self._find(name)
        stagings.check_unlocked(loaded.value, "remove it")
        live = loaded.value.live
        traffic = f"slot {live} is live, and the router" if live is not None else ""
        passed = self.gate.judge(Act.DESTROY, f"staging {name}", Facts(asking.who, in_traffic=traffic), asking)
        if asking.dry_run:
            self.books.commit(events=passed.events)
            return loaded.value
        gone = stagings.remove(loaded.value)
        self.save(loaded, gone, events=passed.events, writes=passed.writes)
        return gone

    def _change(self, name: str, asking: Asking, change: Callable[[Staging, float], Staging]) -> Staging:
        def once() -> Staging:
            loaded = self._find(name)
            changed = change(loaded.value, self.tools.clock.now())
            if not asking.dry_run:
                self.save(loaded, changed)
            return changed

        return self.books.again(once)

    def save(
        self,
        loaded: Loaded[Staging],
        new: Staging,
        *,
        events: Sequence[Event] = (),
        writes: Sequence[Put] = (),
    ) -> None:
        """Write it with what its history tells, and whatever comes next."""
        told = [*events, *told_of(loaded.value, new)]
        work: list[JobRequest] = [jobs.STAGINGS]
        if new.wanted is not None and stagings.may_begin(new):
            work.append(jobs.begin_deploy(new.name, new.wanted.number))
        self.books.commit(STAGINGS.put(new.name, new, loaded.version), *writes, events=told, jobs=work)

    def _put(self, name: str, spec: StagingSpec) -> Staging:
        known = self.books.stagings.find(name)
        if known is not None and known.value.spec.project != spec.project:
            raise AlreadyExists(
                f"there is a staging {name!r} already: it belongs to project {known.value.spec.project}; "
                "take another name, or remove that one"
            )
        now = self.tools.clock.now()
        if known is None:
            staging = Staging(name, spec, now)
        else:
            stagings.check_unlocked(known.value, "change it")
            self._check_kept(known.value, spec)
            staging = replace(known.value, spec=spec)
        put = STAGINGS.put(name, staging, known.version if known else 0)
        self.books.commit(put, *self._domain(name, spec.domain))
        return staging

    def _check_kept(self, staging: Staging, spec: StagingSpec) -> None:
        if staging.live is not None and staging.spec.domain != spec.domain:
            raise InvalidTransition(
                f"staging {staging.name} is live at {staging.spec.domain}: its domain cannot be changed now; make "
                f"another staging for {spec.domain}"
            )

    def _domain(self, name: str, domain: str) -> list[Put]:
        """The write that takes a domain; AlreadyExists while another staging has it."""
        note = self.books.store.get(DOMAINS, domain)
        owner = str(note.body["staging"]) if note is not None else ""
        other = self.books.stagings.find(owner) if owner and owner != name else None
        if other is not None and other.value.spec.domain == domain:
            raise AlreadyExists(
                f"staging {owner} has the domain {domain} already; take another one, or remove that one"
            )
        return [Put(DOMAINS, domain, note.version if note is not None else 0, {"staging": name})]

    def _checked(self, name: str, spec: StagingSpec) -> StagingSpec:
        self.books.projects.get(spec.project)
        check_path(spec.health)
        check_port(spec.port)
        refused = repository_refusal(spec.repository) if spec.repository else ""
        if refused:
            raise UserError(refused)
        if spec.blueprint:
            template = self.templates.get(spec.blueprint)
            blueprint = self.templates.read(f"template {template.name}", template.text)
            _check_roles(f"template {template.name}", blueprint, spec)
        domain = checked_host(spec.domain or f"{name}.{self.base_domain}")
        return replace(spec, domain=domain)

    def _routed(self) -> Router:
        if self.router is None:
            raise UserError("there is no router for stagings: set `base_domain` in the settings of the deployment")
        return self.router

    def _find(self, name: str) -> Loaded[Staging]:
        loaded = self.books.stagings.find(name)
        if loaded is None:
            names = ", ".join(one.name for one in self.all()) or "none yet"
            raise NotFound(
                f"there is no staging {name[:80]!r}; there are: {names}; `greenroom staging set NAME` makes one"
            )
        return loaded

    def _commit(self, spec: StagingSpec, ref: str) -> str:
        """The commit of a ref, whose greenroom.yml can be read where no template is named."""
        repository = spec.repository or self.books.projects.get(spec.project).value.repository
        if not repository:
            raise UserError(f"project {spec.project} has no repository of its own; name one in the staging")
        refused = ref_refusal(ref)
        if refused:
            raise UserError(refused)
        token = project_token(self.books, self.tools.secrets, spec.project, repository)
        repositories = self.tools.repositories
        sha = ref if is_sha(ref) else repositories.resolve(repository, ref, credential=token)
        if not spec.blueprint:
            content = repositories.read(repository, sha, FILE, limit_bytes=LIMIT, credential=token)
            _check_roles(FILE, self.templates.read(FILE, content.decode(errors="replace")), spec)
        return sha


def _check_roles(source: str, blueprint: Blueprint, spec: StagingSpec) -> None:
    """UserError when the staging names a role that there is not."""
    misfit = stagings.misfit(source, [role.name for role in blueprint.environment.roles], spec)
    if misfit:
        raise UserError(misfit)


def told_of(old: Staging | None, new: Staging) -> list[Event]:
    """One event for each new line of its history."""
    known = old.history if old is not None else ()
    fresh = new.history[len(known) :] if new.history[: len(known)] == known else new.history[-1:]
    return [
        Event(
            f"staging.{new.name}",
            f"staging.{entry.what.replace(' ', '-')}",
            entry.at,
            {
                "staging": new.name, "number": entry.number, "slot": entry.slot, "ref": entry.ref, "sha": entry.sha,
                "who": entry.who, "why": entry.why, "seconds": entry.seconds,
            },
        )
        for entry in fresh
    ]  # fmt: skip
