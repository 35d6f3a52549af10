"""The checks of the storm explain what they found, as tests do."""

import pytest

pytest.register_assert_rewrite("tests.chaos.checks")
