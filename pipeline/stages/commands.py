"""Commands on the nodes of an environment: asked for over the API, run by a worker, their output kept as a log."""

from __future__ import annotations

from dataclasses import replace

from pipeline.domain.errors import GreenroomError, InvalidTransition, UserError
from pipeline.domain.leases import LIVING
from pipeline.envs import jobs
from pipeline.envs.access import access_of
from pipeline.envs.books import COMMANDS, Command
from pipeline.ports.common import LimitExceeded, Limits
from pipeline.ports.logs import LogWriter
from pipeline.ports.stores import Event
from pipeline.ports.transports import Connection, EnvironmentAccess
from pipeline.stages.context import Tools, line
from pipeline.stages.places import chosen

#: What is known of a command is kept for so long, in seconds; its output as long as its environment.
KEPT_S = 7 * 86400
#: A command of which nothing was heard for so long beyond its time limit lost its worker, in seconds.
LOST_S = 300.0
#: Longer than this it may not take on one node, in seconds.
MOST_S = 3600.0


class Commands:
    """Any number of processes at once."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._books = tools.books

    def ask(self, environment_id: str, on: str, text: str, timeout_s: float) -> Command:
        """Store the wish and the job that carries it out.

        Errors: NotFound, InvalidTransition when its nodes do not stand, UserError for an `on` that names none.
        """
        access, now = self._access(environment_id), self._tools.clock.now()
        nodes = tuple(node.name for node in chosen(access, on))
        if timeout_s > MOST_S:
            raise UserError(f"timeout: a command may take {MOST_S:.0f} s on a node at most, not {timeout_s:.0f}")
        command = Command(self._tools.ids.new("cmd"), environment_id, nodes, text, timeout_s, now)
        told = Event(environment_id, "command.asked", now, {"command": command.id, "nodes": list(nodes)})
        put = COMMANDS.put(command.id, command, 0, ttl_s=KEPT_S)
        self._books.commit(put, events=[told], jobs=[jobs.command(command.id)])
        return command

    def get(self, command_id: str) -> Command:
        """The command; one whose worker was lost says so."""
        command, now = self._books.commands.get(command_id).value, self._tools.clock.now()
        if command.finished_at is None and now > command.asked_at + command.timeout_s * len(command.nodes) + LOST_S:
            return replace(command, finished_at=now, fault="its worker was lost; look at the nodes how far it came")
        return command

    def carry_out(self, command_id: str) -> None:
        """Run it once, node by node; a command that was begun is never begun again."""
        loaded = self._books.commands.get(command_id)
        if loaded.value.started_at is not None:
            return
        begun = replace(loaded.value, started_at=self._tools.clock.now())
        self._books.commit(COMMANDS.put(command_id, begun, loaded.version, ttl_s=KEPT_S))
        with self._tools.logs.writer(begun.environment, command_id) as log:
            done = self._done(begun, log)
        self._finish(done)

    def _finish(self, done: Command) -> None:
        now = self._tools.clock.now()
        put = COMMANDS.put(done.id, replace(done, finished_at=now), self._books.commands.get(done.id).version)
        data = {"command": done.id, "statuses": dict(done.statuses), "fault": done.fault}
        told = Event(done.environment, "command.finished", now, data)
        self._books.commit(replace(put, ttl_s=KEPT_S), events=[told])

    def _done(self, command: Command, log: LogWriter) -> Command:
        """What came of it; what went wrong on our side is its fault, and the nodes after it are left out."""
        statuses: dict[str, int] = {}
        try:
            access = self._access(command.environment)
            transport = self._tools.providers(self._provider(command.environment)).transport
            with transport.connect(access) as connection:
                for node in command.nodes:
                    statuses[node] = _run(connection, node, command, log)
        except (GreenroomError, LimitExceeded) as error:  # whoever asked reads it
            line(log.write, str(error))
            return replace(command, statuses=statuses, fault=str(error))
        return replace(command, statuses=statuses)

    def _provider(self, environment_id: str) -> str:
        return self._books.environments.get(environment_id).value.provider

    def _access(self, environment_id: str) -> EnvironmentAccess:
        environment = self._books.environments.get(environment_id).value
        if environment.state not in LIVING:
            raise InvalidTransition(f"environment {environment_id} is {environment.state}: nothing can be run on it")
        return access_of(environment, self._tools.secrets)


def _run(connection: Connection, node: str, command: Command, log: LogWriter) -> int:
    """The exit status on one node; where there are several, each begins with its name."""
    if len(command.nodes) > 1:
        line(log.write, f"on {node}")
    limits = Limits(total_s=command.timeout_s, silence_s=command.timeout_s)
    return connection.run(node, command.text, limits=limits, output=log.write)
