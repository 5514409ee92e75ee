"""The cache of built engines: a folder that many processes use at once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerolane import _native
from zerolane.engine.atomic import absolute, remove_stale
from zerolane.engine.digest import Memo
from zerolane.engine.file import Engine, read, read_head
from zerolane.engine.lock import Lock, lock_file, remove_unheld
from zerolane.engine.manifest import Difference, Manifest, differences
from zerolane.errors import Error, InternalError, InvalidModel

ENVIRONMENT_VARIABLE = "ZEROLANE_CACHE"


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine in the cache. Times in seconds since 1970; sizes in bytes.

    problem: why it cannot be used (damaged, foreign); `manifest` is None then.
    """

    key: str
    path: Path
    size: int
    last_used: float
    hits: int
    manifest: Manifest | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `Cache.verify` found of an entry: a problem, or parts of the key that differ here."""

    entry: Entry
    problem: str | None
    differences: tuple[Difference, ...]

    @property
    def status(self) -> str:
        """ "ok", "differs" (whole, but a build here would not find it) or "damaged"."""
        return "damaged" if self.problem else "differs" if self.differences else "ok"


@dataclass(frozen=True, slots=True)
class Collected:
    """What `Cache.gc` removed: entries; leftovers of killed processes, and what is made again."""

    entries: tuple[Entry, ...]
    leftovers: tuple[Path, ...]
    freed: int
    kept: int


class Cache:
    """Engines by key, in a folder. Any number of threads and processes may use it at once.

    folder: None for `default_folder()`. It is made when first written to. One that cannot be
    written is read from as usual; what is built is then returned and not stored, with a warning
    through `logging`.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = default_folder() if folder is None else _folder(folder)
        self.memo = Memo(self.folder / "digests")
        self._engines = self.folder / "engines"
        self._locks = self.folder / "locks"

    def path(self, key: str) -> Path:
        """Where the engine of this key is, or would be."""
        return self._engines / f"{key}.engine"

    def get(self, key: str, *, require_signature: Any = None) -> Engine | None:
        """The engine of this key, checked to the last byte, or None. A damaged one is a miss."""
        path = self.path(key)
        if not path.exists():
            return None
        try:
            engine = Engine(*read(path, require_signature=require_signature))
        except Error as error:
            if not isinstance(error, InvalidModel) and error.subject != str(path):
                raise  # the key of require_signature, not the entry
            _warn(f"cache: {error}")
            return None
        if engine.manifest.key != key:
            _warn(f"cache: {path} holds another engine than its name says; it will be built again")
            return None
        self._count_hit(key)
        return engine

    def put(self, key: str, engine: Engine, *, sign: Any = None) -> Path | None:
        """Store an engine whose manifest has this key; return where, None if it cannot be stored.

        Blocks until it is on disk. Readers see all of it or nothing. What prevents storing (a full
        disk, a read-only folder) is a warning through `logging`, for the engine itself is fine.
        """
        if engine.manifest.key != key:
            raise InternalError(
                f"storing an engine of {engine.manifest.model}: its manifest has key "
                f"{engine.manifest.key[:12]}, expected {key[:12]}; report this",
                key,
            )
        path = self.path(key)
        try:
            self._make_folders()
            engine.save(path, sign=sign)
        except (OSError, Error) as error:
            if isinstance(error, Error) and error.subject != str(path):
                raise
            _warn(f"cache: the engine of {engine.manifest.model} is not stored: {error}")
            return None
        with contextlib.suppress(OSError):
            os.unlink(self._hits(key))
        return path

    @contextlib.contextmanager
    def lock(
        self, key: str, *, model: str = "", waiting: Callable[[str], object] | None = None
    ) -> Iterator[Lock]:
        """Hold the right to build this key; blocks while another process or thread has it.

        The operating system ends it with the process, whatever happens to that. While waiting,
        `waiting` is called some ten times a second with who builds, and may raise to give up.
        model: what to tell the others. Where no lock can be had (a read-only folder, a filesystem
        without locks) it goes on without: `Lock.held` is False.
        """
        with contextlib.suppress(OSError):
            self._make_folders()
        with lock_file(self._locks / f"{key}.lock", model, waiting) as lock:
            yield lock

    def get_or_build(
        self,
        request: Manifest,
        build: Callable[[], Engine],
        *,
        waiting: Callable[[str], object] | None = None,
        unchanged: Callable[[], bool] | None = None,
        require_signature: Any = None,
        sign: Any = None,
    ) -> tuple[Engine, bool]:
        """The engine that `request` describes, and whether it came from the cache.

        Of all processes that ask at once, one builds; if it fails or dies, the next one does.
        unchanged: whether the model's files are still as they were when `request` was made
        (`ModelDigest.unchanged`); an engine built while they changed is not stored.
        """
        key = request.key
        engine = self.get(key, require_signature=require_signature)
        if engine is not None:
            _count_lookup("hit")
            return engine, True
        with self.lock(key, model=request.model, waiting=waiting) as lock:
            # Somebody may have built it between the look above and the lock.
            engine = self.get(key, require_signature=require_signature)
            if engine is not None:
                lock.forget()
                _count_lookup("hit")
                return engine, True
            _count_lookup("miss")
            engine = build()
            if unchanged is not None and not unchanged():
                _warn(f"cache: {request.model} was written during its build: not stored")
            else:
                self.put(key, engine, sign=sign)
            lock.forget()
            return engine, False

    def entries(self) -> list[Entry]:
        """All engines, the one used last first. Reads their manifests, not their plans."""
        found = []
        for path in self._engines.glob("*.engine"):
            with contextlib.suppress(OSError):  # removed meanwhile
                found.append(self._entry(path))
        return sorted(found, key=lambda entry: -entry.last_used)

    def verify(
        self,
        wanted: Callable[[Manifest], Mapping[str, object]] | None = None,
        *,
        full: bool = False,
    ) -> Iterator[Verdict]:
        """Look at each entry: whole or not, and which parts of its key are not as wanted here.

        Checks header, manifest, key and size; with `full` also every byte of the plan, as each
        load does. wanted: the parts that a build on this machine would have for an entry's
        manifest, as far as known (`environment.parts_here`); None: not compared.
        """
        for path in sorted(self._engines.glob("*.engine")):
            try:
                entry = self._entry(path)
            except OSError:  # removed meanwhile
                continue
            problem = entry.problem
            if full and entry.manifest is not None:
                try:
                    read(entry.path)
                except Error as error:
                    problem = str(error)
            changed: tuple[Difference, ...] = ()
            if wanted is not None and entry.manifest is not None:
                changed = differences(entry.manifest.parts(), wanted(entry.manifest))
            yield Verdict(entry, problem, changed)

    def why_missed(self, request: Manifest) -> tuple[Entry, tuple[Difference, ...]] | None:
        """The entry of the same model name or bytes that differs least, and in what. None: none."""
        parts = request.parts()
        near = [
            (entry, differences(entry.manifest.parts(), parts))
            for entry in self.entries()
            if entry.manifest is not None
            and request.backend == entry.manifest.backend
            and (
                request.model == entry.manifest.model
                or request.model_digest == entry.manifest.model_digest
            )
        ]
        return min(near, key=lambda pair: len(pair[1]), default=None)

    def gc(self, max_bytes: int | None = None, *, max_age_days: float | None = None) -> Collected:
        """Remove damaged entries, those not used for `max_age_days`, then the ones used longest
        ago until the rest takes at most `max_bytes`; and what killed processes left behind.

        Compiled kernels and the times of earlier builds, which are made again at need, are kept
        where age and size leave room for them beside the engines. Engines in use go on working:
        their files last until they are closed.
        """
        kept = 0
        removed: list[Entry] = []
        oldest = -1.0 if max_age_days is None else time.time() - max_age_days * 86400
        for entry in self.entries():
            fits = max_bytes is None or kept + entry.size <= max_bytes
            if entry.problem is None and entry.last_used >= oldest and fits:
                kept += entry.size
                continue
            try:
                entry.path.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                _warn(f"cache: {entry.path} cannot be removed ({error.strerror})")
                kept += entry.size
                continue
            with contextlib.suppress(OSError):
                self._hits(entry.key).unlink()
            removed.append(entry)
        self.memo.forget_missing()
        leftovers = [*remove_stale(self._engines), *remove_stale(self.folder / "digests")]
        leftovers += remove_unheld(self._locks)
        freed = sum(entry.size for entry in removed)
        for path, size, written in self._made_again():
            if written >= oldest and (max_bytes is None or kept + size <= max_bytes):
                kept += size
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                leftovers.append(path)
                freed += size
        return Collected(tuple(removed), tuple(leftovers), freed, kept)

    def _made_again(self) -> list[tuple[Path, int, float]]:
        """Files beside the engines, with size and time, the one written last first."""
        found = []
        for folder in ("build-times", "kernels"):
            for path in (self.folder / folder).glob("*"):
                with contextlib.suppress(OSError):  # removed meanwhile
                    stat = path.stat()
                    found.append((path, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda file: -file[2])

    def _entry(self, path: Path) -> Entry:
        stat = path.stat()
        key = path.name.removesuffix(".engine")
        hits, last_used = 0, stat.st_mtime
        with contextlib.suppress(OSError):
            used = self._hits(key).stat()
            hits, last_used = used.st_size, max(last_used, used.st_mtime)
        try:
            manifest = read_head(path).manifest
        except Error as error:
            return Entry(key, path, stat.st_size, last_used, hits, None, str(error))
        problem = None
        if manifest.key != key:
            problem = (
                f"its name says {key[:12]}, its manifest {manifest.key[:12]}: it was renamed, or "
                f"written by another release (it says {manifest.zerolane})"
            )
        return Entry(key, path, stat.st_size, last_used, hits, manifest, problem)

    def _hits(self, key: str) -> Path:
        return self._engines / f"{key}.hits"

    def _count_hit(self, key: str) -> None:
        """One byte a hit: appending needs no lock. The file's time is that of the last use."""
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self._hits(key), flags, 0o666)
            try:
                os.write(descriptor, b".")
            finally:
                os.close(descriptor)

    def _make_folders(self) -> None:
        # Engines are programs: nobody else may put any here.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self._engines, self._locks):
            folder.mkdir(exist_ok=True)


def default_folder() -> Path:
    """$ZEROLANE_CACHE, or zerolane in the user's cache folder."""
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    if given:
        return _folder(given)
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return _folder(user) / "zerolane"


def _folder(given: str | os.PathLike[str]) -> Path:
    return Path(absolute(os.fspath(given), "the cache's folder"))


def _count_lookup(result: str) -> None:
    _native.count_metric("zerolane_engine_cache_lookups_total", "result", result)


def _warn(text: str) -> None:
    import logging

    logging.getLogger("zerolane").warning(text)
