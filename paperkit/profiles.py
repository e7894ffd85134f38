"""The scales at which a replication runs, and where the results of each lie."""

PROFILES = ("smoke", "cpu", "pretrained", "gpu", "paper")
COMMITTED = "cpu"
ABOVE = PROFILES[PROFILES.index(COMMITTED) + 1 :]


def results_name(name: str, profile: str) -> str:
    """Name the folder below results/ and figures/, which is also the name of the stage.

    Args:
        name: Folder of the replication.
        profile: One of `PROFILES`.

    Returns:
        The replication's name, with the profile behind it where that is above `COMMITTED`.

    Example:
        >>> results_name("lion", "cpu"), results_name("lion", "gpu")
        ('lion', 'lion_gpu')
    """
    return f"{name}_{profile}" if profile in ABOVE else name


def replication_and_profile(results: str) -> tuple[str, str]:
    """Split the name of a folder below results/ again.

    Args:
        results: See `results_name`.

    Returns:
        Folder of the replication, and the profile at which its results are committed.

    Example:
        >>> replication_and_profile("lion"), replication_and_profile("lion_gpu")
        (('lion', 'cpu'), ('lion', 'gpu'))
    """
    name, _, profile = results.rpartition("_")
    return (name, profile) if profile in ABOVE else (results, COMMITTED)
