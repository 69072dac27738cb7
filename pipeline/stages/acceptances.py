"""Acceptances are asked for: a machine out of service is tried out by a run of its own.

The acceptance, its run and the claim of the machine are one write. From then on the run's machinery does all the work,
and takes its nodes back whatever comes of it; what follows when that is over stands in `verdicts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.domain import acceptances as rules
from pipeline.domain.acceptances import Acceptance, Entry, Terms
from pipeline.domain.blueprint import Blueprint, Priority, QosSpec
from pipeline.domain.environments import planned_nodes
from pipeline.domain.errors import AlreadyExists, UserError
from pipeline.domain.inventory import Inventory, Machine
from pipeline.domain.qos import QosProfile
from pipeline.domain.runs import Run, RunState
from pipeline.domain.triggers import Trigger, TriggerKind, is_sha, ref_refusal, repository_refusal
from pipeline.envs import events
from pipeline.envs.books import ACCEPTANCES
from pipeline.envs.gate import Asking, check_names
from pipeline.envs.inventories import Inventories, machine_id
from pipeline.envs.templates import LIMIT, Templates
from pipeline.envs.wishes import unmet
from pipeline.ports.stores import Put
from pipeline.stages.context import FILE, Tools, project_token
from pipeline.stages.runner import save_run

#: Machines that an answer names.
MOST_OTHERS = 5
#: The machines that are being accepted.
CLAIMS = "accepting"
#: Whose the runs of acceptances are that nobody asked for a project, and how many of them go on at a time.
NO_PROJECT, MOST_ACCEPTANCES = "", 10


@dataclass(frozen=True)
class Wish:
    """Which machine is to be accepted, and on which terms; `repository` at `ref` brings further tests.

    `project`: whose token opens the repository, whose account the provider uses, and whose quota counts; it may be
    empty.
    """

    provider: str
    machine: str
    terms: Terms
    project: str = NO_PROJECT
    repository: str = ""
    ref: str = ""


@dataclass(frozen=True)
class _Plan:
    acceptance: Acceptance
    run: Run


class Acceptances:
    """Any number of processes at once."""

    def __init__(
        self,
        tools: Tools,
        inventories: Inventories,
        templates: Templates,
        profiles: Mapping[str, QosProfile],
    ) -> None:
        self._tools = tools
        self._books = tools.books
        self._inventories = inventories
        self._templates = templates
        self._profiles = profiles

    def ask(self, wish: Wish, asking: Asking) -> Acceptance:
        """Store an acceptance with its run; a dry run checks the same, and stores nothing of them.

        Errors: NotFound (machine, peer, repository, ref, project), InvalidTransition (the machine is in service),
        AlreadyExists (it is being accepted), UserError (terms, tests, a provider that does not choose machines),
        TransientError (the repository or the driver does not answer).
        """
        check_names(asking)
        rules.check_terms(wish.terms)
        return self._books.again(lambda: self._ask(wish, asking))

    def _ask(self, wish: Wish, asking: Asking) -> Acceptance:
        provider = self._tools.providers(wish.provider)
        inventory = self._inventories.view(wish.provider).inventory
        machine = inventory.machine(wish.machine)
        rules.check_acceptable(machine)
        others = rules.beside(machine, inventory)
        if others and not provider.driver.capabilities.exact:
            raise UserError(
                f"provider {wish.provider} keeps to zones and does not choose machines, so the node might stand on "
                f"{', '.join(others[:MOST_OTHERS])} instead of {machine.name}: use an account that may choose them "
                "and set `choose_machine`, or accept the machine while it is alone in its zone"
            )
        id = self._tools.ids.new("acc")
        claim = self._claim(wish, id)
        plan = self._plan(wish, id, machine, inventory, asking)
        lacking = unmet(provider, planned_nodes(plan.run.plan.environment))
        if lacking:
            raise UserError(lacking)
        self._store(plan, claim, asking)
        return plan.acceptance

    def _claim(self, wish: Wish, id: str) -> Put:
        """The write that keeps a machine for one acceptance; AlreadyExists while another one goes on."""
        key = machine_id(wish.provider, wish.machine)
        note = self._books.store.get(CLAIMS, key)
        other = self._books.acceptances.find(str(note.body["acceptance"])) if note is not None else None
        if other is not None and other.value.open:
            raise AlreadyExists(
                f"machine {wish.machine} is being accepted by {other.value.id}; wait for it, or cancel its run "
                f"{other.value.run}"
            )
        return Put(CLAIMS, key, note.version if note is not None else 0, {"acceptance": id})

    def _plan(self, wish: Wish, id: str, machine: Machine, inventory: Inventory, asking: Asking) -> _Plan:
        if wish.project:
            self._books.projects.get(wish.project)
        trigger, more = self._tests(wish, asking)
        peer, note = rules.peer_rules(wish.terms, machine, inventory)
        terms = replace(wish.terms, tests=f"{trigger.repository}@{trigger.sha}" if trigger.repository else "")
        profile = self._profile(terms.profile)
        blueprint = rules.blueprint_of(terms, machine.name, profile, peer, wish.provider, more)
        run = self._run(wish, blueprint, trigger)
        acceptance = Acceptance(
            id=id,
            provider=wish.provider,
            machine=machine.name,
            who=asking.who,
            why=asking.why,
            run=run.id,
            terms=terms,
            asked_at=run.created_at,
            state_since=machine.state_since,
            notes=(note,) if note else (),
        )
        return _Plan(acceptance, run)

    def _profile(self, name: str) -> QosProfile:
        if name not in self._profiles:
            raise UserError(f"qos {name!r}: there is no such profile; known are {', '.join(self._profiles)}")
        rules.check_profile(name, self._profiles[name])
        return self._profiles[name]

    def _run(self, wish: Wish, blueprint: Blueprint, trigger: Trigger) -> Run:
        return Run(
            id=self._tools.ids.new("run"),
            project=wish.project,
            trigger=trigger,
            state=RunState.PENDING,
            created_at=self._tools.clock.now(),
            blueprint=blueprint,
            provider=wish.provider,
            priority=Priority.INTERACTIVE,
        )

    def _tests(self, wish: Wish, asking: Asking) -> tuple[Trigger, tuple[Entry, ...]]:
        """The commit that brings further tests, and those of its greenroom.yml."""
        message = f"acceptance of {wish.machine}: {asking.why}"
        trigger = Trigger(TriggerKind.API, "plain", self._repository(wish), "", actor=asking.who, message=message)
        if not trigger.repository:
            return trigger, ()
        found = replace(trigger, branch=wish.ref or "HEAD")
        sha, text = self._read(wish.project, found)
        more = tuple(one for one in self._templates.read(FILE, text).test if not isinstance(one, QosSpec))
        if not more:
            raise UserError(f"{found.repository}@{sha}: its {FILE} has no test that a machine could be judged by")
        return replace(found, sha=sha), more

    def _read(self, project: str, trigger: Trigger) -> tuple[str, str]:
        """The commit that a ref names, and its greenroom.yml."""
        repository, ref = trigger.repository, trigger.branch
        refused = repository_refusal(repository) or ref_refusal(ref)
        if refused:
            raise UserError(refused)
        token = project_token(self._books, self._tools.secrets, project, repository)
        repositories = self._tools.repositories
        sha = ref if is_sha(ref) else repositories.resolve(repository, ref, credential=token)
        content = repositories.read(repository, sha, FILE, limit_bytes=LIMIT, credential=token)
        return sha, content.decode(errors="replace")

    def _repository(self, wish: Wish) -> str:
        """The one that is named, or the project's where only a commit is; empty for none."""
        if wish.repository or not wish.ref:
            return wish.repository
        own = self._books.projects.get(wish.project).value.repository if wish.project else ""
        if not own:
            raise UserError(f"ref {wish.ref!r}: name the repository, or a project that has one")
        return own

    def _store(self, plan: _Plan, claim: Put, asking: Asking) -> None:
        acceptance = plan.acceptance
        target = f"machine {acceptance.provider}/{acceptance.machine}"
        audited = self._inventories.audit("accept", target, asking)
        if asking.dry_run:
            self._books.commit(events=[audited])
            return
        put = ACCEPTANCES.put(acceptance.id, acceptance, 0)
        told = (audited, *events.of_acceptance(acceptance, acceptance.asked_at))
        save_run(self._tools, None, plan.run, (put, claim), told)

    def newest(self, provider: str, machine: str, limit: int, offset: int = 0) -> list[Acceptance]:
        """The newest acceptances first; of one provider, or of one machine of it."""
        if machine and not provider:
            raise UserError(f"machine {machine}: say of which provider it is")
        of = machine_id(provider, machine) if machine else provider
        index = f"acceptances:{of}" if of else "acceptances"
        found = self._books.acceptances.in_index(index, limit=limit, offset=offset, newest_first=True)
        return [one.value for one in found]
