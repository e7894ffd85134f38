"""Files of the Hugging Face hub at fixed revisions."""

from pathlib import Path
from typing import Literal, NamedTuple

from huggingface_hub import hf_hub_download


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
