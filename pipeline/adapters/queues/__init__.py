"""Queues carry jobs to workers."""
