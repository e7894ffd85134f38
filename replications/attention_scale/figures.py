"""placeholder"""

from pathlib import Path
from paperkit.style import folders


def draw(results: Path, figures: Path) -> None:
    """Draw."""


if __name__ == "__main__":
    draw(*folders())
