"""What came of builds is remembered, and whoever fails them too often is taken out until it proved itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.domain import suspicion
from pipeline.domain.environments import Environment, Node
from pipeline.domain.inventory import MachineState
from pipeline.domain.suspicion import Build, History, Judgement
from pipeline.envs.books import HISTORIES, Books
from pipeline.envs.gate import TICK, Asking
from pipeline.envs.inventories import Inventories
from pipeline.ports.common import Clock

log = logging.getLogger(__name__)


class Suspects:
    """One history a provider; any number of processes at once."""

    def __init__(self, books: Books, inventories: Inventories, clock: Clock) -> None:
        self._books = books
        self._inventories = inventories
        self._clock = clock

    def succeeded(self, environment: Environment) -> None:
        """All nodes of an environment were built."""
        builds = [self._build(environment, node, "") for node in environment.nodes if node.machine]
        self._remember(environment.provider, builds)
        names = list(dict.fromkeys(one.machine for one in builds))
        self._inventories.end_probations(environment.provider, names, Asking(TICK, "a build on it succeeded"))

    def failed(self, environment: Environment, faults: Mapping[str, str], *, exact: bool) -> str:
        """Some nodes, by name, failed with these faults; why a build of this environment can succeed nowhere, if so.

        Of a machine with several such nodes it counts once. Where the provider keeps to zones alone (not `exact`), no
        machine is taken out by itself: the nodes may have stood on another one.
        """
        broken = {node.machine: node for node in environment.nodes if node.name in faults and node.machine}
        builds = [self._build(environment, node, faults[node.name]) for node in broken.values()]
        history = self._remember(environment.provider, builds)
        judgement = suspicion.judge(history, self._clock.now())
        if judgement.provider:
            log.warning("provider %s is at fault, none of its machines: %s", environment.provider, judgement.provider)
        else:
            self._take_out(environment.provider, builds, judgement, exact=exact)
        poisons = (judgement.poison(one.image, one.service) for one in builds)
        return next((poison for poison in poisons if poison), "")

    def shunned(self, environment: Environment, faults: Mapping[str, str], *, exact: bool) -> set[str]:
        """The machines on which an environment is not placed again: those of its nodes, by name, that failed.

        Where the provider keeps to zones alone (not `exact`), the next node might stand on the same machine again, or
        the zone have no room for it: then all of their zones.
        """
        failed = [node for node in environment.nodes if node.name in faults]
        machines = {node.machine for node in failed}
        if exact:
            return machines
        zones = {node.zone for node in failed}
        known = self._inventories.view(environment.provider).inventory.machines
        return machines | {one.name for one in known if one.zone in zones and not one.registered}

    def _build(self, environment: Environment, node: Node, fault: str) -> Build:
        blueprint = f"{environment.project}/{environment.service}"  # other projects' service may be another one
        return Build(node.machine, node.zone, node.image, blueprint, self._clock.now(), fault)

    def _remember(self, provider: str, builds: Iterable[Build]) -> History:
        return self._change(provider, lambda history: suspicion.remember(history, builds, self._clock.now()))

    def _change(self, provider: str, change: Callable[[History], History]) -> History:
        def once() -> History:
            loaded = self._books.histories.find(provider)
            was, version = (History(), 0) if loaded is None else (loaded.value, loaded.version)
            now = change(was)
            if now != was:
                self._books.commit(HISTORIES.put(provider, now, version))
            return now

        return self._books.again(once)

    def _take_out(self, provider: str, failed: Sequence[Build], judgement: Judgement, *, exact: bool) -> None:
        machines = self._inventories.view(provider).inventory.machines
        in_service = {one.name: one.zone for one in machines if one.state is MachineState.IN_SERVICE}
        probation = {one.name for one in machines if one.probation and exact}
        out = sum(1 for one in machines if one.back_at is not None)
        known = judgement if exact else replace(judgement, machines={})
        sentence = suspicion.sentence(known, failed, in_service, probation, out)
        taken = [
            name
            for name, why in sentence.machines.items()
            if self._inventories.quarantine(provider, name, Asking(TICK, why))
        ]
        if taken:
            log.warning("provider %s: quarantined %s", provider, ", ".join(taken))
            self._change(provider, lambda history: suspicion.forgive(history, taken))
        if sentence.spared:
            log.warning("provider %s: %s", provider, sentence.spared)
            self._inventories.tell_spared(provider, Asking(TICK, sentence.spared))
