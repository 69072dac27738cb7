"""Decides on which machines the nodes of an environment stand; the only room of the domain that uses numpy."""
