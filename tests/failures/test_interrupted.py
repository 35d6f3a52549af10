"""Cells that a participant interrupts midway, in a real kernel: all is put back."""

from pathlib import Path

from labkit import services
from labkit.core.envfile import write_env
from labkit.core.settings import paths
from labkit.faults import fault_file, read_fault
from tests.failures.conftest import SPEED
from tests.lab.test_lab_alone import Kernel

START = """
from labkit import Lab
lab = Lab.start()

"""
BLOCKS = {
    "fault": "with lab.fault('training'): run.follow()",
    # The password is right again before the server is back, which would fail the run for good.
    "outage and env": (
        "with lab.postgres.stopped(), "
        "lab.env(POSTGRES_PASSWORD='wrong', POSTGRES_DB='wrong_db'): "
        "run.follow('quality_assessment')"
    ),
}


def test_interrupted_cells(home: Path) -> None:
    write_env(LABKIT_SPEED=str(SPEED))
    kernel = Kernel()
    try:
        kernel.run(START)
        env = paths().env.read_bytes()
        for block in BLOCKS.values():
            shown = kernel.run(f"run = lab.drop('good.csv')\n{block}", interrupt_after=3)
            assert "Interrupted" in shown
            assert not fault_file().exists()
            assert paths().env.read_bytes() == env
            assert not list((paths().lab / "changes").iterdir()) and read_fault() is None
            assert services.status()["postgres"]["running"]
            shown = kernel.run(
                "run.follow('awaiting_prod_approval'); print(len(run.experiments()), 'row')"
            )
            assert "Error" not in shown and "1 row" in shown, shown
        assert "1 row" in kernel.run("print(len(run.experiments()), 'row')")
    finally:
        kernel.shut_down()
