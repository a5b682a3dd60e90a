"""Models that a reader brings: files handed over, folders below roots the operator allowed, repositories on the Hub.

Uploaded files lie in a temporary folder outside the project, one for each session, bounded in bytes. It is deleted when
the session ends, when nobody has touched it for long, and with the server. A session finds its own models alone: their
sources are in its state, and nothing here lists them for others.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar

from app.figures.denoise import pad_figure, sweep_figure
from app.records import Origin, Source, StoredModel
from app.services import stored
from app.services.logs import event, stack_of
from dpi_core import hub
from dpi_core.hub import FILES, NEEDED
from dpi_core.limits import Limits

ODD = re.compile(r"[^\w./@-]")
IDLE_SECONDS = 2 * 3600.0
SWEEP_SECONDS = 300.0
WITH_THESE = "What you have uploaded, these files included,"
OFFERED = 200
"""Folders below the roots that are offered by name; others are typed."""


class Lease:
    """Held by a session as long as it needs something; after it is let go a thread of its own calls `end`.

    Not at once: the session's objects lie in cycles, so Python lets go of them in the middle of anything that any thread
    does, which may hold the very lock that `end` needs, or change the dictionary that it goes through.
    """

    _ended: ClassVar[SimpleQueue[Callable[[], None]]] = SimpleQueue()

    def __init__(self, end: Callable[[], None]) -> None:
        _start_ending()
        weakref.finalize(self, self._ended.put, end).atexit = False  # whoever needs it then has said so to `atexit`

    @classmethod
    def _end_all(cls) -> None:
        while True:
            end = cls._ended.get()
            try:
                end()
            except Exception as error:  # the next ones have to end all the same
                event("lease not ended", error=type(error).__name__, where=stack_of(error))
            del end


@cache
def _start_ending() -> None:
    threading.Thread(target=Lease._end_all, name="leases-end", daemon=True).start()


@dataclass
class Shelf:
    """One session's uploads.

    Attributes:
        folder: where they lie.
        touched: when the session last ran, by the monotonic clock.
        count: models received so far; numbers their folders.
    """

    folder: Path
    touched: float
    count: int = 0

    @property
    def held(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


@dataclass
class Uploads:
    """The uploads of all sessions; thread-safe.

    Attributes:
        limits: what one session, and all together, may keep.
        idle_seconds: how long a session's files stay while nothing of it runs.
        clock: seconds, monotonic.
        deleted: hears of each folder that has been deleted, with the models below it.
    """

    limits: Limits = field(default_factory=Limits.from_environment)
    idle_seconds: float = IDLE_SECONDS
    clock: Callable[[], float] = time.monotonic
    deleted: Callable[[Path], None] = lambda folder: None
    _shelves: dict[str, Shelf] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=self._watch, name="uploads-expire", daemon=True).start()

    def receive(self, session: str, files: Mapping[str, bytes | memoryview], known: Sequence[Source]) -> Source:
        """Stores the files of one checkpoint and checks them.

        Args:
            session: whose they are.
            files: name -> content; `NEEDED` and any of the others in `FILES`.
            known: the session's sources; the new one's name differs from theirs.

        Raises:
            ValueError: a file is missing, unknown, damaged or too large, or does not fit the others; one sentence.
        """
        _check_names(files)
        try:
            with self._lock:
                folder = self._place(session, sum(len(content) for content in files.values()))
            _write(folder, files)
        except OSError as error:
            raise ValueError(
                f"the server cannot keep these files now ({error.strerror}); try again later, or run the app yourself."
            ) from None
        try:
            return _checked(folder, "upload", known)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def lease(self, session: str) -> Lease:
        """To be kept where the session's other objects are."""
        return Lease(lambda: self.drop(session))

    def touch(self, session: str) -> None:
        """The session is alive."""
        with self._lock:
            if session in self._shelves:
                self._shelves[session].touched = self.clock()

    def remove(self, source: Source) -> None:
        """Deletes one uploaded model."""
        with self._lock:
            if any(source.folder.is_relative_to(shelf.folder) for shelf in self._shelves.values()):
                self._delete(source.folder)

    def drop(self, session: str) -> None:
        """Deletes all that a session has uploaded."""
        with self._lock:
            shelf = self._shelves.pop(session, None)
        if shelf is not None:
            self._delete(shelf.folder)

    def expire(self) -> None:
        """Deletes what belongs to sessions that have long been idle."""
        with self._lock:
            last = self.clock() - self.idle_seconds
            idle = [session for session, shelf in self._shelves.items() if shelf.touched < last]
        for session in idle:
            self.drop(session)

    def close(self) -> None:
        """Deletes everything."""
        self._closed.set()
        for session in list(self._shelves):
            self.drop(session)

    def _delete(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.deleted(folder)

    def _place(self, session: str, size: int) -> Path:
        """A new folder for a checkpoint of that size."""
        shelf = self._shelves.get(session)
        held = 0 if shelf is None else shelf.held
        self.limits.check("session_bytes", held + size, WITH_THESE, "remove one of them first")
        if size + sum(each.held for each in self._shelves.values()) > self.limits.server_bytes:
            # How much the others have is nobody's business.
            raise ValueError(
                "The server keeps as many uploads as it may (DPI_MAX_SERVER_BYTES); try again later, or run the app yourself."
            )
        if shelf is None:
            folder = Path(tempfile.mkdtemp(prefix="dpi-explorer-"))
            shelf = self._shelves[session] = Shelf(folder, self.clock())
        models = sum(1 for _ in shelf.folder.iterdir()) + 1
        self.limits.check("session_models", models, WITH_THESE, "remove one of them first")
        shelf.count += 1
        place = shelf.folder / str(shelf.count)
        place.mkdir()
        return place

    def _watch(self) -> None:
        while not self._closed.wait(SWEEP_SECONDS):
            self.expire()


def _write(folder: Path, files: Mapping[str, bytes | memoryview]) -> None:
    """Writes files; where that fails nothing of them stays."""
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def roots() -> tuple[Path, ...]:
    """Folders of the server whose checkpoints may be loaded: DPI_ROOTS, separated as in PATH; none by default."""
    given = [Path(text) for text in os.environ.get("DPI_ROOTS", "").split(os.pathsep) if text]
    return tuple(root.resolve() for root in given if root.is_dir())


def offered() -> list[str]:
    """Checkpoint folders at most three levels below the roots, as they may be typed."""
    found: list[str] = []
    for root in roots():
        for pattern in ("*/config.json", "*/*/config.json", "*/*/*/config.json"):
            for config in root.glob(pattern):
                if len(found) == OFFERED:
                    return sorted(found)
                found.append(str(config.parent))
    return sorted(found)


def from_folder(text: str, known: Sequence[Source]) -> Source:
    """A checkpoint folder of the server, checked.

    Args:
        text: its path; absolute, or from one of the roots.
        known: the session's sources.

    Raises:
        ValueError: it does not lie below a root, links out of it, or is no valid checkpoint; one sentence.
    """
    allowed = roots()
    if not allowed:
        raise ValueError("No folder of this server is open; its operator names them in DPI_ROOTS before the start.")
    for root in allowed:
        folder = _below(root, root / text)
        if folder is not None and folder != root:
            return _checked(folder, "folder", known, str(folder.relative_to(root)), str(folder))
    # The same words whether it exists or not: a stranger learns nothing about other folders.
    raise ValueError(
        f"{text[:120]!r} is no checkpoint folder below {' or '.join(map(str, allowed))}; choose one there, without links that"
        " lead out of it."
    )


def hub_is_open() -> bool:
    """Whether readers may load from the Hub: unless the operator set DPI_HUB=0."""
    return os.environ.get("DPI_HUB", "1") != "0"


def from_hub(text: str, known: Sequence[Source]) -> Source:
    """A checkpoint of the Hub, downloaded and checked; the only function here that asks another machine for anything.

    Args:
        text: `<owner>/<repo>`, with @<revision> if need be.
        known: the session's sources.

    Raises:
        ValueError: the Hub is closed or refuses, or the repository holds no valid checkpoint; one sentence.
    """
    if not hub_is_open():
        raise ValueError("The operator of this server has closed the Hub (DPI_HUB=0); upload the files instead.")
    # Here, because importing torch takes seconds.
    from dpi_core import checkpoint

    address = f"{hub.SCHEME}{text.strip().removeprefix(hub.SCHEME)}"
    with checkpoint.opened(address) as folder:
        return _checked(folder, "hub", known, address.removeprefix(hub.SCHEME), address)


def _checked(
    folder: Path, origin: Origin, known: Sequence[Source], title: str | None = None, load_from: str | None = None
) -> Source:
    """The source of a folder whose every file has been checked against the others.

    Args:
        folder: the checkpoint.
        origin: how it came here.
        known: the session's sources; the new one's name differs from theirs.
        title: in its name; None for that of its recipe.
        load_from: what `dpi_core.load` is given; None for the same.

    Raises:
        ValueError: one sentence on what is wrong; it names files, not where they lie.
    """
    # Here, because importing torch takes seconds.
    import dpi_core

    try:
        recipe = dpi_core.load(folder).recipe
        title = ODD.sub("_", title or recipe.name)
        unique = _unique(f"{origin}:{title}", [source.name for source in known if source.folder != folder])
        source = Source(unique, folder, origin, recipe.name, load_from or recipe.name)
        _check_drawable(stored.read(source))
    except ValueError as error:
        raise ValueError(str(error).replace(f"{folder}/", "").replace(str(folder), "the folder")) from None
    except OSError as error:
        raise ValueError(f"a file cannot be read ({error.strerror}); see to its permissions.") from None
    return source


def _check_names(files: Mapping[str, object]) -> None:
    known = ", ".join(FILES)
    for name in files:
        if name not in FILES:
            raise ValueError(
                f"{name!r} is none of {known}; rename it, and turn a .pt file into these with `python -m dpi_core import`."
            )
    missing = [name for name in NEEDED if name not in files]
    if missing:
        lacks = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        raise ValueError(f"{lacks}; a checkpoint is {' and '.join(NEEDED)}: choose both.")


def _check_drawable(model: StoredModel) -> None:
    shape = tuple(model.recipe["shape"])
    if shape != (2,) and not (len(shape) == 3 and shape[0] in (1, 3)):
        raise ValueError(
            f"the samples have shape {shape}, but the app draws points (2,) and images (1 or 3, h, w); use dpi_core from"
            " Python for others."
        )
    try:
        if model.sweep is not None:
            sweep_figure(model, [model], model.sweep)
        if model.pad is not None:
            pad_figure(model, model.pad)
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"analysis.safetensors does not fit the model ({error}); run `python -m dpi_core analyse`, or leave it out."
        ) from None


def _below(root: Path, path: Path) -> Path | None:
    """The folder with all links followed, where it and its files stay below `root`."""
    try:
        folder = path.resolve(strict=True)
        files = [(folder / name).resolve() for name in FILES if (folder / name).exists()]
    except (OSError, ValueError, RuntimeError):
        return None
    inside = all(each.is_relative_to(root) for each in (folder, *files))
    return folder if inside and (folder / "config.json").is_file() else None


def _unique(name: str, taken: Sequence[str]) -> str:
    names = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(each for each in names if each not in taken)
