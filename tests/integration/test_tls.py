"""Everybody over TLS to a Redis that runs with `deploy/redis/redis.conf`, its users and its certificates; and what those are told
whose certificate, host or password is wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import access
from shared.cluster.probes import ask_redis
from shared.connection import connect
from shared.endpoint import Endpoint, shown_url
from shared.errors import AccessDenied, ConfigurationInvalid, MaeariError
from shared.producer import AsyncProducer, Producer
from shared.settings import Settings, settings
from tests.support.access import GuardedRedis
from tests.support.scripted import ScriptedCluster
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "deploy" / "redis" / "redis.conf")
EMBED = {"tenant": "t", "texts": ["안녕 🌊"]}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's and a client's certificate; and those of an authority that nobody knows."""
    folder = tmp_path_factory.mktemp("tls")
    access.write_certificates(folder, ["127.0.0.1"])
    access.write_certificates(folder / "stranger", ["127.0.0.1"])
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tls: Path) -> Iterator[ScriptedCluster]:
    """Two workers, each under its own user, with a client's certificate that Redis insists on."""
    folder = tmp_path_factory.mktemp("crew")
    server = GuardedRedis(folder / "redis", "spring", options=(CONFIG,), tls=tls)
    files = {
        "redis_ca_file": str(tls / "ca.crt"),
        "redis_cert_file": str(tls / "client.crt"),
        "redis_key_file": str(tls / "client.key"),
    }
    cluster = ScriptedCluster(folder, "conductor-1", "rag-1", server=server, urls=server.role_urls(), **files)
    yield cluster
    cluster.close()


@pytest.fixture
def server(cluster: ScriptedCluster) -> GuardedRedis:
    assert isinstance(cluster.server, GuardedRedis)
    return cluster.server


def trusting(monkeypatch: pytest.MonkeyPatch, **files: Path) -> None:
    """This process's settings."""
    for name, path in files.items():
        monkeypatch.setenv(f"MAEARI_REDIS_{name.upper()}_FILE", str(path))
    settings.cache_clear()


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    yield
    settings.cache_clear()


