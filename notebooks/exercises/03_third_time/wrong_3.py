"""It counts in a global, which all runs share and a new worker has not.

The check says: the next run needs three attempts again: expected 3 attempts, got 1
"""

from temporalio import activity

calls = 0


@activity.defn
def third_time(word: str) -> str:
    global calls
    calls += 1
    if calls < 3:
        raise RuntimeError(f"call {calls} fails")
    return word
