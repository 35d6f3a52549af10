"""The pipeline itself: what participants study.

Read in this order: ``messages`` (what travels), ``policies`` (how often each activity is tried),
``workflow`` (the order of things), ``activities`` (the work, with one module a subject behind
them: ``data``, ``training``, ``tracking``, ``deployment``).
"""
