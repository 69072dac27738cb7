"""The local driver: a thin client of the node helper's socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.adapters.drivers.local.protocol import environment_json, parse_listing, parse_usage
from pipeline.adapters.drivers.local.this_machine import Pose, apportioned, report
from pipeline.domain.errors import CapacityError, InfraError, PermanentError, TransientError
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.ports.drivers import Capabilities, EnvironmentRequest, Listing, NodeView

ERRORS: Mapping[str, type[InfraError]] = {
    "capacity": CapacityError,
    "transient": TransientError,
    "permanent": PermanentError,
    "bad-request": PermanentError,
}
#: The helper answers a create or destroy within this, or it is not working; image builds say something meanwhile.
ANSWER_TIMEOUT_S = 300.0


class LocalDriver:
    """Nodes on this machine. Each call has a connection of its own, so any number may run at once."""

    def __init__(self, socket_path: str, deployment: str, pose: Pose | None = None) -> None:
        self._path = socket_path
        self._deployment = deployment
        self._pose = pose or Pose()
        self._capabilities: Capabilities | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Images as the helper had them at the first look. TransientError when it does not run."""
        if self._capabilities is None:
            self._capabilities = Capabilities(login=True, images=tuple(self._ask({"do": "images"})))
        return self._capabilities

    def create(self, request: EnvironmentRequest) -> None:
        """Make the nodes; they run when it returns."""
        self._ask({"do": "create", "environment": environment_json(request)})

    def nodes(self) -> Sequence[NodeView]:
        return self.list().nodes

    def list(self) -> Listing:
        """All of this deployment in one call."""
        return parse_listing(self._ask({"do": "list"}))

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        """Remove nodes, or everything of the environment; they are gone when it returns."""
        named = None if nodes is None else list(nodes)
        self._ask({"do": "destroy", "environment_id": environment_id, "nodes": named})

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        self._ask({"do": "mark_end", "environment_id": environment_id, "ends_at": ends_at})

    def inventory(self) -> Inventory:
        """This machine as it poses, with the images that it holds now."""
        return report(self._pose, frozenset(self._ask({"do": "images"})))

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:
        """This machine's use, divided among those that it poses as; nothing in the helper's first second."""
        usage = parse_usage(self._ask({"do": "usage"}))
        return {} if usage is None else apportioned(usage, machines)

    def check(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def ping(self) -> int:
        """The helper's process id. TransientError when it does not run."""
        return int(self._ask({"do": "ping"}))

    def build_image(self, name: str, progress: Callable[[str], None]) -> None:
        """Build an image unless it is there; `progress` gets lines for a person."""
        self._ask({"do": "build_image", "image": name}, progress)

    def clean(self) -> int:
        """Remove everything of this deployment; the number of environments there were."""
        return int(self._ask({"do": "clean"}))

    def stop(self) -> None:
        """Ask the helper to end; its nodes live on."""
        self._ask({"do": "stop"})

    def _ask(self, request: Mapping[str, Any], progress: Callable[[str], None] | None = None) -> Any:
        try:
            return self._exchange(json.dumps(request).encode() + b"\n", progress)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise TransientError(
                f"the node helper does not run (nothing answers at {self._path}): start it with `greenroom up`, "
                f"or as root with python -m pipeline.adapters.drivers.local.helper --socket {self._path} "
                f"--owner UID --deployment {self._deployment}"
            ) from error
        except OSError as error:
            raise TransientError(f"the node helper at {self._path} did not answer {request['do']}: {error}") from error

    def _exchange(self, line: bytes, progress: Callable[[str], None] | None) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(self._path)
            connection.sendall(line)
            with connection.makefile("rb") as answers:
                for answer in answers:
                    said = json.loads(answer)
                    if "progress" not in said:
                        return _result(said)
                    if progress is not None:
                        progress(said["progress"])
        raise TransientError(f"the node helper at {self._path} ended in the middle of a request: ask again")


def _result(said: Mapping[str, Any]) -> Any:
    """The value of an answer, or its error."""
    if "error" in said:
        raise ERRORS.get(said["error"], PermanentError)(said["message"])
    return said["ok"]
