"""A reference reaches its own tenant's bytes and nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.blobs import Blobs, open_store
from shared.contracts.base import BlobRef
from shared.errors import BlobMissing, ConfigurationInvalid, InvalidBlob, StoreUnavailable
from shared.settings import Settings

DATA = b"RIFF....WAVE"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def store(root: Path) -> Blobs:
    return open_store(root.as_uri())


def test_what_is_put_can_be_got(store: Blobs, root: Path) -> None:
    ref = store.put("acme", "audio", "q.wav", DATA, "audio/wav")
    digest = hashlib.sha256(DATA).hexdigest()
    assert ref == BlobRef(key="acme/audio/q.wav", size=12, sha256=digest, mime="audio/wav")
    assert store.get(ref, tenant="acme") == DATA
    assert store.get(BlobRef(key="acme/audio/q.wav"), tenant="acme") == DATA
    assert (root / "acme/audio/q.wav").read_bytes() == DATA


def test_a_second_put_replaces_the_first(store: Blobs) -> None:
    store.put("acme", "audio", "q.wav", DATA, "audio/wav")
    ref = store.put("acme", "audio", "q.wav", b"new", "audio/wav")
    assert store.get(ref, tenant="acme") == b"new"


@pytest.mark.parametrize("name", ["한글 이름.wav", "a%20b#c~d?.wav", "spring.1:2.wav", "deep/er/q.wav", "..wav"])
def test_odd_names_are_kept_as_they_are(store: Blobs, root: Path, name: str) -> None:
    ref = store.put("acme", "audio", name, DATA, "audio/wav")
    assert store.get(ref, tenant="acme") == DATA
    assert store.names("acme", "audio") == [name]
    assert (root / "acme/audio" / name).is_file()


@pytest.mark.parametrize(
    "key",
    [
        "/acme/audio/q.wav",
        "/etc/passwd",
        "../acme/audio/q.wav",
        "acme/../other/audio/q.wav",
        "acme/audio/..",
        "acme/./q.wav",
        "acme//q.wav",
        "acme/audio/",
        "acme\\audio\\q.wav",
        "acme/audio/..\\q.wav",
        "acme/audio/q\x00.wav",
        "acme/audio/q\n.wav",
        "acme/q.wav",
        "other/audio/q.wav",
        "acme2/audio/q.wav",
        "acme/audio/" + "가" * 400,
        "file:///etc/passwd",
        "s3://acme/audio/q.wav",
    ],
)
def test_a_key_that_is_not_the_tenants_own_is_refused(store: Blobs, key: str) -> None:
    with pytest.raises(InvalidBlob) as refused:
        store.get(BlobRef(key=key), tenant="acme")
    assert refused.value.field == "audio"


@pytest.mark.parametrize("tenant", ["", "..", "a/b", ".hidden", "-"])
def test_a_tenant_that_is_no_name_is_refused(store: Blobs, tenant: str) -> None:
    with pytest.raises(InvalidBlob):
        store.put(tenant, "audio", "q.wav", DATA, "audio/wav")


@given(key=st.text(min_size=3, max_size=60) | st.from_regex(r"(acme|\.\.|/|\\|etc|\.|audio){3,9}", fullmatch=True))
def test_no_key_ever_reaches_outside(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    (folder.parent / "secret").write_bytes(b"secret")
    any_store = open_store(folder.as_uri())
    with pytest.raises((InvalidBlob, BlobMissing, StoreUnavailable)):
        any_store.get(BlobRef.model_construct(key=key, size=None, sha256=None, mime=None), tenant="acme")


def test_a_symbolic_link_is_not_followed_out_of_the_store(store: Blobs, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.put("acme", "audio", "q.wav", DATA, "audio/wav")
    (root / "acme/linked").symlink_to(outside)
    (root / "acme/audio/link").symlink_to(outside / "secret")
    for key in ("acme/linked/secret", "acme/audio/link"):
        with pytest.raises(InvalidBlob):
            store.get(BlobRef(key=key), tenant="acme")
    with pytest.raises(InvalidBlob):
        store.put("acme", "linked", "new", DATA, "audio/wav")
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_root_that_is_itself_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    linked = open_store((tmp_path / "link").as_uri())
    assert linked.get(linked.put("acme", "audio", "q", DATA, "audio/wav"), tenant="acme") == DATA


def test_a_reference_that_disagrees_with_the_bytes_is_refused(store: Blobs) -> None:
    ref = store.put("acme", "audio", "q.wav", DATA, "audio/wav")
    with pytest.raises(InvalidBlob, match="12 bytes, the reference says 13"):
        store.get(ref.model_copy(update={"size": 13}), tenant="acme")
    with pytest.raises(InvalidBlob, match="SHA-256") as refused:
        store.get(ref.model_copy(update={"sha256": "0" * 64}), tenant="acme", field="documents.0")
    assert refused.value.field == "documents.0"


def test_a_missing_blob_is_named(store: Blobs) -> None:
    with pytest.raises(BlobMissing, match=r"acme/audio/none\.wav") as missing:
        store.get(BlobRef(key="acme/audio/none.wav"), tenant="acme")
    assert (missing.value.field, missing.value.retryable) == ("audio", False)


def test_a_blob_over_the_limit_is_neither_written_nor_read(
    store: Blobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.put("acme", "audio", "q.wav", DATA, "audio/wav")
    monkeypatch.setattr("shared.blobs.settings", lambda: Settings(blob_max_bytes=5))
    with pytest.raises(InvalidBlob, match="12 bytes, the limit is 5"):
        store.get(ref, tenant="acme")
    with pytest.raises(InvalidBlob, match="12 bytes, the limit is 5"):
        store.put("acme", "audio", "r.wav", DATA, "audio/wav")
    assert not (root / "acme/audio/r.wav").exists()


def test_a_store_that_fails_is_worth_a_retry(store: Blobs, root: Path) -> None:
    (root / "acme").write_bytes(b"a file where a folder should be")
    with pytest.raises(StoreUnavailable) as failed:
        store.put("acme", "audio", "q.wav", DATA, "audio/wav")
    assert failed.value.retryable


def test_an_unreachable_bucket_is_a_store_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "hidden-word",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = open_store("s3://bucket/prefix")
    with pytest.raises(StoreUnavailable) as failed:
        bucket.get(BlobRef(key="acme/audio/q.wav"), tenant="acme")
    assert "hidden-word" not in failed.value.message


@pytest.mark.parametrize("url", ["", "blobs", "http://host/x", "file://host/x", "s3://", "file:relative"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        open_store(url)


def test_sweeping_takes_old_audio_and_leaves_voices(store: Blobs) -> None:
    for tenant in ("acme", "family"):
        for kind in ("audio", "reply", "voices"):
            store.put(tenant, kind, "x", DATA, "audio/wav")
    assert store.sweep(3600) == 0
    assert store.sweep(3600, now=lambda: datetime.now(UTC) + timedelta(seconds=3700)) == 4
    assert store.names("acme", "audio") == []
    assert store.names("family", "voices") == ["x"]
    assert store.sweep(0) == 0


def test_a_deleted_blob_is_gone_and_deleting_it_again_is_no_error(store: Blobs) -> None:
    ref = store.put("acme", "voices", "x", DATA, "audio/wav")
    store.delete("acme", "voices", "x")
    store.delete("acme", "voices", "x")
    with pytest.raises(BlobMissing):
        store.get(ref, tenant="acme")


def test_importing_it_loads_no_model_library() -> None:
    code = "import sys, shared.blobs; print([m for m in ('numpy', 'torch', 'obstore') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


FULL = """
import resource, signal, sys
from shared.blobs import open_store
from shared.errors import StoreUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
store = open_store(sys.argv[1])
try:
    store.put("acme", "audio", "big.wav", bytes(50_000), "audio/wav")
except StoreUnavailable as error:
    assert error.retryable
    print("refused;", store.names("acme", "audio"))
"""


def test_a_store_that_is_full_says_so_and_keeps_no_half_blob(store: Blobs, root: Path) -> None:
    store.put("acme", "audio", "small.wav", DATA, "audio/wav")
    done = subprocess.run([sys.executable, "-c", FULL, root.as_uri()], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused; ['small.wav']", done.stderr
