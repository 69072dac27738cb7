"""Requests for environments: checked, answered at once, built and prepared by the tick and the workers.

An environment is asked for with its contract. Where something is to be configured or deployed, a run prepares it: its
stages are those of every run, but its destroy stage leaves to whoever asked what was prepared well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from pipeline.domain import admission, pools, user_keys
from pipeline.domain.admission import Use
from pipeline.domain.blueprint import Blueprint, Priority
from pipeline.domain.contracts import Contract, checked_keys, checked_name
from pipeline.domain.environments import QUOTA_STATES, Environment, EnvironmentState, planned_nodes
from pipeline.domain.errors import AlreadyExists, InvalidTransition, KeyReused, OverQuota, UserError, VersionConflict
from pipeline.domain.leases import granted
from pipeline.domain.pools import Pool
from pipeline.domain.projects import Project, Quota
from pipeline.domain.runs import Run, RunState, StageName, StageRun, StageState
from pipeline.domain.triggers import Trigger, TriggerKind, is_sha, ref_refusal, repository_refusal
from pipeline.envs import events, jobs
from pipeline.envs.books import POOLED, Loaded
from pipeline.envs.gate import AUDIT, Asking
from pipeline.envs.reaper import Reaper
from pipeline.envs.templates import LIMIT, Templates
from pipeline.envs.uses import uses
from pipeline.envs.wishes import unmet
from pipeline.ports.common import Secret
from pipeline.ports.secrets import KeyMaker
from pipeline.ports.stores import Event, Put
from pipeline.ports.user_keys import UserKeys
from pipeline.stages.context import FILE, Tools, project_token
from pipeline.stages.control import Control
from pipeline.stages.handouts import Handouts
from pipeline.stages.runner import save_run

#: A repeated request finds the answer to the first one for so long, in seconds.
REPEAT_TTL_S = 24 * 3600
REPEATS, NAMES = "repeat", "environment_name"
UNTESTED = "an environment on request is not tested"
#: So many environments of a pool are tried for one request, each of which did not take its keys; then one is built.
CLAIMS = 3


@dataclass(frozen=True)
class Request:
    """What somebody asks for: the blueprint itself, a template, or the greenroom.yml of a commit.

    The files that it names come from `repository` (the project's where empty) at `ref`. `ttl_s` None: the project's
    own. `keys_of` is a user of a forge, `USER` or `HOST/USER`, whose keys are taken beside `keys`. Without either a key
    is made. `repeat` names the request: sent again with the same `body`, it is answered with
    the environment of the first time. `tested`: its tests run, too, and it is handed over only when they pass.
    `protected`: why nothing but its owner may end it, its time included. `pull` and `url` are as in its contract.
    """

    project: str
    owner: str
    why: str = ""
    name: str = ""
    blueprint: str = ""
    template: str = ""
    repository: str = ""
    ref: str = ""
    ttl_s: float | None = None
    keys: tuple[str, ...] = ()
    keys_of: str = ""
    repeat: str = ""
    body: str = ""
    tested: bool = False
    protected: str = ""
    priority: Priority = Priority.INTERACTIVE
    pull: str = ""
    url: str = ""


@dataclass(frozen=True)
class Answer:
    """The environment, and its login key if one was made now: nobody can show that a second time."""

    environment: Environment
    private_key: Secret | None = None
    repeated: bool = False

    @property
    def from_pool(self) -> bool:
        """Whether it is one that a warm pool kept, and is ready already."""
        contract = self.environment.contract
        return self.environment.warm is not None and contract is not None and contract.ready_at > 0


@dataclass(frozen=True)
class _Plan:
    """`text` is the template's, if one was named."""

    blueprint: Blueprint
    provider: str
    trigger: Trigger | None
    text: str = ""
    tested: bool = False
    protected: str = ""

    @property
    def work(self) -> str:
        """What of it needs a run; empty when nothing does."""
        return _files(self.blueprint) or ("`test`" if self.tested and self.blueprint.test else "")


class Requests:
    """Any number of processes at once."""

    def __init__(
        self,
        tools: Tools,
        templates: Templates,
        control: Control,
        reaper: Reaper,
        keys: KeyMaker,
        people: UserKeys,
        handouts: Handouts,
        provider_names: tuple[str, ...],
    ) -> None:
        self._tools = tools
        self._books = tools.books
        self._templates = templates
        self._control = control
        self._reaper = reaper
        self._keys = keys
        self._people = people
        self._handouts = handouts
        self._provider_names = provider_names

    def make(self, request: Request) -> Answer:
        """Store an environment that is asked for, with the run that prepares it; one that is kept ready, if there is.

        Errors: NotFound (project, template, repository, ref, no greenroom.yml), InvalidBlueprint, UserError (keys,
        time to live, what cannot be combined, what the provider cannot give), AlreadyExists (name), OverQuota,
        KeyReused, TransientError (the repository or the provider does not answer).
        """
        earlier, asked_at = self._earlier(request), self._tools.clock.now()
        if earlier is not None:
            return earlier
        project = self._books.projects.get(request.project).value
        ttl_s, keys = granted(project, request.ttl_s), checked_keys(request.keys)
        plan = self._plan(project, request)
        keys = checked_keys((*keys, *self._keys_of(project, request.keys_of)))
        made, contract = self._contract(project, request, ttl_s, keys)
        pool = self._handouts.pools.of(project.name, request.template) if request.template else None
        if pool is not None:
            contract = replace(contract, pool=pool.name)
            ready = self._hand_out(pool, request, plan, made, contract, asked_at)
            if ready is not None:
                return ready
        environment = self._environment(project, contract, plan, request.priority)
        self._check_quota(project, environment)
        try:
            return self._books.again(lambda: self._store(request, environment, plan, made))
        except VersionConflict as error:
            raise InvalidTransition(f"project {project.name} changes all the time; ask again") from error

    def _hand_out(
        self, pool: Pool, request: Request, plan: _Plan, made: Secret | None, contract: Contract, asked_at: float
    ) -> Answer | None:
        """An environment of the pool on which the keys are, and no others; None when there is none."""
        for _ in range(CLAIMS):
            claimed = self._claim(pool, request, plan, made, contract, asked_at)
            if claimed is None or claimed.repeated:
                return claimed
            handed_over = self._handouts.finish(claimed.environment.id)
            if handed_over is not None:
                return replace(claimed, environment=handed_over)
        return None

    def _claim(
        self, pool: Pool, request: Request, plan: _Plan, made: Secret | None, contract: Contract, asked_at: float
    ) -> Answer | None:
        """The first of the pool that nobody else claims at the same moment."""
        made_of = pools.fingerprint(pool.project, plan.provider, plan.text)
        for loaded in self._handouts.candidates(pool, made_of):
            owner, now = self._tools.ids.new("run") if plan.work else "", self._tools.clock.now()
            claimed = pools.claim(loaded.value, contract, owner, plan.protected, asked_at, now)
            try:
                return self._store(request, claimed, plan, made, loaded)
            except VersionConflict:
                continue
        return None

    def release(self, environment_id: str, asking: Asking) -> Environment:
        """Give it back, with whatever prepares it; GuardRefused says what is in the way."""
        environment = self._books.environments.get(environment_id).value
        run = self._books.runs.find(environment.owner) if environment.owner else None
        if run is None or environment.contract is None or run.value.state not in {RunState.PENDING, RunState.RUNNING}:
            return self._reaper.take_back(environment_id, asking, given_back=True)
        stopped = self._control.cancel(run.value.id, asking)
        if stopped.stop is None and not asking.dry_run:  # it ended in between
            return self._reaper.take_back(environment_id, asking, given_back=True)
        return self._books.environments.get(environment_id).value

    def find(self, text: str, project: str = "") -> Environment:
        """The environment of an id, or of a name within a project; NotFound."""
        note = self._books.store.get(NAMES, f"{project}.{text}") if project else None
        return self._books.environments.get(str(note.body["environment"]) if note is not None else text).value

    def _earlier(self, request: Request) -> Answer | None:
        if not request.repeat:
            return None
        note = self._books.store.get(REPEATS, _repeat_id(request))
        if note is None:
            return None
        if note.body["body"] != request.body:
            raise KeyReused(
                f"the Idempotency-Key {request.repeat[:80]!r} was used for another request, which made "
                f"{note.body['environment']}; use a new key for a new request"
            )
        found = self._books.environments.get(str(note.body["environment"])).value
        return Answer(found, repeated=True) if found.contract is not None else None  # else it was never handed over

    def _plan(self, project: Project, request: Request) -> _Plan:
        if request.blueprint and request.template:
            raise UserError("a blueprint and a template are given; an environment is made of one of them")
        given = bool(request.blueprint or request.template)
        trigger = self._commit(project, request) if request.repository or request.ref or not given else None
        text, blueprint = self._blueprint(request, trigger)
        provider = self._handouts.pools.provider_of(project, blueprint)
        lacking = unmet(self._tools.providers(provider), planned_nodes(blueprint.environment))
        if lacking:
            raise UserError(lacking)
        if trigger is None and _files(blueprint):
            raise UserError(
                f"{_files(blueprint)} of the blueprint comes from a repository, and none is named; say `ref`, and "
                "`repository` where it is not the project's"
            )
        return _Plan(blueprint, provider, trigger, text, request.tested, request.protected)

    def _commit(self, project: Project, request: Request) -> Trigger:
        repository, ref = request.repository or project.repository, request.ref or "HEAD"
        if not repository:
            raise UserError(f"project {project.name} has no repository of its own; name one, or send a blueprint")
        refused = repository_refusal(repository) or ref_refusal(ref)
        if refused:
            raise UserError(refused)
        token = project_token(self._books, self._tools.secrets, project.name, repository)
        sha = ref if is_sha(ref) else self._tools.repositories.resolve(repository, ref, credential=token)
        actor, why = request.owner, request.why
        return Trigger(TriggerKind.API, "plain", repository, sha, branch=ref, actor=actor, message=why)

    def _blueprint(self, request: Request, trigger: Trigger | None) -> tuple[str, Blueprint]:
        """The text of the template, where one is named, and what is asked for."""
        if request.blueprint:
            return "", self._templates.read("blueprint", request.blueprint)
        if request.template:
            template = self._templates.get(request.template)
            return template.text, self._templates.read(f"template {template.name}", template.text)
        assert trigger is not None  # noqa: S101  # `_plan` has one where no blueprint is given
        token = project_token(self._books, self._tools.secrets, request.project, trigger.repository)
        content = self._tools.repositories.read(
            trigger.repository, trigger.sha, FILE, limit_bytes=LIMIT, credential=token
        )
        return "", self._templates.read(FILE, content.decode(errors="replace"))

    def _keys_of(self, project: Project, user: str) -> tuple[str, ...]:
        """The public keys of a forge's user, where the project may take them from there."""
        if not user:
            return ()
        forge, name = user_keys.chosen(project.name, project.key_forges, user)
        return user_keys.taken(forge, name, self._people.of(forge, name))

    def _contract(
        self, project: Project, request: Request, ttl_s: float, keys: tuple[str, ...]
    ) -> tuple[Secret | None, Contract]:
        name = checked_name(request.name) if request.name else ""
        made = None
        if not keys:
            made, public = self._keys.ed25519(request.owner)
            keys = (public,)
        contract = Contract(request.owner, request.why, ttl_s, project.most_ttl_s, name, keys)
        return made, replace(contract, pull=request.pull, url=request.url)

    def _environment(self, project: Project, contract: Contract, plan: _Plan, priority: Priority) -> Environment:
        now = self._tools.clock.now()
        return Environment(
            id=self._tools.ids.new("env"),
            project=project.name,
            service=plan.blueprint.service,
            owner=self._tools.ids.new("run") if plan.work else "",
            provider=plan.provider,
            state=EnvironmentState.REQUESTED,
            nodes=planned_nodes(plan.blueprint.environment),
            priority=priority,
            created_at=now,
            state_since=now,
            ends_at=now + contract.ttl_s,
            rules=plan.blueprint.environment.rules,
            networks=plan.blueprint.environment.networks,
            contract=contract,
            protected=plan.protected,
            door=plan.blueprint.door,
        )

    def _check_quota(self, project: Project, environment: Environment) -> None:
        if project.quota == Quota():  # nothing to compare with, and counting reads all that stands
            return
        used = uses(self._books, self._provider_names).get(project.name, Use())
        kept = [one.value for one in self._books.environments.everything(POOLED) if one.value.project == project.name]
        idle = admission.total(admission.use_of(one) for one in kept if one.state in QUOTA_STATES)  # goes for this one
        short = admission.over_quota(project.quota, used.plus(idle, -1), admission.use_of(environment))
        if short:
            raise OverQuota(f"an environment of project {project.name} is {short}")

    def _store(
        self,
        request: Request,
        environment: Environment,
        plan: _Plan,
        made: Secret | None,
        before: Loaded[Environment] | None = None,
    ) -> Answer:
        """All in one write; whoever sent the same request at the same time gets the same environment.

        `before`: the one of a pool that it was, if so.
        """
        noted = self._books.store_version(REPEATS, _repeat_id(request)) if request.repeat else 0
        earlier = self._earlier(request)
        if earlier is not None:
            return earlier
        writes = [self._books.environments.kind.put(environment.id, environment, before.version if before else 0)]
        writes += self._name(environment)
        if request.repeat:
            note = {"environment": environment.id, "body": request.body}
            writes.append(Put(REPEATS, _repeat_id(request), noted, note, ttl_s=REPEAT_TTL_S))
        was = before.value if before is not None else None
        told = (
            *events.of_environment(was, environment, self._tools.clock.now()),
            self._installed(request, environment),
        )
        if environment.owner:
            save_run(
                self._tools, None, _run(environment, plan, self._tools.clock.now()), tuple(writes), told, (jobs.ADMIT,)
            )
        else:
            self._books.commit(*writes, events=told, jobs=[jobs.ADMIT] if before is None else [])
        return Answer(environment, made)

    def _installed(self, request: Request, environment: Environment) -> Event:
        """Which keys log in there, for the audit: by their fingerprints and words."""
        contract = environment.contract
        keys = contract.keys if contract is not None else ()
        told = [f"{user_keys.fingerprint(key)} {' '.join(key.split()[2:])}".rstrip() for key in keys]
        why = f"of {request.keys_of}" if request.keys_of else ("given" if request.keys else "made")
        data = {"target": environment.id, "who": request.owner, "why": why, "dry_run": False, "keys": told}
        return Event(AUDIT, "audit.install-keys", self._tools.clock.now(), data)

    def _name(self, environment: Environment) -> list[Put]:
        """The write that takes a name; AlreadyExists while another environment has it."""
        name = environment.contract.name if environment.contract is not None else ""
        if not name:
            return []
        id = f"{environment.project}.{name}"
        note = self._books.store.get(NAMES, id)
        other = self._books.environments.find(str(note.body["environment"])) if note is not None else None
        if other is not None and not other.value.final and other.value.contract is not None:
            raise AlreadyExists(
                f"project {environment.project} has an environment {name!r} already: {other.value.id}, "
                f"{other.value.state}; take another name, or release that one"
            )
        return [Put(NAMES, id, note.version if note is not None else 0, {"environment": environment.id})]


def _run(environment: Environment, plan: _Plan, now: float) -> Run:
    """The run that prepares an environment."""
    assert plan.trigger is not None  # noqa: S101  # `_plan` refused work without a commit
    run = Run(
        id=environment.owner,
        project=environment.project,
        trigger=plan.trigger,
        state=RunState.PENDING,
        created_at=now,
        blueprint=plan.blueprint,
        provider=environment.provider,
        priority=environment.priority,
        environment_id=environment.id,
    )
    return run if plan.tested else run.with_stage(StageRun(StageName.TEST, StageState.SKIPPED, UNTESTED))


def _files(blueprint: Blueprint) -> str:
    """What of a blueprint needs the files of a commit; empty when nothing does."""
    wants = (
        ("`deploy`", bool(blueprint.deploy)),
        ("a role's `script`", any(role.script for role in blueprint.environment.roles)),
        ("a role's `run_list`", any(role.run_list for role in blueprint.environment.roles)),
    )
    return next((what for what, wanted in wants if wanted), "")


def _repeat_id(request: Request) -> str:
    """Keys are each project's own, and may hold whatever their senders like."""
    return hashlib.sha256(f"{request.project}\0{request.repeat}".encode()).hexdigest()[:40]
