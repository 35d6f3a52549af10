"""The description of a data set, ``config/dataset.yml``: what its columns are, said once.

The checks of a file, the training, the model servers' requests and the panel are made from it. A
run goes by the description as it was when the run's data was read, and so does its model.
"""

import difflib
import hashlib
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from temporalio.exceptions import ApplicationError

from labkit.core.files import write_once
from labkit.core.settings import LabError, paths

FILE = "dataset.yml"
SHOWN = 3
NAMED_AT_MOST = 12
ROWS_AT_MOST = 10_000


def plain(name: str) -> str:
    """``Whole weight``, ``whole_weight``, ``WholeWeight`` and ``Whole.weight`` are one name."""
    return re.sub(r"[\W_]", "", name.lower())


def _patterns(words: dict[str, str]) -> dict[str, str]:
    for pattern in words:
        try:
            re.compile(pattern)
        except re.error as err:
            raise ValueError(f"{pattern!r} is no pattern: {err}") from None
    return words


class Strict(BaseModel):
    """A key that is misspelt is refused, not passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Column(Strict):
    kind: Literal["number", "whole", "category", "skip"]
    values: list[StrictStr | StrictInt] = []
    range: tuple[float | None, float | None] = (None, None)
    missing: Literal["refused", "filled"] = "refused"
    median_at_most: float | None = None
    unit: str = ""
    says: str = ""
    example: StrictStr | StrictInt | float | None = None

    @field_validator("values", mode="before")
    @classmethod
    def _quoted(cls, values: Any) -> Any:
        if isinstance(values, list) and not {type(value) for value in values} <= {str, int}:
            raise ValueError('a value is a text or a whole number; write others in quotes: "no"')
        return values

    @model_validator(mode="after")
    def _fits(self) -> "Column":
        low, high = self.range
        if (self.kind == "category") != bool(self.values):
            raise ValueError(f"a {self.kind} {'has no' if self.values else 'needs its'} values")
        if len(set(map(str, self.values))) < len(self.values) or "" in self.values:
            raise ValueError("each of the values must be another one, and none may be empty")
        if self.kind in ("category", "skip") and self.range != (None, None):
            raise ValueError(f"a {self.kind} has no range")
        if low is not None and high is not None and low >= high:
            raise ValueError(f"the range ends at {high:g}, which is not above {low:g}")
        if self.example is not None and self.kind != "skip":
            try:
                TypeAdapter(self.as_json()).validate_python(self.example)
            except ValidationError as err:
                raise ValueError(
                    f"the example {self.example!r}: {err.errors()[0]['msg']}"
                ) from None
        return self

    @property
    def filled(self) -> bool:
        return self.missing == "filled"

    @property
    def texts(self) -> list[str]:
        """The values of a category as a CSV has them."""
        return [str(value) for value in self.values]

    @property
    def wanted(self) -> str:
        """What a value must be, in words."""
        if self.kind == "category":
            *others, last = self.texts
            return f"{', '.join(others)} or {last}" if others else last
        low, high = self.range
        what = "a whole number" if self.kind == "whole" else "a number"
        if low is not None and high is not None:
            return f"{what} from {low:g} to {high:g}"
        least, most = low is not None, high is not None
        return (
            f"{what} of at least {low:g}" if least else f"{what} up to {high:g}" if most else what
        )

    def as_json(self) -> Any:
        """The type of a value in a request to a model server."""
        if self.kind == "category":
            values: Any = Literal[tuple(self.texts)]
            return Annotated[values, BeforeValidator(_number_as_text)]
        low, high = self.range
        number: type = int if self.kind == "whole" else float
        return Annotated[number, Field(ge=low, le=high, allow_inf_nan=False)]


class Gate(Strict):
    """The thresholds; each means what it means in ``config/quality_gate.yml``."""

    accuracy: float
    mae: float
    r2_score: float
    approval_accuracy: float


class Description(Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z][\w-]{0,39}$")]
    says: str = ""
    separator: Literal[",", ";", "\t", "|"] = ","
    target: str
    within: Annotated[float, Field(gt=0)]
    gate: Gate | None = None
    example: str = "the example"
    columns: dict[str, Column]
    other_names: dict[str, str] = {}
    hints: dict[str, dict[str, str]] = {}
    other_units: str = "Mend the unit, or the median_at_most in config/dataset.yml."

    @field_validator("other_names")
    @classmethod
    def _names(cls, words: dict[str, str]) -> dict[str, str]:
        return _patterns(words)

    @field_validator("hints")
    @classmethod
    def _values(cls, words: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        return {column: _patterns(hints) for column, hints in words.items()}

    @model_validator(mode="after")
    def _fits(self) -> "Description":
        if (target := self.columns.get(self.target)) is None:
            raise ValueError(f"the target {self.target!r} is not one of the columns")
        if target.kind not in ("number", "whole") or target.filled:
            raise ValueError(f"the target {self.target!r} must be a number in every row")
        names = [plain(name) for name in self.columns]
        for name in self.columns:
            if not plain(name) or names.count(plain(name)) > 1:
                raise ValueError(f"the column {name!r} needs a name of its own, with a letter")
        if unknown := self.hints.keys() - self.columns.keys():
            raise ValueError(f"hints name {', '.join(unknown)}, which is not one of the columns")
        if not self.features:
            raise ValueError("there is no column to predict from")
        if lacking := [
            n for n, it in self.features.items() if it.example is None and not it.filled
        ]:
            raise ValueError(f"these columns need an example: {', '.join(lacking)}")
        return self

    @cached_property
    def features(self) -> dict[str, Column]:
        """The columns that a model predicts from, in order."""
        return {
            name: column
            for name, column in self.columns.items()
            if column.kind != "skip" and name != self.target
        }

    @cached_property
    def known(self) -> dict[str, str]:
        """The names of all columns by their plain form."""
        return {plain(name): name for name in self.columns}

    @property
    def needed(self) -> list[str]:
        """The columns that a table of it has, the target last."""
        return [*self.features, self.target]

    @property
    def layout(self) -> str:
        """The needed columns in words, in their order in a file; of many, the first few."""
        names = [name for name in self.columns if name in self.needed]
        more = f" and {len(names) - NAMED_AT_MOST} more, as config/{FILE} says"
        return ", ".join(names[:NAMED_AT_MOST]) + more * (len(names) > NAMED_AT_MOST)

    @property
    def unit(self) -> str:
        """In what predictions are."""
        return self.columns[self.target].unit or self.target

    @property
    def sample(self) -> dict[str, Any]:
        """A row to try a model with."""
        return {n: c.example for n, c in self.features.items() if c.example is not None}

    @property
    def sha256(self) -> str:
        """Of all that is said in it; comments do not count."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @cached_property
    def instance(self) -> type[BaseModel]:
        """One row in a request. Its fields have numbers; the names in JSON may be any."""
        fields: dict[str, Any] = {}
        for number, (name, column) in enumerate(self.features.items()):
            says = " ".join(filter(None, (column.says, column.unit and f"[{column.unit}]"))) or None
            examples = None if column.example is None else [column.example]
            title = name.replace("_", " ").title()
            options: Any = {
                "alias": name,
                "title": title,
                "description": says,
                "examples": examples,
            }
            kind = column.as_json()
            fields[f"field_{number}"] = (
                (kind | None, Field(None, **options)) if column.filled else (kind, Field(**options))
            )
        forbid = ConfigDict(extra="forbid")
        return create_model("Instance", __config__=forbid, __doc__=self.says, **fields)

    @cached_property
    def request(self) -> type[BaseModel]:
        """The body of a request for predictions."""
        rows: Any = list[self.instance]  # type: ignore[name-defined]
        size = Field(min_length=1, max_length=ROWS_AT_MOST)
        return create_model("PredictRequest", instances=(Annotated[rows, size], ...))


