"""Checkpoints on the Hugging Face Hub: safetensors, JSON and the card, nothing else, in either direction.

Nothing is sent or fetched unless one of these functions is called. `HF_ENDPOINT` names another Hub, and the token is the one
`hf auth login` or `HF_TOKEN` gave; both are huggingface_hub's own settings.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpi_core.limits import Limits

SCHEME = "hub:"

WEIGHTS, CONFIG, METRICS, ANALYSIS, CARD = FILES = (
    "model.safetensors",
    "config.json",
    "metrics.json",
    "analysis.safetensors",
    "README.md",
)
"""What a checkpoint's folder holds, here and on the Hub; see `checkpoint`."""

NEEDED = (WEIGHTS, CONFIG)

_NAME = r"[A-Za-z0-9][\w.-]{0,95}"
_ADDRESS = re.compile(rf"{SCHEME}(?P<repo>{_NAME}/{_NAME})(@(?P<revision>[\w./-]+))?")


class HubMixin:
    """`push_to_hub` and `from_pretrained`, as models of other libraries have them."""

    def push_to_hub(self, repo_id: str, *, private: bool = False, message: str = "Upload a DPI model") -> str:
        """Saves the model with a card and uploads it; the repository is made if it does not exist.

        Args:
            repo_id: `<owner>/<repo>`.
            private: whether a new repository is private.
            message: of the commit.

        Returns:
            The address of the commit.

        Raises:
            ValueError: the name is none, or the Hub refuses.
        """
        import dpi_core  # by its public names: the modules that save and describe a model stand above this one

        repo = parse(f"{SCHEME}{repo_id}")[0]
        with tempfile.TemporaryDirectory() as folder:
            assert isinstance(self, dpi_core.Model)
            dpi_core.save(self, folder)
            card = "---\nlibrary_name: dpi_core\ntags: [deep-parameter-interpolation, denoising]\n---\n\n"
            (Path(folder) / "README.md").write_text(card + dpi_core.model_card(self), encoding="utf-8")
            return upload(Path(folder), repo, private, message)

    @classmethod
    def from_pretrained(cls, repo_id: str, *, revision: str | None = None, device: str = "cpu") -> Any:
        """Loads a model from the Hub, `<owner>/<repo>`, or from a folder.

        Returns:
            The `Model`.

        Raises:
            ValueError: there is no such repository, or what is in it is no checkpoint.
        """
        import dpi_core

        if Path(repo_id).is_dir():
            return dpi_core.load(repo_id, device)
        return dpi_core.load(f"{SCHEME}{repo_id}" + (f"@{revision}" if revision else ""), device)


def is_address(path: str | Path) -> bool:
    """Whether this names a repository rather than a folder."""
    return str(path).startswith(SCHEME)


def parse(address: str) -> tuple[str, str | None]:
    """Owner/repo and revision of an address.

    Raises:
        ValueError: it is none.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(
            f"{address[:120]!r} is no address on the Hub; write {SCHEME}<owner>/<repo>, @<revision> if need be."
        )
    return found["repo"], found["revision"]


@contextmanager
def downloaded(address: str, check_config: Callable[[Path], object]) -> Iterator[Path]:
    """The folder in huggingface_hub's cache with the files of a checkpoint, and no others.

    The config is fetched and checked before the rest. A revision that was not in the cache before leaves it again where it
    is refused: by the check, or by a ValueError in the block.

    Args:
        address: `hub:<owner>/<repo>`, with @<revision> if need be.
        check_config: raises a ValueError where the config in a folder is not that of a checkpoint.

    Raises:
        ValueError: the address is none, the Hub cannot be reached or refuses, or the repository holds no checkpoint or one
            that is too large.
    """
    repo, revision = parse(address)
    api = _api()
    with _said_of(address):
        info = api.model_info(repo, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if file.rfilename in FILES}
        _check_files(address, sizes)
        was_here = _is_here(repo, info.sha)
        folder = Path(api.hf_hub_download(repo, CONFIG, revision=info.sha)).parent
    with _judged(folder, address, was_here):
        check_config(folder)
    with _said_of(address):  # what came until the connection broke is kept
        for name in sizes:
            api.hf_hub_download(repo, name, revision=info.sha)
    with _judged(folder, address, was_here):
        yield folder


def upload(folder: Path, repo: str, private: bool, message: str) -> str:
    """Uploads the files of a checkpoint, and no others.

    Raises:
        ValueError: the Hub cannot be reached or refuses.
    """
    api = _api()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message=message, allow_patterns=list(FILES)
        ).commit_url
    except _hub_errors() as error:
        raise ValueError(f"{repo} could not be written: {_reason(error)}") from error


def _check_files(address: str, sizes: dict[str, int]) -> None:
    lacking = [name for name in NEEDED if name not in sizes]
    if lacking:
        raise ValueError(f"{address} has no {lacking[0]}; a checkpoint has {' and '.join(NEEDED)}.")
    limits, smaller = Limits.from_environment(), "choose a smaller model"
    limits.check("download_bytes", sum(sizes.values()), address, smaller)
    limits.check("file_bytes", sizes[WEIGHTS], f"{WEIGHTS} of {address}", smaller)
    limits.check("json_bytes", sizes[CONFIG], f"{CONFIG} of {address}", smaller)


def _is_here(repo: str, sha: str) -> bool:
    """Whether a revision is in the cache; other programs may have put it there."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repo, CONFIG, revision=sha), str)


@contextmanager
def _judged(folder: Path, address: str, was_here: bool) -> Iterator[None]:
    """Takes a revision that is refused out of the cache, with the files that no other revision has."""
    from huggingface_hub import scan_cache_dir

    try:
        yield
    except ValueError as error:
        if not was_here:
            scan_cache_dir(folder.parents[2]).delete_revisions(folder.name).execute()
        raise ValueError(str(error).replace(str(folder), address)) from error


def _api() -> Any:
    """The client, for the Hub that `HF_ENDPOINT` names now."""
    from huggingface_hub import HfApi  # takes a second

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="dpi_core")


@contextmanager
def _said_of(address: str) -> Iterator[None]:
    """Says in a sentence what the Hub refuses."""
    try:
        yield
    except _hub_errors() as error:
        raise ValueError(f"{address} could not be loaded: {_reason(error)}") from error


def _hub_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HFValidationError, HTTPError

    return HTTPError, HFValidationError, OSError


def _reason(error: Exception) -> str:
    """The first line of a message, and what to do."""
    first = str(error).strip().split("\n")[0] or type(error).__name__
    return f"{first.rstrip('.')}; check the name, the network, and whether you are logged in (hf auth login)."
