"""Has the machines of a provider measured, where their load limits what they take."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.envs.inventories import Inventories
from pipeline.envs.providers import Provider


class Measuring:
    """Asks drivers for loads; any number of processes at once."""

    def __init__(self, providers: Callable[[str], Provider], inventories: Inventories) -> None:
        self._provider = providers
        self._inventories = inventories

    def measure(self, provider: str) -> None:
        """Keep what the driver measures. One that measures nothing leaves what others reported."""
        if not self._inventories.limited(provider):
            return
        machines = self._inventories.view(provider).inventory.machines
        loads = self._provider(provider).driver.loads(machines)
        if loads:
            self._inventories.report_loads(provider, loads)
