"""Contracts of import-linter that leave tests out: a test may import what it tests, and what makes its inputs.

import-linter's wildcards stand for whole module names, so `test_*` cannot be exempted in pyproject.toml. Its author
advises a contract that removes such modules from the graph (import-linter, issue 44); each contract has its own copy.
"""

from grimp import ImportGraph
from importlinter import ContractCheck
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.protected import ProtectedContract


def remove_tests(graph: ImportGraph) -> None:
    """Remove the modules named test_… from a graph of imports, in place."""
    for module in graph.modules:
        if module.rpartition(".")[2].startswith("test_"):
            graph.remove_module(module)


class ForbiddenOutsideTests(ForbiddenContract):
    """`forbidden`, for all modules but tests."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check the graph without its tests."""
        remove_tests(graph)
        return super().check(graph, verbose)


class ProtectedOutsideTests(ProtectedContract):
    """`protected`, for all modules but tests."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check the graph without its tests."""
        remove_tests(graph)
        return super().check(graph, verbose)
