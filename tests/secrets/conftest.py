"""One encrypted lab, with runs in it, for the tests that look at what a whole lab stores."""

import shutil
from collections.abc import Iterator

import pytest

from labkit import Lab, services
from tests.conftest import assert_no_secret_in_logs, enter, make_home
from tests.lab.test_lab import stop_lab_alone


@pytest.fixture(scope="package")
def sealed() -> Iterator[Lab]:
    """A lab of its own that has never written in clear."""
    folder = make_home()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder)
        try:
            yield Lab.start(encrypted=True)
        finally:
            stop_lab_alone()
            services.down()
    assert_no_secret_in_logs(folder)
    shutil.rmtree(folder)
