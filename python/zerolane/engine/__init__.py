"""Engine files (plan and manifest in one), their signatures, and the cache of built engines."""

from __future__ import annotations

from zerolane.engine.cache import Cache, Entry, Verdict, default_folder
from zerolane.engine.digest import ModelDigest, digest_model
from zerolane.engine.file import Engine, is_engine_file, read, read_head, write
from zerolane.engine.manifest import Difference, Manifest, Profile, differences, key
from zerolane.engine.op_libraries import OpLibraryUse

__all__ = [
    "Cache",
    "Difference",
    "Engine",
    "Entry",
    "Manifest",
    "ModelDigest",
    "OpLibraryUse",
    "Profile",
    "Verdict",
    "default_folder",
    "differences",
    "digest_model",
    "is_engine_file",
    "key",
    "read",
    "read_head",
    "write",
]