def _number_as_text(value: Any) -> Any:
    """JSON may have the category 1 as a number."""
    return str(value) if type(value) is int else value


def description() -> Description:
    """The one of ``config/dataset.yml``.

    Raises:
        LabError: it cannot be used; with the file, the line and the mend.
    """
    path = paths().config / FILE
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise LabError(f"{path} is missing. Restore it with: git checkout config/{FILE}") from None
    except UnicodeDecodeError as err:
        raise LabError(f"{path} is not UTF-8: {err}. Save it as UTF-8.") from None


def of_run(model_id: str) -> Description:
    """The one that a run's data was read by; the present one when nothing was read yet."""
    kept = _kept(model_id)
    return Description.model_validate_json(kept.read_bytes()) if kept.exists() else description()


def keep(model_id: str, described: Description) -> None:
    """Let what follows in the run go by this one, whatever becomes of ``config/dataset.yml``.

    Raises:
        ApplicationError: another attempt has read the data by another one. The next one goes by it.
    """
    content = described.model_dump_json().encode()
    if write_once(_kept(model_id), content) != content:
        raise ApplicationError("another attempt was first, with another description of the data")


def _kept(model_id: str) -> Path:
    return paths().processed / f"{model_id}.dataset.json"


def parse(text: str, where: str) -> Description:
    """
    Raises:
        LabError: it is no description; ``where``, the lines, and what is wrong there.
    """
    import yaml

    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise LabError(f"{where} is not valid YAML: {err}. Mend the line it names.") from None
    found = [f"line {line}: {name} stands there twice" for line, name in _twice(tree)]
    try:
        if not found:
            return Description.model_validate(content)
    except ValidationError as err:
        found = [f"line {_line(tree, e['loc'])}: {_complaint(e)}" for e in err.errors()]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise LabError(
        f"{where} cannot be used. {'; '.join(found[:SHOWN])}{more}. Mend that and drop the file "
        f"again."
    )


def _twice(node: Any) -> list[tuple[int, str]]:
    """The keys that a mapping has twice: YAML would take the last one, and say nothing."""
    found, seen = [], set()
    for child in getattr(node, "value", None) or []:
        if isinstance(child, tuple):
            key, child = child
            found += [(key.start_mark.line + 1, str(key.value))] * (str(key.value) in seen)
            seen.add(str(key.value))
        if not isinstance(child, str):
            found += _twice(child)
    return found


def _line(node: Any, loc: tuple[int | str, ...]) -> int:
    """The line of what an error is about, or of what it is in."""
    line = node.start_mark.line + 1 if node else 1
    for part in loc:
        pairs = node.value if isinstance(getattr(node, "value", None), list) else []
        found = [pair for pair in pairs if isinstance(pair, tuple) and pair[0].value == str(part)]
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def _complaint(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]) or "the description"
    if error["type"] == "extra_forbidden":
        model = Column if error["loc"][0] == "columns" else Description
        near = difflib.get_close_matches(str(error["loc"][-1]), [*model.model_fields], 1)
        return f"{where} is not known{f' ({near[0]}?)' if near else ''}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}"
