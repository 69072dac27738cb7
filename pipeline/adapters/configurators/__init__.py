"""Configurators converge nodes: Chef, a script, and the twin for tests."""
