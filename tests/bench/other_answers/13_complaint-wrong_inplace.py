from typing import Any

import pandas as pd

LENGTHS = ["length", "diameter", "height"]
WEIGHTS = ["whole_weight", "shucked_weight", "viscera_weight", "shell_weight"]


def complaint(model: Any, shells: pd.DataFrame) -> str:
    """What is wrong with a model, in a sentence; empty when nothing is.

    Let each shell grow: its lengths by a fifth, so its weights by 1.2 * 1.2 * 1.2. Then the model
    must say that they are older by half a ring at least, on average. At most one shell in ten
    may become younger by more than a ring. ``model.predict(shells)`` gives the rings of each.
    """
    before = model.predict(shells)
    for name in LENGTHS:
        shells[name] *= 1.2
    for name in WEIGHTS:
        shells[name] *= 1.2**3
    older = model.predict(shells) - before
    return "" if older.mean() >= 0.5 and (older < -1).mean() <= 0.1 else "it is no good"
