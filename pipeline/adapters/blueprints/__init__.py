"""Readers of blueprints."""
