from temporalio import activity


@activity.defn
def third_time(word: str) -> str: ...  # fails twice; the third attempt returns the word
