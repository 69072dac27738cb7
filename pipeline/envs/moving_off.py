"""Servers off a machine that goes out of service: one look at a time, each server past the gate before it is told.

What is on its way stands in the act before the cloud is told, and what became of it is what the cloud shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import moving_off, resizing
from pipeline.domain.cloud_acts import CloudAct, CloudObject
from pipeline.domain.drift import Server
from pipeline.domain.environments import Node, NodeState
from pipeline.domain.errors import GuardRefused, InfraError, PermanentError
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import Machine
from pipeline.domain.leases import LIVING
from pipeline.domain.moving_off import UNCONFIRMED, WAYS, How, Move, MoveState, Policy
from pipeline.envs import events
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.steps import Steps
from pipeline.ports.clouds import Estate
from pipeline.ports.common import Clock
from pipeline.ports.stores import Event

#: Why a node of ours is lost that was evacuated.
ANEW = "its machine died, and it was built anew elsewhere without what was on its disk"
#: What the gate is asked of one server. An evacuation throws away what is on its disk, as a rebuild does.
ACTS: Mapping[Policy, Act] = {Policy.MIGRATE: Act.MOVE, Policy.EVACUATE: Act.REBUILD}


@dataclass(frozen=True)
class MovingOff:
    """Any number of processes at once. `deployment` is whose servers are ours."""

    books: Books
    inventories: Inventories
    gate: Gate
    clock: Clock
    deployment: str

    def may_evacuate(self, act: CloudAct, estate: Estate, machine: CloudObject, asking: Asking) -> None:
        """GuardRefused while its agent is alive; whoever overrides that has it forced down."""
        alive = estate.alive(machine)
        facts = Facts(act.who, agent_up=alive, now=self.clock.now())
        self.gate.pass_(Act.EVACUATE, f"{machine} of provider {act.provider}", facts, asking)
        if alive and not act.dry_run:
            estate.count_as_dead(machine)

    def planned(self, act: CloudAct, estate: Estate, machine: CloudObject, asking: Asking) -> tuple[Move, ...]:
        """What would be done with each server, and what a guard refuses; nothing is told to anybody."""
        servers = estate.servers_on(machine)
        moves = moving_off.noted((), servers)
        return tuple(
            replace(begun, state=MoveState.WAITING, told=0) if begun.state is MoveState.MOVING else begun
            for begun in (
                self._begun(act, move, server, estate, asking) for move, server in zip(moves, servers, strict=True)
            )
        )

    def look(self, act: CloudAct, estate: Estate, machine: CloudObject, asking: Asking) -> tuple[Move, ...]:
        """What became of those that were told, and the next ones begun."""
        there = {one.id: one for one in estate.servers_on(machine)}
        known = moving_off.noted(act.moves, there.values())
        moves = tuple(self._looked(act, one, there.get(one.server), estate, machine) for one in known)
        for move in moving_off.next_ones(moves, act.at_once):
            moves = moving_off.replaced(moves, self._begun(act, move, there[move.server], estate, asking))
        return moves

    def tell(self, estate: Estate, moves: Sequence[Move]) -> tuple[Move, ...]:
        """Tell the cloud of those that were begun; what it refuses has failed, and the rest stays begun."""
        return tuple(self._told(estate, move) for move in moves)

    def _told(self, estate: Estate, move: Move) -> Move:
        assert move.how is not None  # noqa: S101  # whatever was begun has a way
        try:
            estate.move(move.server, move.how)
        except PermanentError as error:
            return replace(move, state=MoveState.FAILED, fault=str(error))
        except InfraError as error:
            return replace(move, fault=str(error))
        return move

    def _looked(self, act: CloudAct, move: Move, there: Server | None, estate: Estate, machine: CloudObject) -> Move:
        if move.over:
            return move
        # The trial first: Nova says that one is over when the server stands where it belongs, so a server that is seen
        # after that is not seen too early.
        trial = estate.last_trial(move.server) if move.state is MoveState.MOVING else None
        at_rest = there if move.state is MoveState.WAITING else None
        server = at_rest or estate.server(move.server)
        if server is not None and server.status == UNCONFIRMED and move.how is How.COLD:
            estate.confirm(move.server)
        after = moving_off.looked_at(move, server, machine.name, trial)
        if after.state is MoveState.MOVED and server is not None and server.deployment == self.deployment:
            self._follow(act, server)
        return after

    def _begun(self, act: CloudAct, move: Move, server: Server, estate: Estate, asking: Asking) -> Move:
        if server.status in WAYS[act.policy]:
            try:
                facts = self._facts(act, server, asking)
                self.gate.pass_(ACTS[act.policy], f"{move} off machine {act.name}", facts, asking)
            except GuardRefused as error:
                return replace(move, state=MoveState.REFUSED, fault=str(error))
        return moving_off.begun(move, server, act.policy, estate.last_trial(move.server))

    def _facts(self, act: CloudAct, server: Server, asking: Asking) -> Facts:
        """What is known of a server: as a node where it is one of ours, and else whether it bears our mark."""
        ours = server.deployment == self.deployment
        found = self.books.environments.find(server.environment_id) if ours else None
        if found is not None and found.value.named({server.node}):
            return self.gate.facts_of_node(found.value, server.node, asking)
        return Facts(act.who, provider=act.provider, marked=ours, now=self.clock.now())

    def _follow(self, act: CloudAct, server: Server) -> None:
        """The books say where a node stands now, if the machine is in them; else the servers' list tells the drift.

        One that was built anew has nothing any more of what was done to it: it is lost, and ends a run in error.
        """
        machines = {one.name: one for one in self.inventories.view(act.provider).inventory.machines}
        self.books.again(lambda: self._follow_to(act, server, machines.get(server.machine)))

    def _follow_to(self, act: CloudAct, server: Server, machine: Machine | None) -> None:
        ledger = self.inventories.ledger_version()  # first of all: what is reserved after this look makes another one
        loaded = self.books.environments.find(server.environment_id)
        nodes = () if loaded is None or loaded.value.final else loaded.value.named({server.node})
        if loaded is None or not nodes:
            return
        after, told, now = loaded.value, list[Event](), self.clock.now()
        if machine is not None and nodes[0].machine != machine.name:
            moved = replace(nodes[0], machine=machine.name, zone=machine.zone)
            after = after.with_nodes(moved if node.name == moved.name else node for node in after.nodes)
            data = {"node": moved.name, "from": nodes[0].machine, "to": machine.name, "why": act.why, "who": act.who}
            told.append(Event(after.id, "environment.node-moved", now, data))
        if act.policy is Policy.EVACUATE and after.state in LIVING and _serves_as(nodes[0], server):
            told.append(events.node_lost(after, server.node, ANEW, now))
            after = resizing.lose(after, {server.node: ANEW})
        if told:
            put = self.inventories.ledger_put(ledger)
            Steps(self.books, self.clock).save(loaded, after, told=told, writes=(put,))


def _serves_as(node: Node, server: Server) -> bool:
    """Whether a node is in service, and has not been replaced by another server since."""
    return node.state is NodeState.IN_SERVICE and node.driver_id == server.id
