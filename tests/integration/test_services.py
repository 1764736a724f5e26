"""A cluster of real services and real conductors, brought up and down by the command that users type."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.cluster.probes import ask_redis, port_free
from tests.support.home import ROOT, Home, make_home
from tests.support.servers import RedisServer
from tests.support.waiting import until

CONDUCTOR_ALONE = tuple(word for role in ("llm", "stt", "tts", "rag") for word in ("--replicas", f"{role}=0"))

pytestmark = pytest.mark.timeout(900)


def alive(pid: int) -> bool:
    """A process that has not ended; one that nobody has reaped yet has."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A cluster that does not run yet."""
    home = make_home(tmp_path / "home")
    yield home
    home.run("down")
    assert all(port_free(port) for port in home.ports)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Services and one conductor, ready."""
    home = make_home(tmp_path_factory.mktemp("running") / "home")
    try:
        home.run("up", *CONDUCTOR_ALONE)
        yield home
    finally:
        home.run("down")


# --- a cluster that runs ---


def test_everything_is_ready_and_named(running: Home) -> None:
    status = running.json("status")
    assert status["ready"]
    assert {row["name"]: row["state"] for row in status["services"]} == dict.fromkeys(
        ("redis", "chroma", "flower"), "ready"
    )
    assert [(row["role"], row["state"]) for row in status["workers"]] == [("conductor", "ready")]
    assert all(row["rss_mb"] > 1 and row["pid"] for row in (*status["services"], *status["workers"]))
    assert set(status["queues"]) >= {"turns", "stt", "llm", "tts", "rag", "knowledge"}


def test_its_redis_keeps_jobs_and_listens_on_loopback_alone(running: Home) -> None:
    answer = ask_redis(running.environment["MAEARI_REDIS_URL"])
    assert (answer.persistent, answer.policy, answer.folder) == (True, "noeviction", running.layout.redis)
    config = running.client().config_get("*")
    assert (config["bind"], config["appendonly"], config["appendfsync"]) == ("127.0.0.1", "yes", "everysec")
    assert config["protected-mode"] == "yes"


def test_flower_asks_for_its_password(running: Home) -> None:
    url = f"http://127.0.0.1:{running.port('flower')}/api/workers"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url)
    refused.value.close()
    assert refused.value.code == 401
    password = running.layout.flower_password.read_text().strip()
    request = urllib.request.Request(url)
    request.add_header("Authorization", "Basic " + base64.b64encode(f"maeari:{password}".encode()).decode())
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    lines = [" ".join(process.cmdline()) for process in map(psutil.Process, running.processes().values())]
    assert any("flower" in line for line in lines)
    assert not any(password in line for line in lines), "anybody on the machine may read command lines"


def test_a_second_up_changes_nothing_and_says_so(running: Home) -> None:
    before = running.processes()
    assert len(before) == 4
    assert "up already" in running.run("up").stdout
    assert running.processes() == before


def test_replicas_are_added_and_taken_away_without_touching_the_rest(running: Home) -> None:
    before = {row["name"]: row["pid"] for row in running.json("status")["workers"]}
    assert running.json("up", "--replicas", "conductor=3")["started"] == ["conductor-1", "conductor-2"]
    now = {row["name"]: (row["pid"], row["state"]) for row in running.json("status")["workers"]}
    assert sorted(now) == ["conductor-0", "conductor-1", "conductor-2"]
    assert now["conductor-0"] == (before["conductor-0"], "ready")
    running.run("up", "--replicas", "conductor=1")
    assert {row["name"]: row["pid"] for row in running.json("status")["workers"]} == before


def test_other_settings_are_refused_while_it_runs(running: Home) -> None:
    error = running.json("up", ok=False, MAEARI_LLM_MODEL="other")["error"]
    assert "MAEARI_LLM_MODEL" in error["message"]
    assert "maeari down" in error["message"]


def test_a_killed_worker_comes_back(running: Home) -> None:
    pid = running.json("status")["workers"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    until(
        lambda: any(row["state"] == "ready" and row["pid"] != pid for row in _workers(running)),
        "another conductor is ready", timeout_s=240, every_s=0.5,
    )  # fmt: skip


def _workers(home: Home) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "shared.cli", "status", "--json"],
        cwd=ROOT, env=home.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    workers: list[dict[str, Any]] = json.loads(done.stdout)["workers"]
    return workers


def test_logs_are_shown_by_role_and_followed(running: Home, tmp_path: Path) -> None:
    assert "Frontend server listening" in running.run("logs", "chroma").stdout
    refused = running.run("logs", "../run/flower", ok=False)
    assert "conductor-0" in refused.stderr, "the known logs are named, and no path leads out of the folder"
    command = [sys.executable, "-m", "shared.cli", "logs", "conductor", "-f", "-n", "0"]
    log, shown = running.layout.log("conductor-0"), tmp_path / "shown"
    with shown.open("w") as out, subprocess.Popen(command, cwd=ROOT, env=running.environment, stdout=out) as following:
        try:
            until(lambda: _appears(log, shown), "the new line is shown", every_s=0.2)
        finally:
            following.send_signal(signal.SIGINT)


def _appears(log: Path, shown: Path) -> bool:
    with log.open("a") as file:
        file.write("a line of the test\n")
    return "a line of the test" in shown.read_text()


def test_the_redis_of_another_cluster_is_not_shared_by_accident(running: Home, home: Home) -> None:
    error = home.json("up", ok=False, MAEARI_REDIS_URL=running.environment["MAEARI_REDIS_URL"])["error"]
    assert error["code"] == "configuration_invalid"
    assert str(running.layout.home) in error["message"]
    assert home.processes() == {}


# --- a cluster that does not run yet ---


def test_a_life_beside_another_cluster(running: Home, home: Home) -> None:
    """Up, its supervisor killed, up again, down, in the foreground until TERM: the data stays, nobody is left over."""
    running.client().set("whose", "first")
    home.run("up", *CONDUCTOR_ALONE)
    assert home.client().get("whose") is None
    assert running.names()["conductor-0"] == home.names()["conductor-0"] == "ready"
    home.client().set("kept", "yes")

    before = home.processes()
    assert len(before) == 4
    os.kill(int(home.layout.supervisor_pid.read_text()), signal.SIGKILL)
    until(lambda: not any(map(alive, before.values())), "nobody outlives the supervisor")
    home.run("up", *CONDUCTOR_ALONE)
    assert home.names()["conductor-0"] == "ready"
    assert home.client().get("kept") == "yes"

    processes = [*home.processes().values(), int(home.layout.supervisor_pid.read_text())]
    assert home.json("down") == {"stopped": True}
    assert not any(map(alive, processes))
    assert home.json("status", ok=False)["ready"] is False
    assert home.json("down") == {"stopped": False}

    in_the_foreground_until_term(home)
    assert running.names()["conductor-0"] == "ready"


def in_the_foreground_until_term(home: Home) -> None:
    command = [sys.executable, "-m", "shared.cli", "up", "--foreground", *CONDUCTOR_ALONE]
    with subprocess.Popen(
        command, cwd=ROOT, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        until(lambda: home.layout.state.exists() and home.names().get("conductor-0") == "ready", "it is up",
              timeout_s=300, every_s=0.5)  # fmt: skip
        assert home.client().get("kept") == "yes"
        process.send_signal(signal.SIGTERM)
        shown, _ = process.communicate(timeout=240)
    assert process.returncode == 0, shown
    assert home.processes() == {}


@pytest.mark.parametrize("service", ["redis", "chroma", "flower"])
def test_a_taken_port_is_named_with_the_setting_that_moves_it(home: Home, service: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", home.port(service)))
        taken.listen()
        error = home.json("up", *CONDUCTOR_ALONE, ok=False)["error"]
    assert str(home.port(service)) in error["message"]
    assert f"MAEARI_{service.upper()}" in error["message"]
    assert home.processes() == {}


def test_a_role_that_cannot_load_fails_the_start_with_its_last_words(home: Home, tmp_path: Path) -> None:
    result = home.run(
        "up", *CONDUCTOR_ALONE, "-r", "stt=1", ok=False, MAEARI_MODELS_PATH=str(tmp_path), MAEARI_STT_MODEL="none"
    )
    assert "stt-0" in result.stderr
    assert "Traceback" in result.stderr or "rror" in result.stderr
    assert str(home.layout.log("stt-0")) in result.stderr


def test_a_given_redis_is_used_as_it_is_and_left_alone(home: Home, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "given")
    try:
        home.environment["MAEARI_REDIS_URL"] = server.url
        home.run("up", *CONDUCTOR_ALONE)
        assert home.names()["redis"] == "external"
        home.run("down")
        assert server.client.ping()
    finally:
        server.close()


def test_a_redis_that_forgets_is_refused_but_for_a_trial(home: Home, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "given", "--appendonly", "no")
    try:
        home.environment["MAEARI_REDIS_URL"] = server.url
        assert "memory only" in home.json("up", *CONDUCTOR_ALONE, ok=False)["error"]["message"]
        assert home.json("doctor", ok=False)["ok"] is False
        with socket.socket() as taken:  # what is looked at next, when Redis will do
            taken.bind(("127.0.0.1", home.port("flower")))
            taken.listen()
            error = home.json("up", *CONDUCTOR_ALONE, "--throw-away", ok=False)["error"]
        assert "MAEARI_FLOWER_PORT" in error["message"]
    finally:
        server.close()
