"""Logs and artifacts."""
