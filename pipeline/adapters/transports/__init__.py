"""Channels to nodes."""
