"""Checkpoints on the Hugging Face Hub: safetensors, JSON and the card, nothing else, in either direction.

Nothing is sent or fetched unless one of these functions is called. `HF_ENDPOINT` names another Hub, and the token is the one
`hf auth login` or `HF_TOKEN` gave; both are huggingface_hub's own settings.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from dpi_core.limits import Limits

SCHEME = "hub:"
FILES = ("model.safetensors", "config.json", "metrics.json", "analysis.safetensors", "README.md")
NEEDED = ("model.safetensors", "config.json")

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


def folder_of(path: str | Path) -> Path:
    """The folder that holds a checkpoint: itself, or, for `hub:<owner>/<repo>[@revision]`, where it was downloaded to."""
    return download(str(path)) if is_address(path) else Path(path)


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


def download(address: str) -> Path:
    """Fetches the files of a checkpoint, and no others, into huggingface_hub's cache.

    Raises:
        ValueError: the address is none, the Hub cannot be reached or refuses, or the repository holds no checkpoint or one
            that is too large.
    """
    repo, revision = parse(address)
    api = _api()
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if file.rfilename in FILES}
        _check_files(address, sizes)
        places = [api.hf_hub_download(repo, name, revision=info.sha) for name in sizes]
    except _hub_errors() as error:
        raise ValueError(f"{address} could not be loaded: {_reason(error)}") from error
    return Path(places[0]).parent


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
    Limits.from_environment().check("download_bytes", sum(sizes.values()), address, "choose a smaller model")


def _api() -> Any:
    """The client, for the Hub that `HF_ENDPOINT` names now."""
    from huggingface_hub import HfApi  # takes a second

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="dpi_core")


def _hub_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HFValidationError, HTTPError

    return HTTPError, HFValidationError, OSError


def _reason(error: Exception) -> str:
    """The first line of a message, and what to do."""
    first = str(error).strip().split("\n")[0] or type(error).__name__
    return f"{first.rstrip('.')}; check the name, the network, and whether you are logged in (hf auth login)."
