"""What notebook 11 asks before it looks."""

from collections import Counter
from collections.abc import Mapping, Sequence

from labkit.bench import Prediction
from labkit.core.settings import LabError


def _nights(said: str) -> tuple[int, str]:
    return said.count("2027-03-"), "a time that the clock leaves out is no time."


def _skipped(tallies: Mapping[str, Counter[str]]) -> tuple[int, str]:
    return tallies["SKIP"]["skipped"], "the first was at work when the others were due."


def _overtakes(order: Sequence[str]) -> tuple[int, str]:
    if "urgent" not in order:
        raise LabError("Nothing has run since. Go back to the cell that asks for the urgent one.")
    return order.index("urgent"), "whoever waits is sorted by the key, whenever it came."


nights = Prediction(
    "The plan is for 02:30. How many runs are due in the four nights from 27 to 30 March 2027?",
    _nights,
)
skipped = Prediction(
    "Of the seven nights that are back-filled at once, how many does the policy SKIP leave out?",
    _skipped,
)
overtakes = Prediction(
    "Twelve files wait, and then an urgent one comes. How many go before the urgent one?",
    _overtakes,
)
