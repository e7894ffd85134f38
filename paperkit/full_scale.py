"""What every `paper.py` does around its study, the source's own scale on GPUs: check, launch, keep runs, publish.

A study is a function of its settings and of a `Session`, which executes runs on all devices at once, one run after the
other, and keeps each finished one. Lightning Fabric starts the processes, one a device; all of them execute the study,
and rank 0 alone reads and writes files. No training stage imports this module: nothing retrains when it changes.
"""

import argparse
import hashlib
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

import torch
from huggingface_hub import hf_hub_download
from lightning_fabric import Fabric
from pydantic import Field, model_validator

from paperkit.config import StrictModel, read_profile
from paperkit.provenance import Provenance, dependencies, kernels_in_use, module_file, number_environment
from paperkit.results import ResultsError, read_json, write_json
from paperkit.runs import Measure, Run, code_hashes, run_key
from paperkit.stage import Tables, publish

LOCK = Path("requirements.lock")
# What is run with the block `tiny` shows that the code works; its rows must not be judged at the paper's scale.
PROFILES = {"paper": "paper", "tiny": "smoke"}


class HubFile(NamedTuple):
    """A file of the Hugging Face hub at a fixed revision.

    Attributes:
        kind: Of the repository.
        repository: Owner and name.
        revision: Commit, 40 hexadecimal digits.
        name: Path within the repository.
    """

    kind: Literal["model", "dataset"]
    repository: str
    revision: str
    name: str

    def path(self) -> Path:
        """Return where the file lies in the local cache; it is downloaded if it is not there.

        Returns:
            Path of the file.

        Raises:
            FileNotFoundError: If it is neither in the cache nor to be had.
        """
        try:
            return Path(hf_hub_download(self.repository, self.name, repo_type=self.kind, revision=self.revision))
        except OSError as error:
            message = (
                f"{self.name} of the {self.kind} {self.repository}, revision {self.revision}, is not in the cache of "
                f"the Hugging Face hub and cannot be downloaded ({error}); run `hf download {self.repository} "
                f"{self.name} --repo-type {self.kind} --revision {self.revision}` where there is network, and copy "
                "its cache to here (the environment variable HF_HOME names the folder)"
            )
            raise FileNotFoundError(message) from error


class Hardware(StrictModel):
    """Arguments of Fabric.

    Attributes:
        accelerator: Where to compute.
        devices: Processes, one device each.
        strategy: "ddp" for several processes.
        precision: Of training; weights and optimizer state are float32.
    """

    accelerator: Literal["cuda", "cpu"]
    devices: int = Field(ge=1)
    strategy: Literal["auto", "ddp"]
    precision: Literal["32-true", "bf16-mixed"]

    def require_devices(self) -> None:
        """Refuse to start where there are fewer GPUs than asked for.

        Raises:
            OSError: If torch sees fewer CUDA devices.
        """
        found = torch.cuda.device_count()
        if self.accelerator == "cuda" and found < self.devices:
            message = (
                f"the settings ask for {self.devices} CUDA device(s), and torch {torch.__version__} sees {found}; run "
                "it where there are GPUs, with a CUDA build of torch, or pass --settings tiny to try the code on a CPU"
            )
            raise OSError(message)

    def require_equal_parts(self, batch: int, *, micro_batch: int | None = None, of: str = "") -> None:
        """Refuse a batch that the devices cannot share equally: the mean of their gradients would be another one.

        Args:
            batch: Samples a step, on all devices together.
            micro_batch: Most samples a device handles at once; None for the whole of its share.
            of: What the batch belongs to, named in the message.

        Raises:
            ValueError: If shares, or the parts of a share, differ in size.

        Example:
            >>> two = Hardware(accelerator="cpu", devices=2, strategy="ddp", precision="32-true")
            >>> two.require_equal_parts(8, micro_batch=2)
            >>> two.require_equal_parts(7, of="moons")
            Traceback (most recent call last):
            ...
            ValueError: batch 7 of moons cannot be dealt to devices 2 equally
        """
        share, rest = divmod(batch, self.devices)
        if rest or (micro_batch is not None and share % min(share, micro_batch)):
            parts = (
                "equally" if micro_batch is None
                else f"in equal parts of micro_batch {micro_batch}, or of one smaller part each"
            )  # fmt: skip
            message = f"batch {batch}{of and f' of {of}'} cannot be dealt to devices {self.devices} {parts}"
            raise ValueError(message)


