"""Use cases of runs: intake, planning, the five stages, their end."""
