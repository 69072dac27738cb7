"""`python -m pipeline.simulation SCENARIO [--json] [--draw FILE]`: what `greenroom simulate` starts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.domain.errors import UserError
from pipeline.simulation import drawing, reading, telling
from pipeline.simulation.simulation import Simulation


def main(words: Sequence[str]) -> int:
    """Simulate and tell; 1 when the scenario or the page's file is wrong."""
    parser = argparse.ArgumentParser(prog="greenroom simulate")
    parser.add_argument("scenario")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--draw", type=Path)
    options = parser.parse_args(words)
    try:
        _simulate(options.scenario, as_json=options.json, draw=options.draw)
    except UserError as error:
        sys.stderr.write(f"greenroom: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"greenroom: {error.filename} cannot be written: {error.strerror}; choose another file\n")
        return 1
    return 0


def _simulate(name: str, *, as_json: bool, draw: Path | None) -> None:
    scenario = reading.load(name)
    tally = Simulation(scenario, _progress if sys.stderr.isatty() else None).run()
    summary, speed = tally.summary(), tally.speed()
    text = telling.told(scenario.name, summary, speed)
    sys.stdout.write(
        json.dumps({"scenario": scenario.name, **summary, "speed": speed}, indent=2) + "\n" if as_json else text
    )
    if draw is not None:
        zones = [zone.name for zone in scenario.inventory.zones]
        draw.write_text(drawing.page(scenario.name, zones, tally, text))


def _progress(share: float) -> None:
    sys.stderr.write(f"\rsimulating: {share:4.0%}" + ("\n" if share >= 1 else ""))
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
