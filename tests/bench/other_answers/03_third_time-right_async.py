"""An async activity with an error of its own."""

from temporalio import activity


class Down(Exception): ...


@activity.defn
async def third_time(word: str) -> str:
    if activity.info().attempt != 3:
        raise Down
    return word
