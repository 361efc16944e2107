"""What all template tests share: `bake(**answers)` makes a project in a temporary folder."""

import pytest

from tests.harness import Baked
from tools.bake import bake as bake_template


@pytest.fixture
def bake(tmp_path):
    """Return a function that bakes a project of the given answers, each call into a folder of its
    own."""
    calls = []

    def bake_one(**answers: str) -> Baked:
        calls.append(answers)
        return Baked(bake_template(tmp_path / f"bake {len(calls)}", **answers))

    return bake_one
