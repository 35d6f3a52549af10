"""The pipeline itself: what participants study.

Read in this order: ``messages`` (what travels), ``policies`` (how often each activity is tried),
``workflow`` (the order of things), ``activities`` (the work). What the activities do is in
``work``, one module a subject. The room knows nothing of notebooks, of how servers start, or of
threads.
"""
