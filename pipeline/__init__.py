"""Greenroom: whole, real, throw-away server environments for integration tests."""
