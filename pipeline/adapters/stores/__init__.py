"""Stores keep the documents, index sets, events and job requests."""
