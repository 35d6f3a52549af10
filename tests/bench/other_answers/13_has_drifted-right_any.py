import pandas as pd
from scipy.stats import wasserstein_distance

COLUMNS = ["length", "diameter", "height", "whole_weight"]
COLUMNS += ["shucked_weight", "viscera_weight", "shell_weight"]


def has_drifted(old: pd.DataFrame, new: pd.DataFrame) -> bool:
    """Whether a column has moved by more than 0.1 standard deviations of its old values.

    With fewer than 500 new rows, by more than 0.3.
    """
    limit = 0.3 if len(new) < 500 else 0.1
    for name in COLUMNS:
        spread = old[name].std(ddof=0)
        if wasserstein_distance(old[name] / spread, new[name] / spread) > limit:
            return True
    return False
