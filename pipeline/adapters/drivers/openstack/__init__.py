"""Servers of an OpenStack cloud, made and removed without anything in between."""
