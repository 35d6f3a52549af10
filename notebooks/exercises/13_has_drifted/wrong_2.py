"""The mean of the columns, where one that has moved is enough.

The check says: a single column has moved: yes
"""

import pandas as pd
from scipy.stats import wasserstein_distance

COLUMNS = ["length", "diameter", "height", "whole_weight"]
COLUMNS += ["shucked_weight", "viscera_weight", "shell_weight"]


def has_drifted(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    """Whether a column has moved by more than 0.1 standard deviations of its old values.

    With fewer than 500 new rows, by more than 0.3.
    """
    moved = [wasserstein_distance(old[name], new[name]) / old[name].std() for name in COLUMNS]
    return sum(moved) / len(moved) > (0.1 if len(new) >= 500 else 0.3)
