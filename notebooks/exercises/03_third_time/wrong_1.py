"""Attempts are counted from 1, and it counts from 0.

The check says: expected 3 attempts, got 2
"""

from temporalio import activity


@activity.defn
def third_time(word: str) -> str:
    attempt = activity.info().attempt
    if attempt < 2:
        raise RuntimeError(f"attempt {attempt} fails")
    return word
