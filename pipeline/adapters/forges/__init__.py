"""Forges: who sends deliveries, and where commit statuses go."""
