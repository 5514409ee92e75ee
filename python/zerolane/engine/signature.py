"""Ed25519 signatures of engine files, through the package `cryptography` (extra [sign]).

A signature covers the manifest, and with it the plan's size and digest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zerolane._lazy import require
from zerolane.errors import InvalidArgument, InvalidModel, NotFound

SIZE = 96  # the signer's public key, then the signature
_CONTEXT = b"zerolane engine manifest 1\0"
_RAW = 32


def sign(manifest: bytes, key: Any) -> bytes:
    """Public key and signature of the manifest's bytes.

    key: an Ed25519 private key: of `cryptography`, its 32 raw bytes, those in hexadecimal, or the
    path of a PEM file without a password. Raises InvalidArgument, NotFound, Unavailable.
    """
    private = _key(key, "signing an engine", private=True)
    return bytes(private.public_key().public_bytes_raw() + private.sign(_CONTEXT + manifest))


def check(manifest: bytes, signature: bytes | None, accepted: Any, where: str) -> None:
    """Raise InvalidModel unless `signature` is by one of the `accepted` public keys.

    accepted: one key or a sequence of them, each as for `sign`.
    """
    listed = isinstance(accepted, Sequence) and not isinstance(accepted, str | bytes)
    given = list(accepted) if listed else [accepted]
    doing = f"checking the signature of {where}"
    keys = [_key(item, doing, private=False).public_bytes_raw() for item in given]
    if not keys:
        raise InvalidArgument(
            f"{doing}: require_signature is empty, expected at least one public key; "
            "leave it out to take unsigned engines",
            "require_signature",
        )
    names = ", ".join(key.hex()[:16] for key in keys)
    if signature is None:
        raise InvalidModel(
            f"{doing}: it is not signed, expected a signature by {names}; "
            "sign it with engine.save(path, sign=key), or load it without require_signature",
            where,
        )
    signer, value = signature[:_RAW], signature[_RAW:]
    if signer not in keys:
        raise InvalidModel(
            f"{doing}: it is signed by {signer.hex()[:16]}, expected {names}; "
            "get the engine from its builder again, or add that key if you trust it",
            where,
        )
    module = require("cryptography.exceptions", "sign", doing)
    try:
        _key(signer, doing, private=False).verify(value, _CONTEXT + manifest)
    except module.InvalidSignature:
        raise InvalidModel(
            f"{doing}: the signature does not belong to this manifest, expected one by "
            f"{signer.hex()[:16]}; the file was changed: get it from its builder again",
            where,
        ) from None


def _key(given: Any, doing: str, *, private: bool) -> Any:
    ed25519 = require("cryptography.hazmat.primitives.asymmetric.ed25519", "sign", doing)
    kind = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    if isinstance(given, kind):
        return given
    what = "private" if private else "public"
    if isinstance(given, bytes) and len(given) == _RAW:
        raw = given
    elif isinstance(given, str) and re.fullmatch(r"[0-9a-fA-F]{64}", given):
        raw = bytes.fromhex(given)
    elif isinstance(given, str | os.PathLike):
        return _pem(Path(given), kind, doing, what)
    else:
        # Neither the value nor its text: it may be a secret.
        raise InvalidArgument(
            f"{doing}: a {type(given).__name__} was given, expected an Ed25519 {what} key "
            "(32 bytes, 64 hexadecimal digits, the path of a PEM file, or a key of the package "
            "cryptography); give one of these",
            f"{what} key",
        )
    return kind.from_private_bytes(raw) if private else kind.from_public_bytes(raw)


def _pem(path: Path, kind: Any, doing: str, what: str) -> Any:
    serialization = require("cryptography.hazmat.primitives.serialization", "sign", doing)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"{doing}: the {what} key {str(path)!r} cannot be read ({error.strerror}); "
            "check the path",
            str(path),
        ) from error
    try:
        if what == "private":
            key = serialization.load_pem_private_key(text, password=None)
        else:
            key = serialization.load_pem_public_key(text)
    except (ValueError, TypeError) as error:
        raise InvalidArgument(
            f"{doing}: {str(path)!r} is no {what} key in PEM without a password ({error}); "
            "make one with: openssl genpkey -algorithm ed25519",
            str(path),
        ) from error
    if not isinstance(key, kind):
        raise InvalidArgument(
            f"{doing}: {str(path)!r} holds a {type(key).__name__}, expected an Ed25519 {what} "
            "key; make one with: openssl genpkey -algorithm ed25519",
            str(path),
        )
    return key
