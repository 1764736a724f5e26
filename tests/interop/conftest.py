"""A cluster whose engines only keep time, and the Java client at it, behind a proxy that can break its connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.java import JavaClient
from tests.support.proxy import TcpProxy
from tests.support.scripted import ScriptedCluster
from tests.support.servers import IN_MEMORY, RedisServer

REPLY = "안녕! 🌊 파도 👨‍👩‍👧‍👦 가족, 깃발 🇰🇷, 각도 '\"\\/ <b> 한글. " + "그래서 오늘은 산책을 갈까요? " * 30
"""Begins with characters of one to eleven code points; all of it takes about 5 seconds."""


@dataclass
class Interop:
    """Both producers at one cluster."""

    cluster: ScriptedCluster
    java: JavaClient
    proxy: TcpProxy
    """Between the Java client and Redis."""
    blobs: Path


@pytest.fixture(scope="session")
def interop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interop]:
    """One of each role at work."""
    folder = tmp_path_factory.mktemp("interop")
    blobs = folder / "blobs"
    server = RedisServer(folder / "redis", *IN_MEMORY)
    proxy = TcpProxy(server.port)
    java = JavaClient(f"redis://127.0.0.1:{proxy.port}/0", blobs, log=folder / "java.log")
    cluster = ScriptedCluster(
        folder,
        *("conductor-1", "stt-1", "llm-1", "tts-1", "rag-1"),
        server=server,
        blob_url=blobs.as_uri(),
        scripted_token_ms=20,
        scripted_sentence_ms=20,
        scripted_reply=REPLY,
        presence_ttl_s=2,
    )
    yield Interop(cluster, java, proxy, blobs)
    java.close()
    proxy.close()
    cluster.close()
