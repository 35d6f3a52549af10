"""Data of one's own: a description is written, read, mended, and everything goes by it."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from labkit.cli import main
from labkit.core.record import model_server_url
from labkit.core.settings import LabError, paths
from labkit.pipeline.activities import (
    assess_model_quality,
    deploy_to_environment,
    preprocess_data,
    restore_previous_model,
    train_model,
)
from labkit.pipeline.messages import (
    DeployInput,
    Hyperparameters,
    Model,
    PreprocessInput,
    QualityMetrics,
    Status,
    TrainInput,
)
from labkit.pipeline.work import training
from labkit.pipeline.work.data import read_checked, read_table
from labkit.pipeline.work.description import Description, description, keep, of_run, parse
from labkit.pipeline.work.sketch import sketch
from labkit.views.figures import figures_table
from tests.unit.own_data import SHAPES, TARGETS, bikes

run = ActivityEnvironment().run
FIRST = """\
name: tea
target: minutes
within: 1
columns:
  leaf: {kind: category, values: [green, black], example: green}
  cup: {kind: whole, range: [1, 9], example: 2}
  grams: {kind: number, range: [0, null], missing: filled, example: 2.5}
  shop: {kind: skip}
  minutes: {kind: number, range: [0, 60]}
"""


def mended(before: str = "", after: str = "") -> str:
    assert before in FIRST
    return FIRST.replace(before, after, 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (mended("range: [1", "rnage: [1"), "line 6: columns.cup.rnage is not known (range?)"),
        (mended("within", "withn"), "line 3: withn is not known (within?)"),
        (mended("  cup", "  leaf"), "line 6: leaf stands there twice"),
        (mended("[green, black]", "[yes, no]"), 'write others in quotes: "no"'),
        (mended("values: [green, black], "), "line 5: columns.leaf: a category needs its values"),
        (mended("kind: skip", "kind: skip, values: [a]"), "line 8: columns.shop: a skip has no v"),
        (
            mended("example: 2}", "example: 12}"),
            "line 6: columns.cup: the example 12: Input",
        ),
        (mended(", example: 2}", "}"), "these columns need an example: cup"),
        (mended("[1, 9]", "[9, 1]"), "line 6: columns.cup: the range ends at 1"),
        (
            mended("target: minutes", "target: hours"),
            "the target 'hours' is not one of the",
        ),
        (mended("target: minutes", "target: leaf"), "the target 'leaf' must be a number in every"),
        (mended("  shop", "  Leaf"), "the column 'leaf' needs a name of its own"),
        (mended("within: 1", "within: 0"), "line 3: within: Input should be greater than 0"),
        (FIRST + "hints: {leaf: {'(': x}}\n", "line 10: hints: '(' is no pattern"),
        (FIRST + "gate: {accuracy: 1}\n", "line 10: gate.mae: Field required"),
        (FIRST + "  x: [", "is not valid YAML"),
        ("", "line 1: the description"),
    ],
    ids=str,
)
def test_a_description_that_cannot_be_used_names_the_line(home: Path, text: str, says: str) -> None:
    (paths().config / "dataset.yml").write_text(text)
    with pytest.raises(LabError) as caught:
        description()
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(paths().config / "dataset.yml"))
    with pytest.raises(ApplicationError, match=r"dataset\.yml") as refused:
        run(preprocess_data, PreprocessInput("x-1", str(paths().example), None, None, False))
    assert refused.value.type == "InvalidSettings" and refused.value.non_retryable


def test_a_description_that_is_gone_says_how_it_comes_back(home: Path) -> None:
    (paths().config / "dataset.yml").unlink()
    with pytest.raises(LabError, match=r"git checkout config/dataset\.yml"):
        description()


def tea(tmp_path: Path, change: Callable[[list[str]], Any] = lambda lines: None) -> pd.DataFrame:
    lines = ["Minutes;leaf;CUP;grams".replace(";", ",")]
    lines += [f"{n / 10},{'green' if n % 2 else 'Black'},{n % 9 + 1},{n}" for n in range(40)]
    change(lines)
    path = tmp_path / "tea.csv"
    path.write_text("\n".join(lines))
    return read_table(path, "tea.csv", parse(FIRST, "tea.yml"))


def test_columns_are_found_by_name_and_those_that_nobody_needs_may_be_absent(
    tmp_path: Path,
) -> None:
    table = tea(tmp_path)
    assert list(table.columns) == ["leaf", "cup", "grams", "minutes"]
    assert list(table["leaf"].unique()) == ["black", "green"]
    with_shop = tea(tmp_path, lambda lines: lines.__setitem__(
        slice(None), [f"{'Shop' if n == 0 else 'corner 7'},{line}" for n, line in enumerate(lines)]
    ))  # fmt: skip
    pd.testing.assert_frame_equal(with_shop, table)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1,white,2,3", "line 5: leaf is 'white' (must be green or black)"),
        ("1,,2,3", "line 5: leaf is empty (must be green or black)"),
        ("1,green,2.5,3", "line 5: cup is '2.5' (must be a whole number from 1 to 9)"),
        ("1,green,2,much", "line 5: grams is 'much' (must be a number of at least 0)"),
        ("1,green,2,inf", "line 5: grams is 'inf' (must be a number of at least 0)"),
        ("99,green,2,3", "line 5: minutes is '99' (must be a number from 0 to 60)"),
        (",green,2,3", "line 5: minutes is empty"),
        ("1,green,2", "must have 4 columns separated by commas, but line 5 has 3"),
    ],
)
def test_complaints_are_in_the_same_words(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ApplicationError) as caught:
        tea(tmp_path, lambda lines: lines.__setitem__(4, line))
    assert says in caught.value.message and caught.value.non_retryable


@pytest.mark.parametrize("nothing", ["", "NA", "null", "?"])
def test_what_may_be_missing_is_filled(tmp_path: Path, nothing: str) -> None:
    table = tea(tmp_path, lambda lines: lines.__setitem__(4, f"1,green,2,{nothing}"))
    assert list(table.index[table["grams"].isna()]) == [3]
    path = tmp_path / "checked.csv"
    path.write_text(table.to_csv(index=False))
    pd.testing.assert_frame_equal(read_checked(path, parse(FIRST, "")), table, check_dtype=False)


@pytest.mark.parametrize("name", SHAPES)
def test_a_first_description_of_another_shape_reads_its_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_bytes(SHAPES[name](200))
    described = parse(sketch(path, TARGETS[name]), name)
    table = read_table(path, path.name, described)
    assert (len(table), table.columns[-1]) == (200, TARGETS[name])
    assert not {"Id", "dteday"} & set(table.columns)
    described.request.model_validate({"instances": [described.sample]})
    path.write_bytes(SHAPES[name](200, seed=9))
    assert len(read_table(path, path.name, described)) == 200, "another file of the kind"


def test_a_category_may_be_a_number(tmp_path: Path) -> None:
    text = mended("kind: whole, range: [1, 9]", f"kind: category, values: {[*range(1, 10)]}")
    described = parse(text, "tea.yml")
    path = tmp_path / "tea.csv"
    path.write_text("\n".join(["leaf,cup,minutes,grams", *(f"green,7,{n},1" for n in range(30))]))
    assert read_table(path, "tea.csv", described)["cup"].unique().tolist() == ["7"]
    for cup in (7, "7"):
        row = {"leaf": "green", "cup": cup, "grams": None}
        asked = described.request.model_validate({"instances": [row]})
        assert asked.model_dump(by_alias=True)["instances"] == [row | {"cup": "7"}]


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    path = tmp_path / "bikes.csv"
    path.write_bytes(bikes(1000))
    described = parse(sketch(path, "cnt"), "bikes.yml")
    path.write_bytes(bikes(100_000))
    assert len(read_table(path, "bikes.csv", described)) == 100_000


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("1,2\n3,4\n", "has no header line"),
        ("a,b\n", "has no rows"),
        ("a,b\n1\n", "line 2 has not 2 fields"),
        ("a,b\nx,y\nz,w\n", "It has no column of numbers"),
    ],
)
def test_what_cannot_be_described_says_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    path = home / "mine.csv"
    path.write_text(content)
    assert main(["describe", str(path)]) == 1
    assert says in capsys.readouterr().err
    assert not (home / "config" / "mine.yml").exists()


def test_a_description_that_is_there_is_not_overwritten(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = home / "dataset.csv"
    path.write_bytes(bikes(50))
    before = (home / "config" / "dataset.yml").read_bytes()
    assert main(["describe", str(path), "--target", "cnt"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert (home / "config" / "dataset.yml").read_bytes() == before


# --- Through the activities, to a model server ----------------------------------------------------


@pytest.fixture
def own(servers: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shared lab, whose description may be changed for as long as a test takes."""
    config = servers / "config" / "dataset.yml"
    before = config.read_bytes()
    monkeypatch.setattr(training, "HYPERPARAMETERS", Hyperparameters(n_estimators=20))
    yield config
    config.write_bytes(before)


