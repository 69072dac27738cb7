"""`python -m workers work | statuses | provider NAME | tick | router | up [LIFELINE] | nodes ... | hang-up`."""

from __future__ import annotations

import logging
import sys

USAGE = (
    "usage: python -m workers work | statuses | provider NAME | tick | router | up [LIFELINE] | nodes OPTION... | "
    "hang-up\n"
)
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main(arguments: list[str]) -> int:
    """Serve until told to end; 2 for arguments that say nothing."""
    match arguments:
        case ["up", *lifeline] if len(lifeline) <= 1:
            from workers.supervisor import serve

            logging.basicConfig(level="INFO", format=FORMAT)
            return serve(int(lifeline[0]) if lifeline else None)
        case ["nodes", *options]:
            from workers.nodes import main as serve_nodes

            serve_nodes(options)
            return 0
        case _:
            return _serve_application(arguments)


def _serve_application(arguments: list[str]) -> int:
    from workers.tasks import application

    logging.basicConfig(level=application().settings.log_level, format=FORMAT)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)  # says every login
    match arguments:
        case ["work"]:
            from workers.worker import serve_work

            serve_work()
        case ["statuses"]:
            from workers.worker import serve_statuses

            serve_statuses()
        case ["provider", name]:
            from workers.worker import serve_provider

            serve_provider(name)
        case ["tick"]:
            from workers.tick import TickProcess

            TickProcess(application()).run()
        case ["router"]:
            application().run_router()
        case ["hang-up"]:
            application().hang_up()
        case _:
            sys.stderr.write(USAGE)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
