"""The predictions of notebook 13. Each is compared with what was measured."""

from labkit.bench import Prediction


def drifted(moved: dict[str, float]) -> tuple[int, str]:
    names = [name for name, most in moved.items() if most > 0.1]
    return len(names), f"{' and '.join(names)} moved by more than a tenth of a standard deviation."


drifting = Prediction("How many of the three files will have drifted?", drifted)
