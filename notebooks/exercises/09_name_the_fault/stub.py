from typing import Any


def name_the_fault(seen: dict[str, Any]) -> str:
    """What is wrong with an open run: one of these five.

    "no worker", "no such activity", "workflow fails", "activity fails", "activity hangs"

    ``seen`` is what temporal workflow describe -o json says of it.
    """
    ...
