"""Greenroom's driver of Vagrant."""
