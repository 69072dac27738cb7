"""`python -m workers work | provider NAME | tick`."""

from __future__ import annotations

import logging
import sys


def main(arguments: list[str]) -> int:
    """Serve until told to end; 2 for arguments that say nothing."""
    from workers.tasks import application

    logging.basicConfig(
        level=application().settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    match arguments:
        case ["work"]:
            from workers.worker import serve_work

            serve_work()
        case ["provider", name]:
            from workers.worker import serve_provider

            serve_provider(name)
        case ["tick"]:
            from workers.tick import TickProcess

            TickProcess(application()).run()
        case _:
            sys.stderr.write("usage: python -m workers work | provider NAME | tick\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
