"""What the tests of every experiment.py share: settings with one value changed, rows, no processes, no torch."""

import copy
from concurrent.futures import Future


def changed(config, path, value):
    """The content of a configuration with the value at a dotted path replaced."""
    content = copy.deepcopy(config.model_dump())
    *folders, name = path.split(".")
    block = content
    for folder in folders:
        block = block[folder]
    block[name] = value
    return content


def made_up_row(run, split, step, metric, value, *, profile="cpu"):
    """A row of runs.csv as a runner writes it; None is the value of a diverged run."""
    head = {"profile": profile, "experiment": run.experiment, "arm": run.arm, "seed": run.seed, "config": run.config}
    status = "diverged" if value is None else "ok"
    return {**head, "split": split, "step": step, "metric": metric, "value": value, "status": status}


class InThisProcess:
    """Stands in for a runner's pool of processes: what is submitted is done at once."""

    def __init__(self, **_settings):
        pass

    def submit(self, function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done

    def shutdown(self, **_settings):
        pass


# A torch that is loaded at once, for stages that compute nothing with it.
TORCH = """\
from types import SimpleNamespace

backends = SimpleNamespace(cpu=SimpleNamespace(get_cpu_capability=lambda: "AVX2"))


def set_num_threads(number): pass


def set_deterministic_debug_mode(mode): pass
"""
