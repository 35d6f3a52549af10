"""Exercises, one module a notebook."""
