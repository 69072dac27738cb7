"""Repositories: exactly the commit, from a mirror that is kept."""