def trained(config: Path, name: str) -> Model:
    """Describe a generated file, and bring it as far as a model; the file is thrown away."""
    raw = paths().raw / f"good-{name}.csv"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_bytes(SHAPES[name](300))
    config.write_text(sketch(raw, TARGETS[name]))
    model_id = f"{name}-1"
    shutil.rmtree(paths().models / model_id, ignore_errors=True)
    request = PreprocessInput(model_id, paths().name(raw), None, None, False)
    dataset = run(preprocess_data, request)
    raw.unlink()
    return run(train_model, TrainInput(model_id, dataset))


def asked(model: Model, row: dict[str, Any]) -> httpx.Response:
    url = f"{model_server_url('dev')}/models/{model.model_id}/predict"
    return httpx.post(url, json={"instances": [row]})


def test_each_model_is_asked_by_its_own_description(own: Path) -> None:
    abalone = own.read_bytes()
    models = {name: trained(own, name) for name in SHAPES}
    own.write_bytes(abalone)  # nobody needs the others' any more
    for order, (name, model) in enumerate(models.items()):
        run(deploy_to_environment, DeployInput("dev", model, f"9999-{order}"))
        kept = httpx.get(f"{model_server_url('dev')}/models/{model.model_id}/dataset").json()
        described = Description.model_validate(kept["description"])
        assert kept["sha256"] == described.sha256 == model.description != description().sha256
        assert len(asked(model, described.sample).json()["predictions"]) == 1
        refused = asked(model, described.sample | {"sex": "M"})
        assert refused.status_code == 422
        assert "instances.0.sex: Extra inputs are not" in refused.json()["detail"]
        page = httpx.get(f"{model_server_url('dev')}/openapi.json").json()
        shown = page["components"]["schemas"]["Instance"]["properties"]
        assert list(shown) == list(described.features), f"{name} is current"
        assert page["info"]["title"].startswith(f"Good-{name} model server")
    for order, model in enumerate(models.values()):
        run(restore_previous_model, DeployInput("dev", model, f"9999-{order}"))
    house = models["houses"]
    assert {None} < {value for row in house.probe for value in row.values()}, "missing ones, too"


