"""The corpus reads naturally by rule: particles fit, styles hold, nothing that is held out is trained."""

from __future__ import annotations

import random
import re

import pytest

from shared.contracts.pack import Pack
from shared.packs import knowledge_files, load_pack, pack_folder, sample_questions, seed_dialogues
from workers.training.corpus import (
    NEUTRAL,
    PACKS,
    Dialogue,
    dialogues,
    facts,
    markdown,
    pairs,
    questions,
    violations,
)
from workers.training.corpus.facts import table
from workers.training.corpus.josa import attach, fill, vocative
from workers.training.corpus.report import STYLES, replies, report
from workers.training.corpus.speech import spoken_sentences
from workers.training.corpus.style import without_emoji
from workers.training.corpus.values import draw, split_of

N = 400
SPOKEN = re.compile(r"[가-힣 ]+[가-힣]([,.?!] ?[가-힣 ]*)*")


@pytest.fixture(scope="module", params=[(style, split) for style in STYLES for split in ("train", "held")])
def made(request: pytest.FixtureRequest) -> list[Dialogue]:
    """Dialogues of each style and split."""
    style, split = request.param
    return list(dialogues(style, N, seed=11, split=split))


# --- particles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "form", "expected"),
    [
        ("나무", "을", "나무를"),
        ("꽃", "을", "꽃을"),
        ("나무", "이", "나무가"),
        ("물", "으로", "물로"),
        ("섬", "으로", "섬으로"),
        ("바다", "으로", "바다로"),
        ("수국", "이에요", "수국이에요"),
        ("보리", "이에요", "보리예요"),
        ("보리", "이다", "보리다"),
        ("보리", "이었단다", "보리였단다"),
        ("서연", "이름", "서연이"),
        ("지우", "이름", "지우"),
        ("서연", "이랑", "서연이랑"),
        ("지우", "이랑", "지우랑"),
    ],
)
def test_particles_fit_the_last_syllable(word: str, form: str, expected: str) -> None:
    assert attach(word, form) == expected


def test_names_are_called_by_their_ending() -> None:
    assert (vocative("지우"), vocative("서연")) == ("지우야", "서연아")
    assert fill("{n:아}, {v:이지}.", n="서연", v="보리") == "서연아, 보리지."


# --- facts and knowledge ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack_id", PACKS)
def test_the_packs_knowledge_is_what_the_facts_say(pack_id: str) -> None:
    folder = pack_folder(pack_id) / "knowledge"
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")} == markdown(pack_id)
    whole = "\n".join(file.text for file in knowledge_files(load_pack(pack_id)))
    assert all(fact.value in whole for fact in facts(pack_id))


@pytest.mark.parametrize("pack_id", PACKS)
def test_there_are_forty_facts_with_their_own_ids_and_wordings(pack_id: str) -> None:
    table_of_facts = facts(pack_id)
    assert len(table_of_facts) >= 40
    assert len({fact.id for fact in table_of_facts}) == len(table_of_facts)
    for fact in table_of_facts:
        assert len(set(fact.asks)) >= 11, fact.id
        assert not any(fact.value in ask for ask in fact.asks), fact.id


@pytest.mark.parametrize("pack_id", PACKS)
def test_the_demo_asks_what_the_pack_knows(pack_id: str) -> None:
    known = {question.text for question in questions(pack_id)}
    assert set(sample_questions(load_pack(pack_id))) <= known


# --- nothing held out is trained -------------------------------------------------------------------------------------


def _texts(split: str) -> set[str]:
    return {question.text for pack_id in PACKS for question in questions(pack_id) if question.split == split}


def test_no_held_question_is_trained_in_either_pack() -> None:
    assert not _texts("train") & _texts("held")


def test_a_held_combination_has_its_wording_and_a_held_paraphrase_has_not() -> None:
    for pack_id in PACKS:
        trained = {question.text for question in questions(pack_id) if question.split == "train"}
        for fact in facts(pack_id):
            assert set(fact.asks[:-1]) <= trained
            assert not any(text.endswith(fact.asks[-1]) for text in trained), fact.id


