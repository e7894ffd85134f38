"""What holds for every test, wherever it stands: one thread, and a git that knows nothing of the contributor's."""

import gc
import os
from collections.abc import Iterator

import pytest

# What `make new` writes; tests/test_new.py runs it where it belongs. What tests start Python with is imported by that
# Python alone: an interpreter may have a sitecustomize of its own.
collect_ignore = ["paperkit/template", "tests/fixtures/watched"]

# As in a worker of a stage. Libraries read it when they load; on several threads tiny tensors mostly wait for each
# other, most of all where several processes test.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for garbage neither while modules load, of which it takes a quarter, nor later among what they made."""
    gc.disable()
    collected = yield
    gc.freeze()
    gc.enable()
    return collected


@pytest.fixture(scope="session", autouse=True)
def git_of_the_tests_alone() -> Iterator[None]:
    """Take away what git is told from outside: a repository and settings that are the contributor's."""
    # Hooks, `rebase --exec` and pre-push export GIT_DIR: every git in a test would work there.
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            patch.delenv(name)
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        yield