class FullScaleSettings(StrictModel):
    """What every block of a paper.yaml holds.

    Attributes:
        hardware: Where to compute.
        seeds: Fresh seeds of the report.
    """

    hardware: Hardware
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)

    @model_validator(mode="after")
    def _different_seeds(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            message = f"seeds {self.seeds} must differ from each other"
            raise ValueError(message)
        return self

    @property
    def files(self) -> Sequence[HubFile]:
        """The files that the study reads, required before anything is trained."""
        raise NotImplementedError


Settings = TypeVar("Settings", bound=FullScaleSettings)


@dataclass(frozen=True)
class Session:
    """Executes runs, one after the other, on all devices at once, and keeps each finished one.

    Attributes:
        fabric: Launched.
        module: Full name of the study's module; the key of a kept run holds the code that it imports.
        profile: Written into every row.
        kept: Folder of finished runs.
        announced: Keys of a run's configuration that are printed when it starts.
    """

    fabric: Fabric
    module: str
    profile: str
    kept: Path
    announced: Sequence[str] = ()

    def __call__(self, measure: Measure, run: Run) -> list[dict[str, Any]]:
        """Execute a run that is not kept yet; rank 0 alone reads and writes files.

        Args:
            measure: From a run to its measurements, equal on all ranks. It may depend on nothing but the run, the
                code, the lock and files at fixed revisions: these are the key of a kept run.
            run: One unit of work.

        Returns:
            Its rows of `runs.csv`.
        """
        first = self.fabric.is_global_zero
        measured = self.fabric.broadcast(_finished(self._file(run)) if first else None)
        if measured is None:
            details = "".join(f" {key} {run.config[key]}" for key in self.announced)
            self.fabric.print(f"{run.experiment} {run.arm} seed {run.seed}{details}", flush=True)
            measured = [{**asdict(m), "value": m.value if math.isfinite(m.value) else None} for m in measure(run)]
            if first:
                write_json(self._file(run), measured)
        head = {"profile": self.profile, **asdict(run)}
        return [{**head, **m, "status": "diverged" if m["value"] is None else "ok"} for m in measured]

    def _file(self, run: Run) -> Path:
        return self.kept / f"{run_key(run, self._common)}.json"

    @cached_property
    def _common(self) -> Mapping[str, Any]:
        lock = hashlib.sha256(LOCK.read_bytes()).hexdigest()
        return {"code": code_hashes(self.module), "lock": lock, "profile": self.profile}


def main(
    model: type[Settings],
    study: Callable[[Settings, Session], Tables],
    *,
    module: str,
    announced: Sequence[str] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """Run a study from its command line (`--out`, `--settings`); several devices start copies of this process.

    Place, settings, devices and files are checked before anything is trained. Tables are replaced only after the last
    run has ended: a refusal, a crash or a kill leaves old results as they are, and the kept runs for the next attempt.

    Args:
        model: Of each block of the paper.yaml beside the module.
        study: Does the work with the session it is given.
        module: Full name of the module that runs, for example "replications.lion.paper".
        announced: Keys of a run's configuration that are printed when it starts.
        arguments: Command line; None for the process's own.

    Raises:
        SystemExit: If place, settings, devices or files do not fit; the message names the thing and the remedy.
    """
    name = module.split(".")[-2]
    options = _parse(name, arguments)
    params = module_file(module).with_name("paper.yaml")
    try:
        require_top_folder(params)
        settings = read_profile(model, params.relative_to(Path.cwd()), options.settings)
        settings.hardware.require_devices()
        for file in settings.files:
            file.path()
    except (ValueError, OSError) as error:
        message = f"{name}_paper: {error}"
        raise SystemExit(message) from error
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with this only
    torch.use_deterministic_algorithms(True)
    fabric = Fabric(**settings.hardware.model_dump())
    fabric.launch()
    kept = Path(f".paperkit/runs/{name}_{options.settings}")
    session = Session(fabric, module, PROFILES[options.settings], kept, announced)
    if not fabric.is_global_zero:
        study(settings, session)
        return
    deps = dependencies([module], params.relative_to(Path.cwd()), options.settings, ())
    provenance = Provenance(
        f"{name}_paper",
        ["python", *sys.orig_argv[1:]],
        session.profile,
        deps=deps,
        claims=params.with_name("claims.yaml"),
    )
    outs = publish(study(settings, session), options.out)
    provenance.write(
        options.out / "provenance.json", outs=outs, workers=fabric.world_size, threads=torch.get_num_threads(),
        environment=number_environment({}), kernels=kernels_in_use(),
    )  # fmt: skip
    shutil.rmtree(kept, ignore_errors=True)


def require_top_folder(params: Path) -> None:
    """Refuse to start elsewhere than in the top folder of the repository, where lock, code and kept runs are found.

    Args:
        params: The study's paper.yaml.

    Raises:
        FileNotFoundError: If the current folder is another one.
    """
    if not (LOCK.is_file() and params.is_relative_to(Path.cwd())):
        message = (
            f"{Path.cwd()} is not the top folder of the repository ({LOCK} and {params.name} of this code are not "
            "below it); change to that folder and run the command there"
        )
        raise FileNotFoundError(message)


def _parse(name: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"{name}_paper", description=f"Run {name} at the source's own scale.")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--settings", default="paper", choices=PROFILES, help="block of paper.yaml")
    return parser.parse_args(arguments)


def _finished(file: Path) -> list[dict[str, Any]] | None:
    """Read a finished run; a file that a crash of the machine damaged counts as missing."""
    try:
        return read_json(file)
    except ResultsError:
        return None