def test_no_dialogue_of_training_asks_or_answers_what_is_held() -> None:
    held = {text.rstrip(".?!") for text in _texts("held")}
    for style in STYLES:
        for dialogue in dialogues(style, N, seed=3):
            said = {m.content.rstrip(".?!") for m in dialogue.messages if m.role == "user"}
            assert not said & held


def test_held_values_are_never_drawn_for_training() -> None:
    trained = {e for style in STYLES for d in dialogues(style, N, seed=3) for e in d.expect if d.kind == "recall"}
    held = {
        e for style in STYLES for d in dialogues(style, N, seed=3, split="held") for e in d.expect if d.kind == "recall"
    }
    few = ("hobby", "job", "month", "season", "weather", "flower", "animal", "color", "instrument", "bread", "drink")
    small = {value for slot in few for value in table("values")[slot]}
    assert held
    assert not (trained & held) - small
    assert {split_of(value) for value in held - small} == {"held"}


def test_no_held_sentence_is_spoken_in_training() -> None:
    spoken = spoken_sentences()
    assert len({sentence.text for sentence in spoken}) == len(spoken)
    held = {sentence.text for sentence in spoken if sentence.split == "held"}
    assert held
    assert not held & {sentence.text for sentence in spoken if sentence.split == "train"}
    assert _texts("held") <= held


def test_pairs_of_a_split_hold_its_questions_alone() -> None:
    for pack_id in PACKS:
        assert {pair.question for pair in pairs(pack_id, "held")} <= _texts("held")
        assert {pair.question for pair in pairs(pack_id, "train", variants=1)} <= _texts("train")


# --- dialogues -------------------------------------------------------------------------------------------------------


def test_every_reply_keeps_its_style(made: list[Dialogue]) -> None:
    broken = [(reply, violations(d.style, reply, d.name)) for d in made for reply in replies(d)]
    assert [found for found in broken if found[1]] == []


def test_every_expected_value_stands_in_the_prompt_and_in_the_answer(made: list[Dialogue]) -> None:
    for dialogue in made:
        prompt = "\n".join(message.content for message in dialogue.messages)
        for value in dialogue.expect:
            assert value in prompt
            assert value in dialogue.answer


def test_an_unanswerable_question_gets_no_value(made: list[Dialogue]) -> None:
    asked = [dialogue for dialogue in made if dialogue.kind in ("unknown", "forgotten")]
    assert asked
    for dialogue in asked:
        assert dialogue.expect == ()
        assert any(marker in dialogue.answer for marker in ("기억", "모르"))


def test_a_known_name_is_used_in_a_packs_style(made: list[Dialogue]) -> None:
    named = [dialogue for dialogue in made if dialogue.name and dialogue.style != NEUTRAL]
    assert all(dialogue.name in dialogue.answer for dialogue in named if dialogue.name)


def test_prompts_fit_the_small_model(made: list[Dialogue]) -> None:
    assert max(sum(len(message.content) for message in dialogue.messages) for dialogue in made) <= 700


def test_equal_seeds_give_equal_dialogues_and_others_do_not() -> None:
    first = list(dialogues("parent", 50, seed=1))
    assert first == list(dialogues("parent", 50, seed=1))
    assert first != list(dialogues("parent", 50, seed=2))


def test_invented_facts_contradict_the_packs_own() -> None:
    own = {fact.id: fact.value for fact in facts("artist")}
    invented = [d for d in dialogues("artist", N, seed=7) if d.kind == "invented"]
    other = [d for d in invented if d.fact_id and d.expect[0] != own[d.fact_id]]
    assert len(other) > 0.9 * len(invented)


