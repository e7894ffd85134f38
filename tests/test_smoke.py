"""The whole pipeline of every replication runs at smoke scale, from a copy, and draws no experimental verdict."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from paperkit.datasets import SPLITS, read_table, write_table

ROOT = Path(__file__).parents[1]
REPLICATIONS = yaml.safe_load((ROOT / "params.yaml").read_text())["replications"]
TIMED = yaml.safe_load((ROOT / "params.yaml").read_text())["timed"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a copy")  # with a space in its path
    for name in ("paperkit", "replications"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data").mkdir()
    for table in (ROOT / "data").glob("*.parquet"):
        if table.stem != "sotu":
            (folder / "data" / table.name).symlink_to(table)
    write_table("sotu", few_speeches().to_dict("records"), folder / "data")
    return folder


def few_speeches():
    """Every tenth speech of each split: a stage trains its tokenizer anew, which took half of its time on all."""
    return pd.concat([read_table("sotu", ROOT / "data", split=split).iloc[::10] for split in SPLITS])


def python(folder, *arguments):
    command = [sys.executable, "-m", *arguments]
    # One worker: each has to make the tokenizer anew, and the other core runs the other half of the suite.
    environment = {**os.environ, "TQDM_DISABLE": "1", "LOKY_MAX_CPU_COUNT": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", REPLICATIONS)
def test_every_stage_of_a_replication_runs_at_smoke_scale(copy, name):
    out = ("--profile", "smoke", "--out", f"results/{name}")
    steps = [(f"replications.{name}.experiment", *out), ("paperkit.claims", name)]
    if name in TIMED:
        steps += [(f"replications.{name}.timing", *out), ("paperkit.claims", name, "--timing")]
    for step in (*steps, (f"replications.{name}.figures",)):
        done = python(copy, *step)
        assert done.returncode == 0, done.stderr
    claims = json.loads((copy / f"results/{name}/verdicts.json").read_text())["claims"]
    experimental = {claim["id"]: claim["verdict"] for claim in claims if claim["kind"] == "experiment"}
    assert experimental
    assert set(experimental.values()) == {"not tested at this scale"}
    assert list((copy / f"figures/{name}").glob("*.svg"))
    assert not (copy / ".paperkit/runs" / name).exists()
