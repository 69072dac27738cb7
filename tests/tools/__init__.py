"""Tools around the tests."""