# --- style -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "reply", "rules"),
    [
        ("parent", "우리 딸, 엄마는 수국을 제일 좋아한단다.", []),
        ("parent", "엄마는 수국을 제일 좋아한단다.", ["address"]),
        ("parent", "우리 딸, 나는 수국을 좋아하지.", ["self-reference"]),
        ("parent", "우리 딸, 저는 수국을 좋아해요.", ["ending", "signature", "self-reference"]),
        ("parent", "우리 딸, 수국을 좋아하지 💜", ["emoji"]),
        ("parent", "우리 딸, 수국이 좋아.", ["signature"]),
        ("artist", "모래별, 내 고향은 섬이야! 🌊", []),
        ("artist", "모래별, 내 고향은 섬이야!", ["emoji"]),
        ("artist", "내 고향은 섬이야! 🌊", ["address"]),
        ("artist", "모래별, 고향은 섬이에요! 🌊", ["ending"]),
        ("artist", "모래별, 고향은 섬이야! 🔥", ["emoji"]),
        ("artist", "우리 딸, 엄마는 수국을 좋아한단다.", ["ending", "self-reference", "address", "emoji"]),
        ("neutral", "고향은 섬이에요.", []),
        ("neutral", "고향은 섬이야.", ["ending"]),
        ("parent", "  ", ["empty"]),
    ],
)
def test_each_rule_is_noticed(style: str, reply: str, rules: list[str]) -> None:
    assert violations(style, reply) == rules


def test_a_name_counts_as_address_once_it_is_known() -> None:
    assert violations("parent", "지우야, 수국을 좋아하지.", "지우") == []
    assert violations("parent", "지우야, 수국을 좋아하지.") == ["address"]


def test_the_packs_styles_exclude_each_other() -> None:
    for style, other in (("parent", "artist"), ("artist", "parent")):
        answers = [(d.answer, d.name) for d in dialogues(style, 200, seed=9)]
        assert all(violations(other, answer, name) for answer, name in answers)


@pytest.mark.parametrize("pack_id", PACKS)
def test_hand_written_dialogues_keep_the_style(pack_id: str) -> None:
    pack: Pack = load_pack(pack_id)
    for seed in seed_dialogues(pack):
        told = re.search(r"내 이름(?:은)? ([가-힣]{2})(?:으로|로|이야|야)", seed.turns[0])
        for reply in seed.turns[1::2]:
            assert violations(pack_id, reply, told[1] if told else None) == [], reply
    assert violations(pack_id, pack.safety.blocked_reply) == []
    assert violations(pack_id, pack.safety.unknown_reply) == []


# --- speech ----------------------------------------------------------------------------------------------------------


def test_spoken_sentences_hold_nothing_that_is_not_spoken() -> None:
    for sentence in spoken_sentences():
        assert SPOKEN.fullmatch(sentence.text), sentence.text
        assert without_emoji(sentence.text) == sentence.text
        assert len(sentence.text) <= 60


def test_held_combinations_are_made_of_trained_words() -> None:
    spoken = spoken_sentences()
    words = {word.strip(".,?!") for s in spoken if s.split == "train" for word in s.text.split()}
    combined = [s for s in spoken if s.split == "held" and s.kind != "paraphrase"]
    held = [word.strip(".,?!") for s in combined for word in s.text.split()]
    assert sum(word in words for word in held) / len(held) >= 0.97


def test_the_report_counts_what_there_is() -> None:
    figures = report(60, seed=0)
    assert set(figures["dialogues"]) == set(STYLES)
    assert all(style["style_violations"] == {} for style in figures["dialogues"].values())
    assert 7000 <= figures["spoken_sentences"]["all"] <= 11000


def test_values_can_be_drawn_for_every_slot() -> None:
    rng = random.Random(0)
    slots = {fact.slot for pack_id in PACKS for fact in facts(pack_id)} | {m["slot"] for m in table("memory")}
    for slot in slots:
        assert draw(slot, rng, "train")
        assert draw(slot, rng, "held")


def test_a_search_s_context_is_harder_than_a_chance_one_and_holds_the_answer() -> None:
    def shared(one: Dialogue) -> int:
        context, ask = one.messages[0].content, one.messages[-1].content
        return sum(ask[at : at + 2] in context for at in range(len(ask) - 1))

    for pack in PACKS:
        chance, alike = (
            [one for one in dialogues(pack, N, seed=3, alike=share) if one.kind == "fact"] for share in (0.0, 0.999)
        )
        assert sum(map(shared, alike)) / len(alike) > sum(map(shared, chance)) / len(chance)
        assert all(value in one.messages[0].content for one in alike for value in one.expect)
