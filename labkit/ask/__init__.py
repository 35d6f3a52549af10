"""Asking Temporal: what runs there are, what one is doing, what its history says. Values come back,
nothing is shown. Imports the pipeline and the ground floor only.
"""