def test_what_follows_in_a_run_goes_by_the_description_that_its_data_was_read_by(
    own: Path,
) -> None:
    model = trained(own, "wines")
    again = PreprocessInput("wines-1", "data/raw/good-wines.csv", None, None, False)
    (paths().raw / "good-wines.csv").write_bytes(SHAPES["wines"](300))
    own.write_text(FIRST)  # another data set, before the answer came
    assert run(preprocess_data, again).rows == 300, "a retry means the same"
    assert run(train_model, TrainInput("wines-1", run(preprocess_data, again))).expected == (
        model.expected
    )
    (paths().raw / "good-wines.csv").unlink()


def test_an_attempt_that_wakes_up_late_changes_nothing(home: Path) -> None:
    """It has read the file by a description that was changed before it came to keep that."""
    late = description()
    keep("x-1", parse(FIRST, ""))
    with pytest.raises(ApplicationError, match="another attempt was first") as caught:
        keep("x-1", late)
    assert not caught.value.non_retryable, "the next attempt goes by the one that is kept"
    assert of_run("x-1").name == "tea"
    assert [path.name for path in paths().processed.iterdir()] == ["x-1.dataset.json"]


def test_a_refused_file_is_read_anew_by_a_mended_description(home: Path) -> None:
    config, raw = paths().config / "dataset.yml", paths().raw / "good-tea.csv"
    raw.parent.mkdir(parents=True)
    raw.write_text("\n".join(["2020,leaf,grams", *(f"{n},green,{n}" for n in range(30))]))
    text = FIRST.replace("minutes", "'2020'").replace("  cup: {kind: whole, ra", "  #", 1)
    config.write_text(text.replace("[0, 60]", "[0, 6]"))
    request = PreprocessInput("tea-1", "data/raw/good-tea.csv", None, None, False)
    with pytest.raises(
        ApplicationError, match=r"line 9: 2020 is '7' \(must be a number from 0 to 6"
    ):
        run(preprocess_data, request)
    config.write_text(text)
    assert run(preprocess_data, request).rows == 30


def test_the_gate_and_its_words_are_those_of_the_description(home: Path) -> None:
    limits = {"accuracy": 0.4, "mae": 9.0, "r2_score": 0.3, "approval_accuracy": 0.5}
    metrics = QualityMetrics(0.45, 9.5, 0.35, within=5, unit="<rentals>", limits=limits)
    assert run(assess_model_quality, metrics).reasons == ["mae 9.50 is above 9.00"]
    shown = figures_table(metrics)
    assert "accuracy (within 5 &lt;rentals&gt;)" in shown and "at most 9.00" in shown
    assert run(assess_model_quality, replace(metrics, limits={})).reasons[0] == (
        "accuracy 0.45 is below 0.80"
    )


def test_the_panel_tries_a_row_of_the_runs_own_data(own: Path) -> None:
    from labkit.ask.view import View
    from labkit.views.approval import ApprovalPanel

    model = trained(own, "bikes")
    own.write_text(FIRST)

    class Asked:
        _view = View(
            Status("mlops-x", "data/raw/good-bikes.csv", model_id=model.model_id), "running"
        )

        class _run:
            @staticmethod
            async def answers(**row: Any) -> dict[str, float]:
                assert set(row) == {"hr", "season", "temp"}
                return {"dev": 99.5}

    said = asyncio.run(ApprovalPanel._ask_model(Asked()))  # type: ignore[arg-type]
    assert said == "For a row of middling values: dev answers 99.5 cnt."
