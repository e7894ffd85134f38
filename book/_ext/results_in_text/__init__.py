"""The book's Sphinx extension. It reads results with paperkit, which stands beside the book and is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
