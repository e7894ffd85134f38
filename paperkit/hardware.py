"""On what a profile computes: device, precision, and how much at once. The defaults are one thread of a processor."""

import subprocess
from typing import Any, Literal

from pydantic import Field

from paperkit.config import StrictModel

# cuBLAS repeats its bits with a workspace of a fixed size only, compiled kernels if none is chosen by its speed.
CUDA_ENVIRONMENT = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TORCHINDUCTOR_DETERMINISTIC": "1"}


class Hardware(StrictModel):
    """Where the runs of a profile compute; each run fits one device.

    Attributes:
        device: Of model and batches. What is drawn is drawn on the CPU, so that a seed means the same on all devices.
        precision: Of the products of a training step; weights, optimizer state and evaluations are float32.
        micro_batch: Most samples in one forward pass; a batch is accumulated from these. None for whole batches.
        workers: Runs at a time; those on a GPU share it. None for as many as there are cores.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    micro_batch: int | None = Field(default=None, ge=1)
    workers: int | None = Field(default=None, ge=1)

    @property
    def in_runs(self) -> dict[str, Any]:
        """What becomes part of every run's configuration: the settings that may change a number, unless default."""
        return self.model_dump(exclude_defaults=True, exclude={"workers"})

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a process needs to compute there with repeatable bits."""
        return CUDA_ENVIRONMENT if self.device == "cuda" else {}

    def require(self) -> None:
        """Refuse to start where the device is missing.

        Raises:
            OSError: If torch sees no CUDA device.
        """
        if self.device == "cpu":
            return
        import torch  # not at the top: reading settings needs none

        if not torch.cuda.is_available():
            message = (
                f"the settings ask for a CUDA device, and torch {torch.__version__} sees none; run this on a machine "
                "with an NVIDIA GPU, with a CUDA build of torch in its environment (README, section GPU)"
            )
            raise OSError(message)

    def describe(self) -> dict[str, str] | None:
        """Name the device and what drives it, for `provenance.json`.

        Returns:
            Name, driver, CUDA, cuDNN; None for a CPU, which `machine_class` names.
        """
        if self.device == "cpu":
            return None
        import torch

        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        drivers = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
        return {
            "name": torch.cuda.get_device_name(),
            "driver": drivers[0],
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        }


ON_CPU = Hardware()
