from temporalio import activity


@activity.defn
def third_time(word: str) -> str:
    attempt = activity.info().attempt
    if attempt < 3:
        raise RuntimeError(f"attempt {attempt} fails")
    return word
