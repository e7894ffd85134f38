"""What the tests of every paper.py share: made-up files in a cache of the hub's form, the command in two processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from huggingface_hub import constants
from tokenizers import ByteLevelBPETokenizer

from paperkit.config import read_profile
from paperkit.full_scale import HubFile, Settings

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["the", "of", "valley", "river", "church", "was", "built", "stone", "1890", ",", ".", "@-@", "Ångström"]


def paragraphs(generator: np.random.Generator, count: int) -> list[str]:
    """Make up rows in the form of WikiText: an empty one, a heading, and paragraphs of twelve words."""
    rows = [" ".join(generator.choice(WORDS, size=12)) for _ in range(count)]
    return ["", " = Heading = \n", *(f" {row} \n" for row in rows)]


def write_tokenizer(generator: np.random.Generator, path: Path) -> None:
    """Write a tokenizer.json in the form of GPT-2's, learnt from made-up paragraphs."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(paragraphs(generator, 50), vocab_size=290, show_progress=False)
    tokenizer.save(str(path))


def place_in_cache(home: Path, file: HubFile) -> Path:
    """Make the folder of a file in a cache below `home`, a folder for HF_HOME; return where to write the file."""
    repository = f"{file.kind}s--{file.repository.replace('/', '--')}"
    path = home / "hub" / repository / "snapshots" / file.revision / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def read_cache_alone(patch, home: Path) -> None:
    """Let this process find the hub's files below `home`, and nowhere else."""
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)


def tiny_in_one_process(model: type[Settings], params: Path) -> Settings:
    """Read the block `tiny`, with one device in place of two."""
    settings = read_profile(model, params, "tiny")
    hardware = settings.hardware.model_copy(update={"devices": 1, "strategy": "auto"})
    return settings.model_copy(update={"hardware": hardware})


def run_tiny(module: str, folder: Path, home: Path) -> str:
    """Run the command with the block `tiny`, two processes, in a folder with the code alone; return its output."""
    # Most of its time is two imports of torch and Fabric, one after the other: one such test a replication is enough.
    for name in ("paperkit", "replications", "requirements.lock"):
        (folder / name).symlink_to(ROOT / name)
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, "--settings", "tiny", "--out", "results"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list((folder / ".paperkit/runs").iterdir()), "finished runs are removed when the command ends well"
    return done.stdout
