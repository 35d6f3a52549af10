"""The checks of the storm explain what they found, as tests do."""

import os

import pytest

pytest.register_assert_rewrite("tests.chaos.checks")

# One each with all tests; `make chaos` names more.
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1").split()]
