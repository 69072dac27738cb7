"""Drivers: one file or package for each kind of provider."""
