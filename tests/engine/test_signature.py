"""Signed engines: who may have built what is run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ed25519 = pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.ed25519", reason="signatures need cryptography"
)

from cryptography.hazmat.primitives import serialization  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.engine.engines import engine, manifest, plan  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.engine import Cache, Engine, read, write  # noqa: E402

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = ed25519.Ed25519PrivateKey.from_private_bytes(b"o" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "m.engine", manifest(), plan(), sign=KEY)
    return tmp_path / "m.engine"


def refused(path: Path, key: object) -> str:
    with pytest.raises(zl.InvalidModel) as caught:
        read(path, require_signature=key)
    assert_three_parts(str(caught.value))
    assert caught.value.subject == str(path)
    return str(caught.value)


def test_signed_and_read(path: Path) -> None:
    assert bytes(read(path, require_signature=KEY.public_key())[1]) == plan()
    assert bytes(Engine.read(path, require_signature=KEY.public_key()).plan) == plan()
    assert bytes(read(path)[1]) == plan()


def test_one_of_several_keys(path: Path) -> None:
    read(path, require_signature=[OTHER.public_key(), KEY.public_key()])
    refused(path, [OTHER.public_key()])


def test_another_key(path: Path) -> None:
    told = refused(path, OTHER.public_key())
    assert KEY.public_key().public_bytes_raw().hex()[:16] in told
    assert OTHER.public_key().public_bytes_raw().hex()[:16] in told


def test_loading_checks_the_signature_before_anything_is_opened(path: Path, tmp_path: Path) -> None:
    with pytest.raises(zl.InvalidModel, match="signed by"):
        zl.load(path, require_signature=OTHER.public_key())
    engine().save(tmp_path / "unsigned.engine")
    with pytest.raises(zl.InvalidModel, match="not signed"):
        zl.load(tmp_path / "unsigned.engine", require_signature=KEY.public_key())


def test_an_engine_in_memory_cannot_pass_for_a_signed_one(path: Path) -> None:
    for given in (engine(), Engine.read(path, require_signature=KEY.public_key())):
        with pytest.raises(zl.InvalidArgument, match="in memory") as caught:
            zl.load(given, require_signature=KEY.public_key())
        assert_three_parts(str(caught.value))
        assert caught.value.subject == "require_signature"


def test_unsigned(tmp_path: Path) -> None:
    engine().save(tmp_path / "m.engine")
    assert "not signed" in refused(tmp_path / "m.engine", KEY.public_key())


def forged(path: Path, *, text: bytes | None = None, signature: bytes | None = None) -> None:
    """The signed file with another manifest or signature, all digests made to fit."""
    import hashlib

    from zerolane.engine.file import _HEADER, MAGIC, read_head

    head = read_head(path)
    assert head.signature is not None
    text = head.text if text is None else text
    signature = head.signature if signature is None else signature
    end = 72 + len(text) + len(signature)
    offset = -(-end // 4096) * 4096
    start = _HEADER.pack(MAGIC, 1, len(text), len(signature), 0, offset, 5000)
    rest = text + signature + bytes(offset - end)
    data = start + hashlib.sha256(start + rest).digest() + rest
    path.write_bytes(data + path.read_bytes()[head.plan_offset :])


def test_a_changed_manifest_under_an_old_signature(path: Path) -> None:
    changed = manifest(host_code=True).with_plan(plan()).to_json()
    forged(path, text=changed)
    read(path)  # every digest fits: only the signature tells
    assert "does not belong" in refused(path, KEY.public_key())


def test_another_plan_under_an_old_signature(path: Path) -> None:
    changed = manifest().with_plan(plan(seed=2)).to_json()
    forged(path, text=changed)
    path.write_bytes(path.read_bytes()[:-5000] + plan(seed=2))
    assert bytes(read(path)[1]) == plan(seed=2)
    assert "does not belong" in refused(path, KEY.public_key())


def test_a_changed_plan(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "changed" in refused(path, KEY.public_key())


def test_a_signer_put_in_by_hand(path: Path) -> None:
    """The accepted key before a signature by another one."""
    from zerolane.engine.file import read_head

    other = path.with_name("other.engine")
    write(other, manifest(), plan(), sign=OTHER)
    signature = read_head(other).signature
    assert signature is not None
    forged(path, signature=KEY.public_key().public_bytes_raw() + signature[32:])
    assert "does not belong" in refused(path, KEY.public_key())
    forged(path, signature=bytes(96))
    refused(path, KEY.public_key())


@pytest.mark.parametrize("form", ["key", "raw", "hex", "pem", "Path"])
def test_forms_of_keys(tmp_path: Path, form: str) -> None:
    private: Any = KEY
    public: Any = KEY.public_key()
    if form == "raw":
        private, public = KEY.private_bytes_raw(), public.public_bytes_raw()
    elif form == "hex":
        private, public = KEY.private_bytes_raw().hex(), public.public_bytes_raw().hex()
    elif form in ("pem", "Path"):
        kinds = serialization.Encoding, serialization.PrivateFormat, serialization.PublicFormat
        secret = KEY.private_bytes(kinds[0].PEM, kinds[1].PKCS8, serialization.NoEncryption())
        (tmp_path / "private.pem").write_bytes(secret)
        (tmp_path / "public.pem").write_bytes(
            public.public_bytes(kinds[0].PEM, kinds[2].SubjectPublicKeyInfo)
        )
        private, public = tmp_path / "private.pem", tmp_path / "public.pem"
        if form == "pem":
            private, public = str(private), str(public)
    write(tmp_path / "m.engine", manifest(), plan(), sign=private)
    assert bytes(read(tmp_path / "m.engine", require_signature=public)[1]) == plan()


def test_wrong_keys_are_typed_errors_that_do_not_tell_the_key(path: Path, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no key")
    for given in (5, b"short", "", "zz", tmp_path / "no.pem", KEY, True):
        with pytest.raises((zl.InvalidArgument, zl.NotFound)) as caught:
            read(path, require_signature=given)
        assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidArgument) as caught:
        read(path, require_signature=[])
    assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidArgument) as caught:
        write(path, manifest(), plan(), sign=b"s3cret")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(zl.NotFound) as caught:
        write(path, manifest(), plan(), sign=tmp_path / "none.pem")
    assert_three_parts(str(caught.value))


def test_without_the_package_it_names_the_extra(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, ed25519.__name__, None)
    with pytest.raises(zl.Unavailable, match=r"zerolane\[sign\]") as caught:
        read(path, require_signature=b"k" * 32)
    assert_three_parts(str(caught.value))
    assert bytes(read(path)[1]) == plan()  # only where a signature is asked for


def test_a_cache_that_signs(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    made = engine()
    cache.put(made.manifest.key, made, sign=KEY)
    key = made.manifest.key
    found = cache.get(key, require_signature=KEY.public_key())
    assert found is not None
    assert bytes(found.plan) == plan()
    assert cache.get(key, require_signature=OTHER.public_key()) is None
    with pytest.raises(zl.InvalidArgument):
        cache.get(key, require_signature=b"short")
    with pytest.raises(zl.NotFound):
        cache.put(key, made, sign=tmp_path / "none.pem")
