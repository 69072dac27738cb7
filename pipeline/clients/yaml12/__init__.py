"""YAML 1.2 files of people: read with the place of every value, checked against a schema, mistakes told in words.

YAML and JSON Schema libraries are imported when they are first needed.
"""