async def test_a_job_goes_over_tls_from_end_to_end(
    cluster: ScriptedCluster, server: GuardedRedis, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting(monkeypatch, ca=tls / "ca.crt")
    producer = Producer(server.url_of("producer-spring"))
    assert producer.submit("rag.embed", EMBED, job_id="spring.tls").created
    assert producer.result("spring.tls", timeout_s=120)["vectors"]
    several = AsyncProducer(server.url_of("producer-spring"))
    await several.submit("rag.embed", EMBED, job_id="spring.async")
    kinds = [event.type async for event in several.follow("spring.async", timeout_s=120)]
    assert kinds == ["accepted", "started", "done"]
    await several.close()


def test_the_configuration_keeps_jobs_and_speaks_nothing_but_tls(server: GuardedRedis) -> None:
    shown = server.client.config_get("*")
    assert (shown["appendonly"], shown["maxmemory-policy"], shown["port"]) == ("yes", "noeviction", "0")
    answer = ask_redis(server.url)
    assert (answer.state, answer.persistent, answer.policy) == ("ready", True, "noeviction")


def test_a_redis_that_asks_clients_for_certificates_gets_them_from_workers(
    cluster: ScriptedCluster, server: GuardedRedis, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.client.config_set("tls-auth-clients", "yes")
    try:
        cluster.workers["rag-1"].drain()
        trusting(monkeypatch, ca=tls / "ca.crt")
        until(lambda: "asks for a certificate of its clients" in refusal(server), "it says what is missing")
        trusting(monkeypatch, cert=tls / "stranger" / "client.crt", key=tls / "stranger" / "client.key")
        until(lambda: "does not trust the certificate" in refusal(server), "it says what is wrong")
        trusting(monkeypatch, cert=tls / "client.crt", key=tls / "client.key")
        cluster.producer = Producer(server.url_of("operator"))
        cluster.restart("rag-1")
        producer = Producer(server.url_of("producer-spring"))
        producer.submit("rag.embed", EMBED, job_id="spring.mutual")
        assert producer.result("spring.mutual", timeout_s=120)["vectors"]
    finally:
        Producer(server.url_of("admin")).jobs.client.config_set("tls-auth-clients", "optional")


def refusal(server: GuardedRedis) -> str:
    """What a producer is told. Redis hangs up when it dislikes a certificate, and its reason may come too late to be read."""
    producer = Producer(server.url_of("producer-spring"))
    producer.jobs.client = connect(server.url_of("producer-spring"), patience_s=0.0)
    with pytest.raises(MaeariError) as error:
        producer.cancel("spring.x")
    return error.value.message


def test_an_unknown_authority_and_another_host_are_named_at_once(
    server: GuardedRedis, tls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting(monkeypatch, ca=tls / "stranger" / "ca.crt")
    url = server.url_of("producer-spring")
    with pytest.raises(ConfigurationInvalid, match="of no authority that MAEARI_REDIS_CA_FILE names"):
        Producer(url).submit("rag.embed", EMBED, job_id="spring.untrusted")
    assert ask_redis(url).state == "untrusted"
    trusting(monkeypatch, ca=tls / "ca.crt")
    with pytest.raises(ConfigurationInvalid, match="for another host"):
        Producer(url.replace("127.0.0.1", "localhost")).submit("rag.embed", EMBED, job_id="spring.elsewhere")
    with pytest.raises(AccessDenied):
        Producer(url.replace("producer-spring:", "producer-spring:x")).submit("rag.embed", EMBED, job_id="spring.who")
    with pytest.raises(ConfigurationInvalid, match="cannot switch off"):
        Producer(f"{url}?ssl_cert_reqs=none")
    with pytest.raises(ConfigurationInvalid, match="There is no file"):
        Endpoint.of(url, Settings(redis_ca_file=tls / "nowhere"))


@pytest.mark.parametrize("wrong", ["authority", "password"])
def test_a_worker_that_will_never_be_let_in_says_so_and_ends(server: GuardedRedis, tls: Path, wrong: str) -> None:
    url, authority = server.url_of("worker-rag"), tls / "ca.crt"
    if wrong == "authority":
        authority = tls / "stranger" / "ca.crt"
    else:
        url = url.replace("worker-rag:", "worker-rag:not-")
    said = run("workers", "rag", MAEARI_REDIS_URL=url, MAEARI_REDIS_CA_FILE=str(authority), MAEARI_ENGINES="scripted")
    expected = "no authority that MAEARI_REDIS_CA_FILE names" if wrong == "authority" else "does not let this user"
    assert expected in said
    assert shown_url(url) in said
    assert "Traceback" not in said
    assert server.passwords["worker-rag"] not in said


def test_doctor_names_the_certificate_and_no_secret(server: GuardedRedis, tls: Path, tmp_path: Path) -> None:
    environment = {"MAEARI_REDIS_URL": server.url_of("operator"), "MAEARI_HOME": str(tmp_path)}
    said = run("shared.cli", "doctor", "--json", **environment, MAEARI_REDIS_CA_FILE=str(tls / "stranger" / "ca.crt"))
    assert "of no authority that MAEARI_REDIS_CA_FILE names" in said
    assert "export MAEARI_REDIS_CA_FILE=" in said
    assert server.passwords["operator"] not in said


def run(*words: str, **environment: str) -> str:
    """What `python -m` prints, for people or into a log; it fails."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAEARI_")}
    command = [sys.executable, "-m", *words]
    ran = subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False)
    assert ran.returncode
    return ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://u:p%40w@host:6379/0?password=p", "redis://host:6379/0"),
        ("rediss://:secret@host/1", "rediss://host/1"),
        ("sentinel://u:p@a:1,b:2/0?service=maeari&sentinel_password=x", "sentinel://a:1,b:2/0?service=maeari"),
        ("redis://host", "redis://host"),
    ],
)
def test_a_shown_url_holds_no_secret(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert "p%40w" not in repr(Endpoint(url))
