"""`python -m pipeline.adapters.configurators.chef DIRECTORY`: pack this machine's client there, and print the path."""

from __future__ import annotations

import sys

from pipeline.adapters.configurators.chef.local_client import pack_local_client


def main(directory: str) -> None:
    """Print nothing when there is no client to pack."""
    package = pack_local_client(directory)
    if package is not None:
        sys.stdout.write(f"{package.location}\n")


if __name__ == "__main__":
    main(sys.argv[1])
