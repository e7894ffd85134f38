"""Every replication runs at smoke scale, from a copy, and draws no experimental verdict."""

from pathlib import Path

import pytest

from paperkit.completeness import problems
from paperkit.pipeline import found_replications
from paperkit.readiness import smoke_problems

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", found_replications(ROOT))
def test_every_stage_of_a_replication_runs_at_smoke_scale(name):
    assert problems(smoke_problems, ROOT, name) == []
