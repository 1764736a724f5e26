"""Documents become chunks that end where a reader would pause."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.chunking import PROFILES, Ends, MediaType, Profile, chunks

TOKENS = PROFILES["tokens-512-64"]
CHARS = PROFILES["chars-1000-0"]
SENTENCE = "바다는 오늘도 조용했고 우리는 방파제 끝까지 천천히 걸었다."


def words(text: str) -> list[int]:
    """A tokenizer for tests: a token is a word or a mark."""
    return [found.end() for found in re.finditer(r"\w+|[^\w\s]", text)]


def halves(text: str) -> list[int]:
    """A tokenizer that, like a byte-level one, makes two tokens of every character."""
    return [position for position in range(1, len(text) + 1) for _ in (0, 1)]


def test_a_short_text_is_one_chunk() -> None:
    assert [c.text for c in chunks(f"  {SENTENCE}\n", "text/plain", TOKENS, words)] == [SENTENCE]


@pytest.mark.parametrize("blank", ["", " \n\t ", "\n\n"])
def test_nothing_has_no_chunks(blank: str) -> None:
    assert chunks(blank, "text/plain", TOKENS, words) == []
    assert chunks(blank, "text/markdown", CHARS, words) == []


def test_characters_are_counted_and_never_repeated() -> None:
    text = " ".join(f"{number}번째로 {SENTENCE}" for number in range(100))
    found = [c.text for c in chunks(text, "text/plain", CHARS, words)]
    assert len(found) > 3
    assert all(500 < len(chunk) <= 1000 for chunk in found[:-1])
    assert all(chunk.endswith("걸었다.") for chunk in found)
    assert " ".join(found) == text


def test_tokens_overlap_by_whole_sentences() -> None:
    text = " ".join(f"{number}번째로 {SENTENCE}" for number in range(300))
    found = [c.text for c in chunks(text, "text/plain", TOKENS, words)]
    assert len(found) > 3
    assert all(len(words(chunk)) <= 512 for chunk in found)
    for before, after in pairwise(found):
        shared = next(after[:n] for n in range(len(after), -1, -1) if before.endswith(after[:n]))
        assert 0 < len(words(shared)) <= 64
        assert shared.endswith("걸었다.")
        assert re.match(r"\d+번째로 바다는", shared)


def test_a_sentence_longer_than_the_overlap_is_repeated_by_words() -> None:
    text = ". ".join(" ".join(f"낱말{place}" for place in range(start, start + 200)) for start in range(0, 2000, 200))
    found = [c.text for c in chunks(text, "text/plain", TOKENS, words)]
    for before, after in pairwise(found):
        first = after.split()[0]
        assert first in before.split()
        assert len(words(before[before.rindex(first) :])) <= 64


def test_paragraphs_are_the_best_place_to_cut() -> None:
    text = f"{' '.join([SENTENCE] * 22)}\n\n{' '.join([SENTENCE] * 20)}"
    first, *_ = chunks(text, "text/plain", CHARS, words)
    assert first.text == " ".join([SENTENCE] * 22)


def test_a_text_without_spaces_is_cut_between_syllables() -> None:
    text = "가나다라마바사" * 500
    found = [c.text for c in chunks(text, "text/plain", CHARS, words)]
    assert "".join(found) == text
    assert {len(chunk) for chunk in found[:-1]} == {1000}


@pytest.mark.parametrize("unit", ["👨‍👩‍👧", "e\u0301\u0323", "👍🏽", "❤️", "\u1100\u1161\u11a8"])
def test_joined_characters_stay_together(unit: str) -> None:
    text = unit * 700
    for chunk in chunks(text, "text/plain", CHARS, words):
        assert chunk.text == unit * (len(chunk.text) // len(unit))


def test_a_flag_is_not_cut() -> None:
    text = "가" + "🇰🇷나" * 600
    assert all(not chunk.text.startswith("🇷") for chunk in chunks(text, "text/plain", CHARS, words))


def test_headings_open_sections_and_their_path_is_kept() -> None:
    text = (
        "서두다.\n\n# 온결의 앨범\n\n## 첫 앨범\n\n파도다.\n\n### 뒷이야기\n비가 왔다.\n\n## 새 앨범 ##\n소금꽃이다.\n"
    )
    found = [(c.heading, c.text) for c in chunks(text, "text/markdown", TOKENS, words)]
    assert found == [
        ("", "서두다."),
        ("온결의 앨범 > 첫 앨범", "## 첫 앨범\n\n파도다."),
        ("온결의 앨범 > 첫 앨범 > 뒷이야기", "### 뒷이야기\n\n비가 왔다."),
        ("온결의 앨범 > 새 앨범", "## 새 앨범 ##\n\n소금꽃이다."),
    ]


def test_every_chunk_of_a_long_section_begins_with_its_heading() -> None:
    text = f"# 산책\n\n{' '.join([SENTENCE] * 200)}"
    for profile in (TOKENS, CHARS):
        found = chunks(text, "text/markdown", profile, words)
        assert len(found) > 1
        assert all(chunk.text.startswith("# 산책\n\n바다는") for chunk in found)
        assert all(chunk.heading == "산책" for chunk in found)


def test_a_comment_in_code_is_no_heading() -> None:
    text = "# 설치\n\n```sh\n# 주석\nmake\n```\n\n~~~\n# 또 주석\n```\n# 그리고\n~~~\n\n# 다음\n끝."
    assert [c.heading for c in chunks(text, "text/markdown", TOKENS, words)] == ["설치", "다음"]


def test_a_heading_without_text_is_kept_unless_sections_follow() -> None:
    found = [c.text for c in chunks("# 제목\n\n## 빈 절\n\n## 다른 절\n글.", "text/markdown", TOKENS, words)]
    assert found == ["## 빈 절", "## 다른 절\n\n글."]


def test_plain_text_has_no_headings() -> None:
    assert [(c.heading, c.text) for c in chunks("# 첫째\n둘째", "text/plain", TOKENS, words)] == [("", "# 첫째\n둘째")]


def test_line_ends_of_other_systems_read_the_same() -> None:
    text = "# 가\n\n하나.\n\n# 나\n\n둘.\n"
    assert chunks(text.replace("\n", "\r\n"), "text/markdown", TOKENS, words) == chunks(
        text, "text/markdown", TOKENS, words
    )


def test_a_heading_as_long_as_a_chunk_is_cut_like_text() -> None:
    text = f"# {SENTENCE * 40}\n\n짧다."
    assert all(len(chunk.text) <= 1000 for chunk in chunks(text, "text/markdown", CHARS, words))


def test_a_profile_that_could_not_go_forward_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        Profile(100, 30, "token")


@given(
    st.text(alphabet=st.sampled_from("가나다. \n?~#`*\t👍🏽\u0301"), max_size=600),
    st.sampled_from([Profile(16, 3, "token"), Profile(40, 0, "character"), Profile(32, 7, "token")]),
    st.sampled_from(["text/plain", "text/markdown"]),
    st.sampled_from([words, halves]),
)
def test_nothing_is_lost_or_turned_round_and_no_chunk_is_too_long(
    drawn: str, profile: Profile, media_type: MediaType, ends: Ends
) -> None:
    text = numbered(drawn)
    found = [c.text for c in chunks(text, media_type, profile, ends)]
    assert all(len(ends(c) if profile.unit == "token" else c) <= profile.size for c in found)
    order = dict.fromkeys(syllables("".join(found)))
    if media_type == "text/plain":
        assert list(order) == syllables(text)
    else:
        assert set(order) >= set(syllables(re.sub(r"(?m)^ {0,3}#.*$", "", text)))


def numbered(text: str) -> str:
    """Every letter replaced by a syllable that occurs nowhere else."""
    return "".join(chr(0xAC00 + place) if char.isalpha() else char for place, char in enumerate(text))


def syllables(text: str) -> list[str]:
    """The letters of a text."""
    return [char for char in text if char.isalpha()]
