"""The name of a pull request behind a real HAProxy: it is refreshed, and no request fails."""

from __future__ import annotations

import http.client
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.domain.environments import Environment
from tests.plugins.haproxy import Haproxy, free_port
from tests.scenarios.player import usual_world
from tests.scenarios.test_pulls import HOST, Forge, asking
from tests.scenarios.world import World
from tests.tools.served import Going, Servers
from tests.tools.visitors import visitors

VISITORS = 4


@dataclass
class Visits:
    """What was answered, in order: status, and the environment that answered. A new connection each time."""

    port: int
    answers: list[tuple[int, str]] = field(default_factory=list)

    def look(self) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/", headers={"host": HOST})
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("x-slot", "")
        finally:
            connection.close()

    def _visit(self) -> None:
        try:
            self.answers.append(self.look())
        except OSError as error:
            self.answers.append((0, repr(error)))

    def going_on(self) -> AbstractContextManager[None]:
        return visitors(self._visit, VISITORS, 0.01)


def serving(world: World) -> str:
    found = world.books.pulls.find("shop-pr-12")
    return found.value.serving.environment if found is not None and found.value.serving is not None else ""


def standing(world: World) -> list[Environment]:
    return [one for one in world.all_environments() if one.contract is not None and not one.final]


def test_it_is_refreshed_and_closed_without_a_failed_request(haproxy: Haproxy, tmp_path: Path) -> None:
    port = free_port()
    blueprint: dict[str, Any] = asking()
    blueprint["deploy"] = [{"role": "web", "to": "/srv/shop", "ready": {"http": f":{port}/health"}}]
    world = usual_world(tmp_path, front=haproxy.router, machines=12)
    world.program("curl --fail", lambda _: 0)
    servers = Servers(port, environment=True)
    world.cloud.nodes = servers
    going, forge, visits = Going(world), Forge(world), Visits(haproxy.port)
    try:
        forge.push(forge.commit("one", blueprint))
        going.until(lambda: bool(serving(world)) and visits.look()[0] == 200)
        first = serving(world)
        with visits.going_on():
            for name in ("two", "three"):
                before = serving(world)
                forge.push(forge.commit(name, blueprint))
                going.until(lambda before=before: serving(world) not in {"", before} and len(standing(world)) == 1)  # type: ignore[misc]  # it is bound now
            going.run(0.5)
        assert len(visits.answers) > 200
        assert {status for status, _ in visits.answers} == {200}
        answered = list(dict.fromkeys(environment for _, environment in visits.answers))
        assert (answered[0], answered[-1], len(answered)) == (first, serving(world), 3)
        assert {environment for _, environment in visits.answers[-VISITORS:]} == {serving(world)}
        forge.close()
        going.until(lambda: not standing(world))
        going.run(0.5)
        assert visits.look()[0] >= 400
        assert dict(haproxy.router.known()) == {}
    finally:
        for key in list(servers):
            del servers[key]
