"""Metrics, each a function with its definition in the docstring."""
