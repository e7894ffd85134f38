"""The book's Sphinx extension. It reads results with paperkit, which stands beside the book and is not installed."""

import sys
from pathlib import Path

# At the end: a process that runs the code of another checkout has that one first.
sys.path.append(str(Path(__file__).parents[3]))
