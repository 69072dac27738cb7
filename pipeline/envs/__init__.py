"""Use cases of environments: request, build, hand out, hold, take back."""
