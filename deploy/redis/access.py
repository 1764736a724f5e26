"""Make what a Redis for this cluster needs and nobody may commit: users with passwords, certificates.

    python deploy/redis/access.py users --to /etc/redis --app spring --app web:turns,llm
    python deploy/redis/access.py certificates --to /etc/redis/tls --host redis.example.com

`users` expands `roles/*.acl` into `users.acl` (hashes of passwords) and `passwords` (`user:password`, for your secret
store; a user that stands there already keeps its password). `certificates` makes an authority, a certificate of the
server and one of clients with openssl. Needs no installed package.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent

ROLES: Mapping[str, tuple[str, ...]] = {
    "conductor": ("turns",),
    "llm": ("llm",),
    "stt": ("stt",),
    "tts": ("tts",),
    "rag": ("rag", "knowledge"),
    "trainer": ("training",),
}
"""Kinds of worker with the queues that they read."""

QUEUES = tuple(queue for queues in ROLES.values() for queue in queues)
"""Every queue of the cluster."""

USUAL = tuple(queue for queue in QUEUES if queue != "training")
"""What an application may use when nothing else is said."""

DAYS = 825
"""Validity of certificates; an authority lives as long as what it signed."""

APP = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""Name of an application. No dot: `a` would own the jobs of `a.b`."""


@dataclass(frozen=True)
class Cluster:
    """What the users of one cluster have in common."""

    prefix: str = "maeari:"
    """As `MAEARI_KEY_PREFIX`."""
    db: int = 0
    """Number of the database in `MAEARI_REDIS_URL`."""


def users(apps: Mapping[str, tuple[str, ...]], passwords: Mapping[str, str], cluster: Cluster) -> str:
    """The content of an `aclfile`. `apps`: names with the queues that each may use; `passwords`: by user."""
    lines = ["user default off"]
    for name in ("admin", "health", "operator", "flower", "replica"):
        lines += expand(name, {}, QUEUES, passwords, cluster)
    for role, queues in ROLES.items():
        lines += expand("worker", {"role": role}, queues, passwords, cluster)
    for app, queues in apps.items():
        lines += expand("producer", {"app": app}, queues, passwords, cluster)
    return "\n".join(lines) + "\n"


def expand(
    template: str, values: Mapping[str, str], queues: Iterable[str], passwords: Mapping[str, str], cluster: Cluster
) -> Iterator[str]:
    """A line for each user of `roles/<template>.acl`."""
    text = (HERE / "roles" / f"{template}.acl").read_text("utf-8")
    for user in _joined(text, values.get("role", "")):
        name = _filled(user.split()[1], values, cluster)
        digest = hashlib.sha256(passwords[name].encode()).hexdigest()
        words = (_filled(word, {**values, "password": f"#{digest}"}, cluster) for word in user.split())
        yield " ".join(repeated for word in words for repeated in _repeated(word, tuple(queues)))


