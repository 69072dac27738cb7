"""One call of Vagrant as a program of its own: python-vagrant knows no time limits, and a session can be ended.

    python -m pipeline.adapters.drivers.vagrant.session up NODE ...
    python -m pipeline.adapters.drivers.vagrant.session destroy NODE ...
    python -m pipeline.adapters.drivers.vagrant.session box NAME FILE

It works in the directory that it is started in.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import vagrant

#: Names the session's leader, for whoever has to end what outlived it.
FILE = "session"


def pattern(nodes: Sequence[str]) -> str:
    """Name several machines to Vagrant, which takes one name or one expression."""
    return f"/^({'|'.join(re.escape(node) for node in nodes)})$/"


def main(argv: Sequence[str]) -> int:
    """Do one thing; Vagrant's own exit status."""
    what, *names = argv
    Path(FILE).write_text(str(os.getpid()))
    # What it writes goes where ours goes.
    program = vagrant.Vagrant(root=".", out_cm=vagrant.none_cm, err_cm=vagrant.none_cm)
    try:
        if what == "up":
            program.up(vm_name=pattern(names))
        elif what == "destroy":
            program.destroy(vm_name=pattern(names))
        else:
            program.box_add(*names)
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 128 - error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
