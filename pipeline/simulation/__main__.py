"""`python -m pipeline.simulation SCENARIO [--json] [--page FILE] [--seed N]`: what `greenroom simulate` starts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline import bootstrap
from pipeline.domain.errors import PermanentError, UserError
from pipeline.simulation import reading, telling
from pipeline.simulation.page import page
from pipeline.simulation.simulation import Simulation

#: Exit statuses: all promises kept; one was broken; the scenario, the page's file, the command line or an installed
#: package is wrong.
KEPT, BROKEN, WRONG = 0, 1, 2
#: Real seconds between two words about the progress, where nothing moves.
TELL_EVERY_S = 5.0


def main(words: Sequence[str]) -> int:
    """Simulate and tell."""
    parser = argparse.ArgumentParser(prog="greenroom simulate")
    parser.add_argument("scenario")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(words)
    try:
        kept = _simulate(options.scenario, as_json=options.json, file=options.page, seed=options.seed)
    except (UserError, PermanentError) as error:
        sys.stderr.write(f"greenroom: {error}\n")
        return WRONG
    except OSError as error:
        sys.stderr.write(f"greenroom: {error.filename} cannot be written: {error.strerror}; choose another file\n")
        return WRONG
    return KEPT if kept else BROKEN


def _simulate(name: str, *, as_json: bool, file: Path | None, seed: int | None) -> bool:
    """Whether all promises were kept."""
    bootstrap.load_placement()
    scenario = reading.load(name)
    if seed is not None:
        scenario = replace(scenario, seed=seed)
    if file is not None:
        file.touch()  # a day of work is not for nothing
    tally = Simulation(scenario, _progress()).run()
    summary, speed = tally.summary(), tally.speed()
    if as_json:
        told = {"scenario": scenario.name, "seed": scenario.seed, **summary, "speed": speed}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.write(telling.told(scenario.name, summary, speed))
    if file is not None:
        file.write_text(page(scenario, tally, summary, speed), encoding="utf-8")
        sys.stderr.write(f"the page is in {file}\n")
    return tally.kept


def _progress() -> Callable[[float], None]:
    """On a terminal one line that moves, else a line now and then."""
    moves, last = sys.stderr.isatty(), [time.monotonic()]

    def tell(share: float) -> None:
        if moves:
            sys.stderr.write(f"\rsimulating: {share:4.0%}" + ("\n" if share >= 1 else ""))
        elif time.monotonic() - last[0] >= TELL_EVERY_S:
            last[0] = time.monotonic()
            sys.stderr.write(f"simulating: {share:.0%}\n")
        sys.stderr.flush()

    return tell


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