def _joined(text: str, role: str) -> list[str]:
    """Users, a line each; without comments and other roles' lines."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.strip()
        if words.startswith("@"):
            roles, _, words = words[1:].partition(" ")
            if role not in roles.split(","):
                continue
        if words.startswith("user "):
            found.append(words)
        elif words and not words.startswith("#"):
            found[-1] += f" {words}"
    return found


def _filled(word: str, values: Mapping[str, str], cluster: Cluster) -> str:
    for name, value in {**values, "prefix": cluster.prefix, "db": str(cluster.db)}.items():
        word = word.replace("{" + name + "}", value)
    return word


def _repeated(word: str, queues: tuple[str, ...]) -> list[str]:
    """The word once for each queue that it stands for; what follows it in the same parentheses stays behind it."""
    for sign, names in (("{queue}", queues), ("{any}", QUEUES)):
        if sign in word:
            body, end = (word[:-1], ")") if word.endswith(")") else (word, "")
            return [*(body.replace(sign, name) for name in names[:-1]), body.replace(sign, names[-1]) + end]
    return [word]


def names(apps: Iterable[str]) -> list[str]:
    """Every user that `users` makes."""
    fixed = ["admin", "health", "operator", "flower", "replica", "sentinel"]
    return [*fixed, *(f"worker-{role}" for role in ROLES), *(f"producer-{app}" for app in apps)]


def parse_apps(given: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """`spring` or `web:turns,llm` to names with queues."""
    found = {}
    for value in given:
        name, _, listed = value.partition(":")
        queues = tuple(listed.split(",")) if listed else USUAL
        if not APP.fullmatch(name):
            raise SystemExit(f"{name!r} is no name of an application: lower-case letters, digits, '-' and '_'.")
        if unknown := set(queues) - set(QUEUES):
            raise SystemExit(f"There is no queue {sorted(unknown)[0]!r}; queues are {', '.join(QUEUES)}.")
        found[name] = queues
    return found


def write_users(folder: Path, apps: Mapping[str, tuple[str, ...]], cluster: Cluster) -> None:
    """`users.acl` and `passwords` in `folder`; passwords that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    before = read_passwords(folder)
    passwords = {name: before.get(name) or secrets.token_urlsafe(32) for name in names(apps)}
    _write_private(folder / "passwords", "".join(f"{name}:{password}\n" for name, password in passwords.items()))
    _write_private(folder / "users.acl", users(apps, passwords, cluster))


def read_passwords(folder: Path) -> dict[str, str]:
    """What `write_users` wrote, by user; empty where it did not."""
    kept = folder / "passwords"
    return dict(line.split(":", 1) for line in kept.read_text("utf-8").splitlines()) if kept.exists() else {}


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(content, "utf-8")


def write_certificates(folder: Path, hosts: Iterable[str]) -> None:
    """`ca.crt`, `redis.crt`, `redis.key`, `client.crt`, `client.key` in `folder`, and the authority's `ca.key`."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = ("-keyout", "ca.key", "-out", "ca.crt", "-days", str(DAYS), "-subj", "/CN=Maeari CA")
    _openssl(folder, "req", "-x509", *_NEW, *authority)
    _signed(folder, "redis", ",".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts))
    _signed(folder, "client", "DNS:maeari-client")
    for key in folder.glob("*.key"):
        key.chmod(0o600)


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _signed(folder: Path, name: str, alternatives: str) -> None:
    _openssl(folder, "req", *_NEW, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN=maeari-{name}")
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={alternatives}\nextendedKeyUsage=serverAuth,clientAuth\n", "utf-8")
    _openssl(
        folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
        "-out", f"{name}.crt", "-days", str(DAYS), "-extfile", extensions.name,
    )  # fmt: skip
    extensions.unlink()
    (folder / f"{name}.csr").unlink()


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdecimal()


def _openssl(folder: Path, *arguments: str) -> None:
    ran = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"openssl {arguments[0]}: {ran.stderr.strip()[-500:]}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Users and certificates for a Redis of this cluster.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("users", help="an aclfile and the passwords to it")
    one.add_argument("--app", action="append", default=[], metavar="NAME[:QUEUE,...]", help="who enqueues, and where")
    one.add_argument("--prefix", default=Cluster.prefix, help="MAEARI_KEY_PREFIX")
    one.add_argument("--db", type=int, default=0, help="number of the database")
    two = kinds.add_parser("certificates", help="an authority, a server's and a client's certificate")
    two.add_argument("--host", action="append", required=True, help="name or address that clients connect to")
    for command in (one, two):
        command.add_argument("--to", type=Path, required=True, help="folder to write to")
    chosen = parser.parse_args()
    if chosen.kind == "users":
        write_users(chosen.to, parse_apps(chosen.app), Cluster(chosen.prefix, chosen.db))
    else:
        write_certificates(chosen.to, chosen.host)
    sys.stdout.write(f"written to {chosen.to}\n")


if __name__ == "__main__":
    main()
