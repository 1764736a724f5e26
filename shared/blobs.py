"""Audio and documents by reference: a folder or an S3-compatible store behind the protocol `BlobStore`.

Keys are `<tenant>/<kind>/<name>`. Kinds in use: `audio` and `document` (what callers bring) and `reply` (what
jobs make), which are swept after `blob_ttl_s`; `voices` (enrolled voices), which stay.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from .contracts.base import BlobRef
from .errors import BlobMissing, ConfigurationInvalid, InvalidBlob, StoreUnavailable
from .settings import settings

if TYPE_CHECKING:
    from obstore.store import LocalStore, S3Store

SWEPT_KINDS = ("audio", "document", "reply")
"""Kinds of blobs that belong to a job and go with it."""
VOICES = "voices"
"""Kind of an enrolled voice's records, recordings and latents."""
S3_TIMEOUT_S = 20
"""Seconds after which one request to an S3-compatible store has failed."""

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_KEY_BYTES = 900
"""S3 allows 1024, of which the configured prefix takes some."""


def open_store(url: str) -> Blobs:
    """The store at `file:///folder` or `s3://bucket/prefix` (credentials and endpoint from the usual `AWS_*`).

    Raises `ConfigurationInvalid` for any other URL and `StoreUnavailable` for a folder that cannot be made.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"} and parts.path.startswith("/"):
        return _open_folder(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return _open_bucket(url)
    raise ConfigurationInvalid("MAEARI_BLOB_URL must be file:///folder or s3://bucket/prefix.", field="blob_url")


def _open_folder(root: Path) -> Blobs:
    from obstore.store import LocalStore

    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"The blob folder cannot be made ({type(error).__name__}).") from error
    return Blobs(LocalStore(root), folder=root.resolve())


def _open_bucket(url: str) -> Blobs:
    from obstore.store import S3Store

    bucket = S3Store.from_url(
        url,
        client_options={"timeout": timedelta(seconds=S3_TIMEOUT_S), "connect_timeout": timedelta(seconds=5)},
        # Retrying for longer is the job's business, within its deadline.
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=S3_TIMEOUT_S)},
    )
    return Blobs(bucket)


class Blobs:
    """Keeps bytes by key; implements `BlobStore`. May be used from many threads, but not across a fork."""

    def __init__(self, store: LocalStore | S3Store, *, folder: Path | None = None) -> None:
        """`folder`: the root of a store of files."""
        self._store = store
        self._folder = folder

    def put(self, tenant: str, kind: str, name: str, data: bytes, mime: str) -> BlobRef:
        """Store under `<tenant>/<kind>/<name>`; an existing blob of that key is replaced."""
        key = f"{tenant}/{kind}/{name}"
        self._check(key, tenant, "audio")
        if len(data) > settings().blob_max_bytes:
            raise InvalidBlob(_too_large(len(data)), field="audio")
        with _store_errors(key):
            # A folder keeps no media type beside a file; the reference carries it.
            attributes = None if self._folder else {"Content-Type": mime}
            self._store.put(key, data, attributes=attributes)
        return BlobRef(key=key, size=len(data), sha256=hashlib.sha256(data).hexdigest(), mime=mime)

    def get(self, ref: BlobRef, *, tenant: str, field: str = "audio") -> bytes:
        """The bytes; raises `InvalidBlob`, `BlobMissing`, `StoreUnavailable`.

        `field`: the input that an error names.
        """
        self._check(ref.key, tenant, field)
        with _store_errors(ref.key, field):
            found = self._store.get(ref.key)
            size = found.meta["size"]
            if size > settings().blob_max_bytes:
                raise InvalidBlob(_too_large(size), field=field)
            data = bytes(found.bytes())
        if ref.size is not None and ref.size != len(data):
            raise InvalidBlob(f"It has {len(data)} bytes, the reference says {ref.size}.", field=field)
        if ref.sha256 is not None and ref.sha256 != hashlib.sha256(data).hexdigest():
            raise InvalidBlob("Its content has another SHA-256 than the reference says.", field=field)
        return data

    def names(self, tenant: str, kind: str) -> list[str]:
        """Names of the tenant's blobs of that kind, sorted."""
        prefix = f"{tenant}/{kind}"
        self._check(f"{prefix}/-", tenant, "audio")
        with _store_errors(prefix):
            return sorted(blob[0].removeprefix(prefix + "/") for blob in self._list(prefix))

    def delete(self, tenant: str, kind: str, name: str) -> None:
        """Forget a blob; one that does not exist is forgotten already."""
        key = f"{tenant}/{kind}/{name}"
        self._check(key, tenant, "audio")
        with _store_errors(key):
            self._delete(key)

    def sweep(self, older_than_s: float, *, now: Callable[[], datetime] | None = None) -> int:
        """Delete every tenant's blobs of `SWEPT_KINDS` that were last written before so many seconds.

        Returns how many.
        """
        limit = (now or _now)() - timedelta(seconds=older_than_s)
        with _store_errors("(all)"):
            tenants = self._store.list_with_delimiter()["common_prefixes"]
            prefixes = [f"{tenant}/{kind}" for tenant in tenants for kind in SWEPT_KINDS]
            old = [key for prefix in prefixes for key, written in self._list(prefix) if written < limit]
            for key in old:
                self._delete(key)
        return len(old)

    def _list(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        for page in self._store.list(prefix):
            for blob in page:
                yield blob["path"], blob["last_modified"]

    def _delete(self, key: str) -> None:
        try:
            self._store.delete(key)
        except FileNotFoundError:
            return

    def _check(self, key: str, tenant: str, field: str) -> None:
        """Raise `InvalidBlob` unless `key` is a plain path below the tenant's own folder."""
        problem = _problem(key, tenant)
        if problem is None and self._folder and _leaves(self._folder, key):
            problem = "Its key leads out of the store."
        if problem:
            raise InvalidBlob(problem, field=field)


def _problem(key: str, tenant: str) -> str | None:
    parts = key.split("/")
    if key.startswith("/") or "\\" in key or any(part in {"", ".", ".."} for part in parts):
        return "Its key must be relative, with forward slashes and without empty, '.' or '..' parts."
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in key) or len(key.encode()) > _MAX_KEY_BYTES:
        return "Its key holds control characters or is too long."
    if len(parts) < 3:
        return "Its key must be <tenant>/<kind>/<name>."
    if not _TENANT.fullmatch(tenant) or parts[0] != tenant:
        return "Its key belongs to another tenant."
    return None


def _leaves(folder: Path, key: str) -> bool:
    """A symbolic link on the way leads elsewhere; the library would follow it."""
    return not (folder / key).resolve().is_relative_to(folder)


def _too_large(size: int) -> str:
    return f"It has {size} bytes, the limit is {settings().blob_max_bytes}."


def _now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def _store_errors(key: str, field: str = "audio") -> Iterator[None]:
    """The library's errors as this project's; messages of the library may hold credentials and stay inside."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise BlobMissing(f"There is nothing under {key}.", field=field) from error
    except (BaseError, OSError) as error:
        raise StoreUnavailable(f"({type(error).__name__})") from error
