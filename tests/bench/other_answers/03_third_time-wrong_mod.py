"""A global counter that works for each run, as long as the worker lives."""

from temporalio import activity

calls = 0


@activity.defn
def third_time(word: str) -> str:
    global calls
    calls += 1
    if calls % 3:
        raise OSError("no")
    return word
