"""Further nodes of an environment that stands, from their place to their service, step by resumable step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.domain import failsafe, milestones, resizing
from pipeline.domain.breakers import Call
from pipeline.domain.environments import MAX_AGAIN, Environment, NodeState, awaited
from pipeline.domain.errors import CallsPaused, InfraError
from pipeline.domain.failsafe import GiveUp
from pipeline.domain.runs import RunState, Verdict
from pipeline.domain.scaling import Scaling
from pipeline.envs.access import access_of
from pipeline.envs.books import Books, Loaded
from pipeline.envs.calls import Breakers
from pipeline.envs.events import scaled
from pipeline.envs.gate import Asking
from pipeline.envs.orders import Orders, seen_as
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.envs.room import NoRoom, Room
from pipeline.envs.steps import Shown, Steps
from pipeline.envs.suspects import Suspects
from pipeline.ports.common import Clock, Ids
from pipeline.ports.drivers import NodeView

N = NodeState
#: Seconds between two looks for room.
ROOM_S = 5.0
#: A node that the provider does not show so long after it was asked for is asked for again.
RECREATE_S = 5.0


class Growth:
    """Brings nodes into service; any number of processes at once."""

    def __init__(
        self,
        books: Books,
        steps: Steps,
        providers: Callable[[str], Provider],
        removals: Removals,
        room: Room,
        suspects: Suspects,
        orders: Orders,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._books = books
        self._steps = steps
        self._provider = providers
        self._removals = removals
        self._room = room
        self._suspects = suspects
        self._orders = orders
        self._breakers = Breakers(books, clock)
        self._clock = clock
        self._ids = ids

    def step(self, loaded: Loaded[Environment], scaling: Scaling, listing: Shown | None) -> Loaded[Environment]:
        """Do what comes next for the nodes that come, once. Errors: CallsPaused, VersionConflict."""
        ended = self._run_ended(scaling)
        if ended:
            return self._fail(loaded, scaling, ended)
        if not scaling.placed_at:
            return self._place(loaded, scaling)
        states = {node.state for node in loaded.value.named(scaling.coming)}
        if states & {N.PLANNED, N.LOST}:
            return self._begin(loaded, scaling)
        if N.BUILDING in states:
            if isinstance(listing, InfraError):
                return self._unseen(loaded, scaling, listing)
            return self._observe(loaded, scaling, listing)
        if N.ACTIVE in states:
            return self._connect(loaded, scaling)
        return self._serve(loaded, scaling)

    def _run_ended(self, scaling: Scaling) -> str:
        """Why the run that prepares the nodes that come will not do so any more; empty while it may, or has."""
        found = self._books.runs.find(scaling.run) if scaling.run else None
        if scaling.run and found is None:
            return f"run {scaling.run}, which was to prepare them, is forgotten"
        run = found.value if found is not None else None
        over = run is not None and run.state is RunState.FINISHED and run.verdict is not Verdict.PASSED
        return f"run {run.id} {run.verdict}: {run.reason}" if run is not None and over else ""

    def _place(self, loaded: Loaded[Environment], scaling: Scaling) -> Loaded[Environment]:
        found = self._room.find(loaded.value, scaling.coming)
        if isinstance(found, NoRoom):
            failed = next(node.fault for node in loaded.value.named(scaling.coming)) if scaling.avoid else ""
            if found.never:
                return self._fail(loaded, scaling, failed or found.reason)
            told = "; ".join(filter(None, [failed, found.reason]))
            return self._wait(loaded, scaling, scaling.began_at, ROOM_S, f"waits for room: {told}")
        placed = replace(found.environment, scaling=replace(scaling, placed_at=self._clock.now(), reason=""))
        return self._steps.save(loaded, placed, writes=(found.ledger,))

    def _begin(self, loaded: Loaded[Environment], scaling: Scaling) -> Loaded[Environment]:
        """Write down what is asked for, then ask for it."""
        environment = loaded.value
        self._breakers.check(environment.provider, Call.CREATE)
        asked = {
            node.name: self._orders.with_host_key(replace(node.to(N.BUILDING), fault=""))
            for node in environment.named(scaling.coming)
        }
        building = environment.with_nodes(asked.get(node.name, node) for node in environment.nodes)
        return self._create(self._steps.save(loaded, building), scaling)

    def _create(self, loaded: Loaded[Environment], scaling: Scaling) -> Loaded[Environment]:
        environment = loaded.value
        provider = self._provider(environment.provider)
        try:
            provider.driver.create(self._orders.of(environment, environment.named(scaling.coming)))
        except CallsPaused:
            raise
        except InfraError as error:
            return self._fault(loaded, scaling, error)
        return self._observe(loaded, scaling, None)

    def _fault(self, loaded: Loaded[Environment], scaling: Scaling, error: InfraError) -> Loaded[Environment]:
        tried, now = replace(scaling, tries=scaling.tries + 1), self._clock.now()
        answer = failsafe.decide(error, tried.tries, now, self._ids.dice())
        if isinstance(answer, GiveUp):
            return self._fail(loaded, tried, answer.reason)
        again = Loaded(replace(loaded.value, scaling=tried), loaded.version)
        return self._wait(again, tried, scaling.placed_at, answer.at - now, answer.reason)

    def _unseen(self, loaded: Loaded[Environment], scaling: Scaling, error: InfraError) -> Loaded[Environment]:
        """How far they are cannot be seen: nothing is judged while their provider is left alone."""
        if isinstance(error, CallsPaused):
            return loaded
        poll_s = self._provider(loaded.value.provider).poll_s
        return self._wait(loaded, scaling, scaling.placed_at, poll_s, str(error))

    def _observe(
        self, loaded: Loaded[Environment], scaling: Scaling, listing: Sequence[NodeView] | None
    ) -> Loaded[Environment]:
        environment = loaded.value
        provider = self._provider(environment.provider)
        listed = provider.driver.nodes() if listing is None else listing
        views = {view.name: view for view in listed if view.environment_id == environment.id}
        missing = [node for node in environment.named(scaling.coming) if node.name not in views]
        if missing and listing is not None and self._clock.now() - scaling.placed_at >= RECREATE_S:
            return self._create(loaded, scaling)
        seen = {node.name: seen_as(node, views.get(node.name)) for node in environment.named(scaling.coming)}
        observed = environment.with_nodes(seen.get(node.name, node) for node in environment.nodes)
        faults = {name: f"node {name}: {node.fault}" for name, node in seen.items() if node.fault}
        full = next((why for name, why in faults.items() if name in views and views[name].full), None)
        if full is not None:
            return self._place_again(loaded, scaling, full, "waits for room")
        if faults:
            return self._elsewhere(loaded, scaling, faults)
        if any(node.state is N.BUILDING for node in seen.values()):
            return self._still_built(loaded, observed, scaling, views, "the provider still builds")
        return self._connect(self._steps.save(loaded, observed), scaling)

    def _connect(self, loaded: Loaded[Environment], scaling: Scaling) -> Loaded[Environment]:
        environment = loaded.value
        provider, coming = self._provider(environment.provider), environment.named(scaling.coming)
        if provider.driver.capabilities.login:
            access = access_of(environment.with_nodes(coming), self._orders.secrets)
            silent = provider.transport.probe(access, provider.probe_s)
            if silent:
                name, why = next(iter(silent.items()))
                told = f"node {name} does not answer: {why}"
                return self._still_built(loaded, environment, scaling, scaling.coming, told)
        there = [node.to(N.REACHABLE) if node.name in scaling.coming else node for node in environment.nodes]
        return self._serve(self._steps.save(loaded, environment.with_nodes(there)), scaling)

    def _serve(self, loaded: Loaded[Environment], scaling: Scaling) -> Loaded[Environment]:
        """In service once the run that prepares them has passed; at once where there is none."""
        if scaling.run and self._books.runs.get(scaling.run).value.state is not RunState.FINISHED:
            return loaded
        serving = resizing.in_service(loaded.value, scaling.coming)
        if scaling.moves is not None:
            came = replace(scaling.moves, since=self._clock.now())
            return self._steps.save(loaded, replace(serving, scaling=replace(scaling, moves=came, reason="")))
        serving = resizing.over(serving)
        return self._steps.save(loaded, serving, told=[scaled(serving, scaling, self._clock.now())])

    def _wait(
        self,
        loaded: Loaded[Environment],
        scaling: Scaling,
        since: float,
        for_s: float,
        reason: str,
    ) -> Loaded[Environment]:
        """Go on later, or give up what had its time."""
        now = self._clock.now()
        passed = milestones.spent(self._provider(loaded.value.provider).deadlines, since, now)
        if passed:
            return self._fail(loaded, scaling, f"{passed}: {reason}")
        return self._steps.save(loaded, resizing.waits(loaded.value, now + for_s, reason))

    def _still_built(
        self,
        loaded: Loaded[Environment],
        observed: Environment,
        scaling: Scaling,
        shown: Collection[str],
        reason: str,
    ) -> Loaded[Environment]:
        """Go on later, or give up what had its time, or that to its next milestone; `shown`: nodes that are shown."""
        provider, now = self._provider(observed.provider), self._clock.now()
        milestone = awaited(observed.named(scaling.coming), shown)
        progress = milestones.advanced(scaling.progress, milestone, scaling.placed_at, now)
        passed = milestones.overdue(provider.deadlines, scaling.placed_at, progress, now)
        if passed:
            return self._fail(Loaded(observed, loaded.version), scaling, f"{passed}: {reason}")
        goes_on = replace(observed, scaling=replace(scaling, progress=progress))
        return self._steps.save(loaded, resizing.waits(goes_on, now + provider.poll_s, reason))

    def _elsewhere(
        self, loaded: Loaded[Environment], scaling: Scaling, faults: Mapping[str, str]
    ) -> Loaded[Environment]:
        """Ask for another place for nodes of which some failed, by name; give up when that was done often enough."""
        told = next(iter(faults.values()))
        if scaling.placed_again >= MAX_AGAIN:
            return self._fail(loaded, scaling, f"{told}; they were placed {MAX_AGAIN + 1} times")
        exact = self._provider(loaded.value.provider).driver.capabilities.exact
        shunned = self._suspects.shunned(loaded.value, faults, exact=exact)
        avoid = tuple(dict.fromkeys((*scaling.avoid, *sorted(shunned))))
        again = replace(scaling, avoid=avoid, placed_again=scaling.placed_again + 1)
        return self._place_again(loaded, again, told, f"placed again ({again.placed_again} of {MAX_AGAIN})")

    def _place_again(self, loaded: Loaded[Environment], scaling: Scaling, fault: str, what: str) -> Loaded[Environment]:
        """Nodes cannot be where they were asked for: what was begun of them goes, and room is looked for anew."""
        now = self._clock.now()
        passed = milestones.spent(self._provider(loaded.value.provider).deadlines, scaling.began_at, now)
        if passed:
            return self._fail(loaded, scaling, f"{passed}: {fault}")
        begun = self._removals.judge_unused(loaded.value, Asking(scaling.who, fault, again=True))
        waits = resizing.waits(resizing.unplaced(loaded.value, scaling, fault), now + ROOM_S, f"{what}: {fault}")
        return self._steps.save(loaded, waits, told=begun.events, writes=begun.writes)

    def _fail(self, loaded: Loaded[Environment], scaling: Scaling, fault: str) -> Loaded[Environment]:
        """What came goes again; the nodes that stood are not touched."""
        failed = replace(loaded.value, scaling=replace(scaling, fault=fault, reason=""), not_before=0.0)
        return self._steps.save(loaded, failed)
