"""The exercises and predictions of a notebook, found beside it.

``notebooks/exercises/<NN>_<name>/check.py`` holds an ``exercise``, and
``notebooks/exercises/<NN>_predictions.py`` the notebook's predictions, each under its own name::

    attempts = Prediction("How many attempts will it need?", lambda run: (1, "nothing failed"))
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.bench import record
from labkit.bench.cells import Mine, open_mine, register
from labkit.bench.exercise import Exercise
from labkit.bench.tryworker import CONTENT, load_file
from labkit.core.paths import REPOSITORY, LabError

ROOT = REPOSITORY / "notebooks" / "exercises"
# Checks import what they share, and what their notebook does, here and in worker processes.
sys.path += [str(ROOT), str(ROOT.parent)]


def folders(number: str = "") -> list[Path]:
    """The exercises' folders, of one notebook or of all."""
    return sorted(file.parent for file in ROOT.glob(f"{number}*_*/check.py"))


def exercises(number: str) -> "Exercises":
    """The exercises of a notebook, such as ``"00"``; offers the cell magic ``%%mine`` as well.

    Raises:
        LabError: there is no such notebook.
    """
    found = sorted((REPOSITORY / "notebooks").glob(f"{number}-*.ipynb"))
    if not found and not folders(number):
        known = ", ".join(sorted({folder.name[:2] for folder in folders()}))
        raise LabError(f"There are no exercises for {number!r}. There are some for {known}.")
    modules = open_mine(found[0].stem if found else number)
    register(modules)
    return Exercises(number, modules)


class Exercises:
    """Each exercise and each prediction by its name."""

    def __init__(self, number: str, modules: Mine) -> None:
        self._number, self._modules = number, modules
        self._found = {folder.name[3:]: folder for folder in folders(number)}
        self._predictions = _predictions(number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._predictions:
            return self._predictions[name]
        if name not in self._found:
            raise UnknownExercise(
                f"Notebook {self._number} has no exercise {name!r}. It has {', '.join(dir(self))}."
            )
        return load(self._found[name], self._modules)

    def __dir__(self) -> list[str]:
        return [*self._found, *self._predictions]

    def __repr__(self) -> str:
        kept, lines = record.read(), []
        for name, folder in self._found.items():
            outcome = kept.get(folder.name, {}).get("outcome", record.NOT_ATTEMPTED)
            lines.append(f"{name:<16}{outcome:<16}{getattr(self, name).task}")
        return "\n".join(lines)


class UnknownExercise(LabError, AttributeError):
    """There is no exercise of that name."""


def load(folder: Path, modules: Mine) -> Exercise:
    """The exercise of a folder; imported once."""
    name = f"{CONTENT}{folder.name}"
    module = sys.modules.get(name) or load_file(name, folder / "check.py")
    exercise: Exercise = module.exercise
    exercise.place(folder, modules)
    return exercise


def _predictions(number: str) -> dict[str, "Prediction"]:
    file = ROOT / f"{number}_predictions.py"
    if not file.exists():
        return {}
    found = vars(load_file(f"{CONTENT}{number}_predictions", file))
    predictions = {name: p for name, p in found.items() if isinstance(p, Prediction)}
    for name, prediction in predictions.items():
        prediction.key = f"{number}_{name}"
    return predictions


class Prediction:
    """A question before a run, and its answer from what the run did.

    Args:
        question: what to predict.
        answer: of the run, to what it was and a few words on why.
    """

    def __init__(self, question: str, answer: Callable[[Any], tuple[Any, str]]) -> None:
        self.question, self.answer, self.key = question, answer, ""

    def predict(self, said: Any = None) -> None:
        """Keep an answer. It is not judged."""
        if said is None or said is ...:
            print(f"{self.question} Put what you think between the brackets.")
            return
        if not isinstance(said, (bool, int, float, str)):
            raise LabError("A prediction is a number or a word in quotes.")
        record.change(self.key, lambda entry: entry.update(said=said))
        print(f"Kept: {said}.")

    def compare(self, run: Any) -> None:
        """Say what it was, beside what was predicted."""
        was, why = self.answer(run)
        kept = record.change(self.key, lambda entry: entry.update(was=was))
        said = kept.get("said")
        if said is None:
            print(f"You had not predicted it. It was {was}: {why}")
        elif said == was and isinstance(said, bool) is isinstance(was, bool):
            print(f"You said {said}, and so it was: {why}")
        else:
            print(f"You said {said}. It was {was}: {why}")

    def __repr__(self) -> str:
        return self.question
