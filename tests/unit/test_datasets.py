"""The example data: like the UCI file, always the same, and the real file when it is asked for."""

import hashlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pooch
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split

from labkit import datasets
from labkit.pipeline.work.data import read_table

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "data/examples/abalone.csv"


def _script() -> ModuleType:
    """``data/examples/make_abalone.py``, which made the file beside it."""
    path = EXAMPLE.with_name("make_abalone.py")
    spec = importlib.util.spec_from_file_location("make_abalone", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _script()
NUMBERS = list(datasets.COLUMNS[1:])
SPLITS = (42, 0, 1)


@pytest.fixture(scope="module")
def example() -> pd.DataFrame:
    return maker.make_abalone()


def forest_figures(table: pd.DataFrame, split: int) -> np.ndarray:
    """Accuracy (share within 3 rings), MAE and R2 on the held-out fifth."""
    features = pd.get_dummies(table.drop(columns="rings"), columns=["sex"])
    train, test, rings, truth = train_test_split(
        features, table["rings"], test_size=0.2, random_state=split
    )
    forest = RandomForestRegressor(n_estimators=100, max_depth=10, random_state=42)
    guess = forest.fit(train, rings).predict(test)
    close = np.mean(np.abs(truth - guess) <= 3)
    return np.array([close, mean_absolute_error(truth, guess), r2_score(truth, guess)])


def with_half_shuffled(table: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(42)
    chosen = rng.choice(len(table), len(table) // 2, replace=False)
    rings = table["rings"].to_numpy().copy()
    rings[chosen] = rng.permutation(rings[chosen])
    return table.assign(rings=rings)


@pytest.fixture(scope="module")
def example_figures(example: pd.DataFrame) -> np.ndarray:
    return np.array([forest_figures(example, split) for split in SPLITS])


def test_a_good_file_passes_the_gate_with_room(example_figures: np.ndarray) -> None:
    accuracy, mae, r2 = example_figures.T
    assert (accuracy > 0.86).all()
    assert (accuracy < 0.92).all()
    assert (mae < 1.7).all()
    assert (r2 > 0.52).all()


def test_a_shuffled_file_fails_the_gate(example: pd.DataFrame) -> None:
    bad = with_half_shuffled(example)
    accuracy, mae, r2 = np.array([forest_figures(bad, split) for split in SPLITS]).T
    assert (accuracy < 0.79).all()
    assert (mae > 2.0).all()
    assert (r2 < 0.20).all()


def test_the_model_does_not_hang_on_one_seed() -> None:
    accuracy, mae, r2 = forest_figures(maker.make_abalone(seed=7), 42)
    assert accuracy > 0.86
    assert mae < 1.7
    assert r2 > 0.50


def test_columns_types_and_steps(example: pd.DataFrame) -> None:
    assert example.shape == (4177, 9)
    assert tuple(example.columns) == datasets.COLUMNS
    assert set(example["sex"]) == {"M", "F", "I"}
    assert example["rings"].dtype == "int64"
    assert example["rings"].min() >= 1
    for name in NUMBERS[:-1]:
        steps = example[name] * (2000 if name.endswith("weight") else 200)
        assert np.allclose(steps, steps.round(), atol=1e-9, rtol=0), name
        assert (example[name] > 0).sum() == 4177 - (2 if name == "height" else 0), name


def test_the_whole_weighs_no_less_than_its_parts(example: pd.DataFrame) -> None:
    parts = example[["shucked_weight", "viscera_weight", "shell_weight"]].sum(axis=1)
    assert (example["whole_weight"] - parts >= -0.001).all()


@pytest.mark.parametrize("rows", [1, 25, 10_000])
def test_any_number_of_rows(rows: int) -> None:
    table = maker.make_abalone(rows, seed=3)
    assert len(table) == rows
    assert table.notna().all(axis=None)
    assert (table["height"] == 0).sum() == 2 * (rows // 4000)


@pytest.mark.parametrize("rows", [0, -1])
def test_no_rows_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match=f"rows must be 1 or more, got {rows}"):
        maker.make_abalone(rows)


def test_the_seed_decides() -> None:
    once, again, other = (maker.make_abalone(100, seed) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(once, again)
    assert not once.equals(other)


def test_the_committed_file_is_what_the_model_writes(tmp_path: Path) -> None:
    maker.write_example(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == EXAMPLE.read_bytes()


def test_the_script_writes_it_beside_itself(tmp_path: Path) -> None:
    script = shutil.copy(EXAMPLE.with_name("make_abalone.py"), tmp_path)
    subprocess.run([sys.executable, script], check=True, timeout=60)
    assert (tmp_path / "abalone.csv").read_bytes() == EXAMPLE.read_bytes()


@pytest.mark.parametrize("rows", [1, 300, 4177, 10_000])
def test_rows_are_drawn_from_the_sample_and_each_once_while_they_last(rows: int) -> None:
    sample = EXAMPLE.read_bytes().splitlines()
    drawn = datasets.draw(rows).splitlines()
    assert len(drawn) == rows
    assert set(drawn) <= set(sample)
    assert len(set(drawn)) >= min(rows, len(set(sample)))
    assert drawn == datasets.draw(rows).splitlines()
    assert rows == 1 or drawn != datasets.draw(rows, seed=7).splitlines()


@pytest.mark.parametrize("rows", [300, 1000, 20_000])
def test_what_lessons_draw_passes_the_gate(rows: int, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_bytes(datasets.draw(rows))
    accuracy, mae, r2 = forest_figures(read_table(tmp_path / "good.csv", "good.csv"), 42)
    assert accuracy > 0.85 and mae < 2.0 and r2 > 0.5


@pytest.mark.parametrize("rows", [0, -1])
def test_no_rows_are_drawn(rows: int) -> None:
    with pytest.raises(ValueError, match=f"rows must be 1 or more, got {rows}"):
        datasets.draw(rows)


def test_the_committed_file_reads_back_as_the_table(example: pd.DataFrame) -> None:
    read = pd.read_csv(EXAMPLE, names=list(datasets.COLUMNS))
    pd.testing.assert_frame_equal(read, example)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own, and no proxy on the way to this machine."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache/labkit"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A server where UCI_URL points to a file of 27 bytes that is not UCI's."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "abalone.data").write_bytes(b"M,1,1,1,1,1,1,1,1\nnot UCI's")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(site)))
    monkeypatch.setattr(datasets, "UCI_URL", f"http://127.0.0.1:{server.server_port}/abalone.data")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def assert_names_address_and_mend(error: pytest.ExceptionInfo[OSError]) -> None:
    assert isinstance(error.value, OSError)
    assert datasets.UCI_URL in str(error.value)
    assert "data/examples/abalone.csv" in str(error.value)


@pytest.mark.usefixtures("server")
def test_fetch_refuses_another_file(cache: Path) -> None:
    with pytest.raises(datasets.DatasetUnavailable, match="sha256 is not the published") as error:
        datasets.fetch_uci()
    assert_names_address_and_mend(error)
    assert not list(cache.glob("*"))


def test_fetch_says_when_the_address_is_gone(
    server: ThreadingHTTPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "UCI_URL", datasets.UCI_URL + ".gone")
    with pytest.raises(datasets.DatasetUnavailable, match="404") as error:
        datasets.fetch_uci()
    assert_names_address_and_mend(error)


def test_fetch_says_when_there_is_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound_but_not_listening:
        bound_but_not_listening.bind(("127.0.0.1", 0))
        port = bound_but_not_listening.getsockname()[1]
        monkeypatch.setattr(datasets, "UCI_URL", f"http://127.0.0.1:{port}/abalone.data")
        with pytest.raises(datasets.DatasetUnavailable, match="refused") as error:
            datasets.fetch_uci()
    assert_names_address_and_mend(error)


def test_fetch_does_not_blame_the_file_for_a_bad_address(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "UCI_URL", "http:///abalone.data")
    with pytest.raises(datasets.DatasetUnavailable) as error:
        datasets.fetch_uci()
    assert "sha256" not in str(error.value)
    assert_names_address_and_mend(error)


def test_fetch_keeps_the_file_for_the_next_time(
    server: ThreadingHTTPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = b"M,1,1,1,1,1,1,1,1\nnot UCI's"
    monkeypatch.setattr(datasets, "UCI_SHA256", hashlib.sha256(served).hexdigest())
    assert datasets.fetch_uci().read_bytes() == served
    monkeypatch.setattr(datasets, "UCI_URL", "http://127.0.0.1:1/abalone.data")
    assert datasets.fetch_uci() == cache / "abalone.data"
    (cache / "abalone.data").write_bytes(b"spoilt")
    with pytest.raises(datasets.DatasetUnavailable):
        datasets.fetch_uci()
