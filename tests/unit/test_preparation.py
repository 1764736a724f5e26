"""Chats become instructions: parent and child alone, their roles unified, nothing private, nothing said twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.packs import load_pack
from shared.prompting import build_messages
from workers.training.dialogue import load_dialogues
from workers.training.preparation import __main__ as command
from workers.training.preparation.chats import Chat, InvalidChats, Said, read_chats
from workers.training.preparation.dialogues import MOST_MESSAGES, Prepared, clean, prepare, refused
from workers.training.preparation.quality import of_corpus, of_file, spread
from workers.training.recipe import Source

EXPORT = """\
엄마 님과 카카오톡 대화
저장한 날짜 : 2024-03-06 10:00:00

--------------- 2024년 3월 5일 화요일 ---------------
[엄마] [오전 8:12] 일어났니?
[큰딸] [오전 8:15] 응
[큰딸] [오전 8:15] 나 오늘 시험이야
[엄마] [오전 8:16] 우리 딸
잘할 거란다.
[큰딸] [오후 1:02] 엄마 나 시험 끝났어!!!!!!
[엄마] [오후 1:03] 사진
[엄마] [오후 1:04] 고생했구나.
--------------- 2024년 3월 6일 수요일 ---------------
[큰딸] [오전 9:00] 아빠 번호 뭐였지?
[엄마] [오전 9:01] 010-1234-5678
[엄마] [오전 9:02] 여기로 걸어 보렴.
"""


def chat(*turns: tuple[str, str], name: str = "c") -> Chat:
    return Chat(name, tuple(Said(speaker=speaker, text=text) for speaker, text in turns))


def spoken(done: Prepared) -> list[list[tuple[str, str]]]:
    """Roles and texts of every example, without the system message."""
    found: list[Any] = [example["messages"] for example in done.examples]
    return [[(message["role"], message["content"]) for message in messages[1:]] for messages in found]


def test_an_export_is_read_by_day_and_pause(tmp_path: Path) -> None:
    file = tmp_path / "home.txt"
    file.write_text(EXPORT, encoding="utf-8")
    chats = list(read_chats(file))
    assert [len(found.turns) for found in chats] == [4, 3, 3]
    assert chats[0].turns[3] == Said(speaker="엄마", text="우리 딸\n잘할 거란다.")
    assert [found.id for found in chats] == ["home-1", "home-2", "home-3"]


def test_an_export_becomes_examples(tmp_path: Path) -> None:
    file = tmp_path / "home.txt"
    file.write_text(EXPORT, encoding="utf-8")
    done = prepare(read_chats(file), "parent")
    assert spoken(done) == [
        [("user", "응 나 오늘 시험이야"), ("assistant", "우리 딸 잘할 거란다.")],
        [("user", "엄마 나 시험 끝났어!!"), ("assistant", "고생했구나.")],
        [("user", "아빠 번호 뭐였지?"), ("assistant", "여기로 걸어 보렴.")],
    ]
    assert done.counts["left_out_no_words"] == 1 and done.counts["left_out_private"] == 1
    assert "010" not in json.dumps(done.examples)


def test_mother_and_father_are_one_and_others_are_left_out() -> None:
    done = prepare(
        [
            chat(("딸", "뭐 해?"), ("엄마", "밥 한단다."), ("딸", "아빠는?"), ("아빠", "신문 보지.")),
            chat(("딸", "할머니!"), ("할머니", "오냐."), ("엄마", "잘 있니?")),
            chat(("엄마", "여보"), ("아빠", "응")),
            chat(("friend", "hi"), ("child", "hello")),
            chat(("외할머니", "밥 먹어라"), ("딸", "네")),
        ],
        "parent",
    )
    assert spoken(done) == [
        [("user", "뭐 해?"), ("assistant", "밥 한단다."), ("user", "아빠는?"), ("assistant", "신문 보지.")]
    ]
    assert (done.counts["with_others"], done.counts["without_both"]) == (3, 1)


def test_names_of_speakers_can_be_given() -> None:
    chats = [chat(("Minji", "엄마 뭐 해?"), ("김영희", "뜨개질한단다.")), chat(("엄마", "x"), ("Minji", "y"))]
    done = prepare(chats, "parent", parents=["김영희"], children=["minji"])
    assert spoken(done) == [[("user", "엄마 뭐 해?"), ("assistant", "뜨개질한단다.")]]


def test_examples_begin_with_the_child_end_with_the_parent_and_come_once() -> None:
    turns = [("엄마", "자니?"), *[("딸", "응?"), ("엄마", "아니란다.")] * 6, ("딸", "잘 자")]
    once = chat(("딸", "안녕"), ("엄마", "그래."))
    done = prepare([chat(*turns), once, once], "parent")
    for example in spoken(done):
        assert example[0][0] == "user" and example[-1][0] == "assistant" and len(example) <= MOST_MESSAGES
    assert done.counts["duplicates"] == 1


def test_the_system_message_is_the_one_of_serving(tmp_path: Path) -> None:
    done = prepare([chat(("딸", "안녕"), ("엄마", "그래."))], "parent")
    messages: Any = done.examples[0]["messages"]
    assert messages[0]["content"] == build_messages(load_pack("parent"), (), (), "안녕")[0].content


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ㅋㅋㅋㅋㅋㅋ 진짜?????", "ㅋㅋ 진짜??"),
        ("  가\u200b\x07\n나\t다 ", "가 나 다"),
        ("\u1100\u1161", "가"),
        ("👩\u200d👧 응", "👩\u200d👧 응"),
    ],
)
def test_messages_are_cleaned(text: str, expected: str) -> None:
    assert clean(text) == expected
    assert clean(expected) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("사진 3장", "no_words"),
        ("이모티콘", "no_words"),
        ("삭제된 메시지입니다.", "no_words"),
        ("https://example.com 봐 봐", "private"),
        ("메일은 a.b@c.kr 이야", "private"),
        ("01012345678", "private"),
        ("02-123-4567로 해", "private"),
        ("900101-1234567", "private"),
        ("국민 123456-01-234567", "private"),
        ("1234 5678 1234 5678", "private"),
        ("가" * 401, "too_long"),
        ("세 시 30분에 2024년 사진 찍자", ""),
        ("이모티콘 예쁘다", ""),
    ],
)
def test_what_must_not_be_learned_is_left_out(text: str, why: str) -> None:
    assert refused(text) == why


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", '{"turns": []}', "a.jsonl:1: turns"),
        ("a.jsonl", '\n{"turns": [{"speaker": "엄마"}]}', "a.jsonl:2: turns.0.text"),
        ("a.jsonl", "{", "a.jsonl:1: is not JSON"),
        ("a.txt", "그냥 글", "holds no line like"),
    ],
)
def test_bad_chats_are_named(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InvalidChats, match=problem):
        list(read_chats(tmp_path / name))
    with pytest.raises(InvalidChats, match="cannot be read"):
        list(read_chats(tmp_path / "none.txt"))


def test_the_command_prepares_what_a_recipe_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "home.txt").write_text(EXPORT, encoding="utf-8")
    out = tmp_path / "talks.jsonl"
    assert command.main(["prepare", str(tmp_path / "home.txt"), "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 3
    assert len(list(load_dialogues([Source(file=out)], seed=0))) == 3
    assert command.main(["report", "--file", str(out), "--pack", "parent", "--sample", str(tmp_path / "read.txt")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["examples"], told["duplicates"], told["sample"]["examples"]) == (3, 0, 1)
    assert told["style_violations"]["address"] >= 1
    assert "assistant:" in (tmp_path / "read.txt").read_text("utf-8")


def test_a_file_without_parent_and_child_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"turns": [{"speaker": "A", "text": "안녕"}, {"speaker": "B", "text": "응"}]}', encoding="utf-8")
    assert command.main(["prepare", str(file), "--out", str(tmp_path / "o.jsonl")]) == 1
    assert "--parent, --child" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()
    assert command.main(["report", "--file", str(tmp_path / "none.jsonl")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_duplicates_and_broken_rules_are_counted(tmp_path: Path) -> None:
    line = {
        "category": "daily",
        "messages": [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "안녕하세요."}],
    }
    other = {"messages": [{"role": "user", "content": "뭐 해?"}, {"role": "assistant", "content": "우리 딸 생각하지."}]}
    file = tmp_path / "talks.jsonl"
    file.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in (line, line, other)), encoding="utf-8")
    told = of_file(file, "parent")
    assert told["categories"] == {"daily": 2, "none": 1}
    assert (told["duplicates"], told["same_answers"], told["answers_in_style"]) == (1, 1, round(1 / 3, 4))
    assert told["style_violations"] == {"ending": 2, "signature": 2, "address": 2}
    assert spread([3, 1, 2]) == {"shortest": 1, "median": 2, "p95": 3, "longest": 3}


def test_generated_dialogues_are_written_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made.jsonl"
    assert command.main(["write", "--style", "artist", "--count", "40", "--out", str(out)]) == 0
    capsys.readouterr()
    told = of_file(out, "artist")
    assert told["examples"] == 40 and len(told["categories"]) > 3
    whole = of_corpus(60, 0)
    assert whole["dialogues"]["artist"]["style_violations"] == {}
    assert sum(whole["seeds"]["parent"]["categories"].values()) >= 20
    for pack in ("parent", "artist"):  # a seed may call the person by a name, which the report does not know
        assert set(whole["seeds"][pack]["style_violations"]) <= {"address"}
    assert command.main(["report", "--dialogues", "60", "--sample", str(tmp_path / "read.txt")]) == 0
    assert json.loads(capsys.readouterr().out)["sample"]["examples"] == 18
