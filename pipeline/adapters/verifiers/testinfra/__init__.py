"""testinfra suites of the repository, run by pytest in a sandbox."""

from pipeline.adapters.verifiers.testinfra.verifier import TestinfraVerifier

__all__ = ["TestinfraVerifier"]
