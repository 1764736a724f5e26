"""The small Whisper: its tokens, its windows, its batches, its run, and what faster-whisper makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.tokenizer import Tokenizer as SpokenTokenizer
from tokenizers import Tokenizer

from shared.errors import ConfigurationInvalid, TrainingFailed
from workers.engines.transcriber import DecodeOptions, WhisperTranscriber
from workers.training import speech_data
from workers.training.recipe import read_recipe, recipe_path
from workers.training.speech import SpeechRecipe, SpeechRun
from workers.training.speech_batches import IGNORED
from workers.training.speech_data import (
    RATE,
    Manner,
    Pool,
    Recordings,
    Utterance,
    add_noise,
    join,
    noise,
    plan_utterances,
    speak,
)
from workers.training.speech_examination import Score, edits, plain, transcribe
from workers.training.speech_export import DECODING, export
from workers.training.speech_model import MELS, POSITIONS, SpeechModel, log_mel, pad_features, whisper_config
from workers.training.speech_tokens import (
    END,
    NO_TIMESTAMPS,
    START,
    TIMESTAMPS,
    build_tokenizer,
    letter_count,
    letters_of,
    token_id,
)

SENTENCES = ("엄마 첫 직장이 어디였어?", "새 앨범 제목이 뭐야?", "나 궁금한 거 있는데, 뭐 해?")
PLAIN = Manner(("",), (175,), (50,))
POOLS = [Pool(SENTENCES, PLAIN)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


def small_model(tokenizer: Tokenizer) -> SpeechModel:
    torch.manual_seed(0)
    config = whisper_config(
        tokenizer.get_vocab_size(),
        token_id(tokenizer, END),
        token_id(tokenizer, START),
        width=32,
        layers=1,
        heads=2,
        dropout=0.0,
    )
    return SpeechModel(config, letter_count(), padding=16)


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*SENTENCES, "뷁 Abc 3, é 漢", " 앞뒤 "])
def test_any_text_comes_back_from_its_tokens(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text
    assert max(ids) < token_id(tokenizer, END)


def test_a_common_syllable_is_one_token(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("엄마랑", add_special_tokens=False).ids) == 3


def test_tokens_lie_in_the_order_that_whisper_expects(tokenizer: Tokenizer) -> None:
    first_stamp = token_id(tokenizer, NO_TIMESTAMPS) + 1
    assert tokenizer.id_to_token(first_stamp) == "<|0.00|>"
    assert tokenizer.get_vocab_size() == first_stamp + TIMESTAMPS
    assert token_id(tokenizer, "") == token_id(tokenizer, END) - 1


def test_no_token_of_a_sentence_is_suppressed_by_default(tokenizer: Tokenizer) -> None:
    spoken = SpokenTokenizer(tokenizer, multilingual=True, task="transcribe", language="ko")
    used = {token for text in SENTENCES for token in tokenizer.encode(text, add_special_tokens=False).ids}
    assert not used & set(spoken.non_speech_tokens)


def test_letters_are_those_that_sound() -> None:
    assert len(letters_of("안녕, 밥!")) == len("ㅏㄴㄴㅕㅇ ㅂㅏㅂ")
    assert letters_of("아이") == letters_of("아") + letters_of("이")
    assert len(letters_of("아")) == 1
    assert all(0 < letter < letter_count() for letter in letters_of(SENTENCES[0]))


# --- windows ---------------------------------------------------------------------------------------------------------


def test_features_equal_those_of_faster_whisper() -> None:
    wave = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    expected = FeatureExtractor(feature_size=MELS)(wave)
    assert np.allclose(log_mel(torch.from_numpy(wave)).numpy(), expected, atol=1e-3)


def test_a_short_window_with_all_its_padding_equals_the_full_one(tokenizer: Tokenizer) -> None:
    model = small_model(tokenizer).eval()
    features = pad_features([torch.randn(MELS, 120), torch.randn(MELS, 77)])
    tokens = torch.randint(0, 200, (2, 5))
    model.padding = POSITIONS - features.shape[2] // 2
    with torch.no_grad():
        logits, letters = model(features, tokens)
        full = torch.nn.functional.pad(features, (0, 2 * POSITIONS - features.shape[2]))
        hidden = model.whisper.model(full, decoder_input_ids=tokens).last_hidden_state
        expected = model.whisper.proj_out(hidden)
    assert torch.allclose(logits[..., :-1], expected[..., : logits.shape[2] - 1], atol=1e-5)
    assert letters.shape == (2, features.shape[2] // 2, letter_count())


# --- data ------------------------------------------------------------------------------------------------------------


def test_a_plan_holds_every_sentence_and_only_its_manners() -> None:
    pools = [Pool(SENTENCES, Manner(("", "+f2"), (150, 180), (40,)), 0.8), Pool(["그건 말이지."], PLAIN, 0.2)]
    plan = plan_utterances(pools, 120, shuffled=0.5, seed=1)
    assert plan == plan_utterances(pools, 120, shuffled=0.5, seed=1)
    assert {*SENTENCES, "그건 말이지."} < {one.text for one in plan}
    assert {one.speed for one in plan if one.text in SENTENCES} == {150, 180}
    assert {one.speed for one in plan if one.text == "그건 말이지."} == {175}


def test_noise_lies_as_far_below_the_speech_as_asked() -> None:
    wave = np.sin(np.arange(RATE) / 10).astype(np.float32)
    rng = np.random.default_rng(0)
    background = add_noise(wave, 20.0, rng) - wave
    ratio = 10 * np.log10(np.mean(wave**2) / np.mean(background**2))
    assert ratio == pytest.approx(20.0, abs=0.3)
    assert noise(RATE, rng).std() == pytest.approx(1.0, abs=0.01)


def test_joined_waves_keep_their_order_and_gaps() -> None:
    one = np.ones(100, dtype=np.float32)
    joined = join([one, one * 2], [0.01, 0.02, 0.0])
    assert len(joined) == 160 + 100 + 320 + 100
    assert joined[160] == 1 and joined[-1] == 2 and joined[0] == 0


def test_recordings_are_spoken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [Utterance(SENTENCES[0], speed=200), Utterance(SENTENCES[1], "+f2")]
    first = Recordings(plan, tmp_path)
    monkeypatch.setattr(speech_data, "speak", None)
    again = Recordings(plan, tmp_path)
    assert np.array_equal(first.wave(1), again.wave(1))
    assert np.allclose(first.wave(0), speak(plan[0]), atol=1e-4)
    assert again.texts == [SENTENCES[0], SENTENCES[1]]


def test_a_machine_without_espeak_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationInvalid, match="espeak-ng"):
        speak(Utterance("안녕"))


# --- a run -----------------------------------------------------------------------------------------------------------


def recipe(steps: int, **changes: object) -> SpeechRecipe:
    voices = {"variants": [""], "speeds": [200], "pitches": [50]}
    return SpeechRecipe.model_validate(
        {
            "kind": "speech",
            "size": {"width": 32, "layers": 1, "heads": 2},
            "speaking": {"utterances": 12, "voices": voices, "unseen": voices},
            "mixing": {"batch_seconds": 5, "joined": 0.3, "quiet": 0.2},
            "steps": steps,
            "warmup": 2,
            "checkpoint_every": 2,
            **changes,
        }
    )


def test_a_killed_run_goes_on_as_if_it_had_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = SpeechRun(recipe(4), POOLS, tmp_path / "straight")
    straight.train()
    killed = SpeechRun(recipe(4), POOLS, tmp_path / "killed")
    step = killed.one_step

    def killed_after_two() -> tuple[float, float]:
        if killed.step == 2:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(killed, "one_step", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    resumed = SpeechRun(recipe(4), POOLS, tmp_path / "killed")
    assert resumed.train()["steps"] == 4
    for left, right in zip(straight.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_a_checkpoint_of_another_recipe_is_not_taken_up(tmp_path: Path) -> None:
    SpeechRun(recipe(2), POOLS, tmp_path).train()
    other = SpeechRun(recipe(3, learning_rate=1e-4), POOLS, tmp_path)
    other.train()
    assert other.step == 3


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run = SpeechRun(recipe(4), POOLS, tmp_path)
    run.train()
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    broken = SpeechRun(recipe(6), POOLS, tmp_path)
    with torch.no_grad():
        broken.model.letters.weight.fill_(float("nan"))
    with pytest.raises(TrainingFailed, match="step 0"):
        broken.train()
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept


def test_batches_are_decided_by_their_step(tmp_path: Path) -> None:
    run = SpeechRun(recipe(4), POOLS, tmp_path)
    first, again, next_one = (run.batches.draw(step) for step in (7, 7, 8))
    assert torch.equal(first.features, again.features) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.features, next_one.features)
    assert (first.labels != IGNORED).any(dim=1).all()
    assert first.letter_counts.sum() == len(first.letters)


def test_shown_words_are_exchanged_for_others_of_the_batch(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = SpeechRun(recipe(4, doubted=0.5), POOLS, tmp_path)
    tokens = run.batches.draw(3).tokens
    torch.manual_seed(0)
    shown = run.doubted(tokens)
    changed = shown != tokens
    assert 0 < changed.sum() < tokens.numel() / 2
    assert (tokens[changed] < token_id(tokenizer, END)).all()
    assert set(shown[changed].tolist()) <= set(tokens.flatten().tolist())


def test_loss_falls(tmp_path: Path) -> None:
    run = SpeechRun(recipe(60, clean=0.9, learning_rate=4e-3), POOLS, tmp_path)
    first, _ = run.one_step()
    curve = run.train()["curve"]
    assert curve[-1][0] == 60
    assert curve[-1][1] < 0.6 * first


# --- what comes out --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speech") / "model"
    export(small_model(tokenizer).spread_timestamps(), tokenizer, out)
    return out


def test_faster_whisper_reads_the_export_as_a_multilingual_whisper(exported: Path) -> None:
    model = WhisperModel(str(exported), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
    assert model.model.is_multilingual
    assert model.feature_extractor.chunk_length == 30
    language, _, _ = model.detect_language(np.zeros(RATE, dtype=np.float32))
    assert language in ("en", "ko", "ja")


def test_the_export_says_how_it_is_decoded(exported: Path) -> None:
    assert DecodeOptions.beside(exported) == DECODING


def test_silence_and_noise_say_nothing_and_speech_something(exported: Path) -> None:
    transcriber = WhisperTranscriber(str(exported))
    hiss = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32) * 0.01
    assert transcribe(transcriber, np.zeros(2 * RATE, dtype=np.float32)) == ""
    assert transcribe(transcriber, hiss) == ""
    assert transcribe(transcriber, speak(Utterance(SENTENCES[0]))) != ""
    transcriber.close()


@pytest.mark.parametrize(
    ("first", "second", "distance"), [("", "", 0), ("가나다", "가나다", 0), ("가나다", "나다", 1), ("가", "나다", 2)]
)
def test_edits(first: str, second: str, distance: int) -> None:
    assert edits(first, second) == edits(second, first) == distance


def test_score_counts_characters_with_and_without_marks() -> None:
    score = Score()
    score.add("뭐 해?", "뭐해")
    score.add("안녕.", "안녕.")
    figures = score.figures()
    assert figures["cer"] == round(2 / 7, 4)
    assert figures["cer_plain"] == 0.0
    assert figures["exact"] == 0.5
    assert figures["confusions"] == ["뭐 해? -> 뭐해"]
    assert plain("가, 나!") == "가나"


# --- the shipped recipe and model ------------------------------------------------------------------------------------


def test_the_shipped_recipe_trains_none_of_its_unseen_manners() -> None:
    speaking = read_recipe(recipe_path("speech"), SpeechRecipe).speaking
    assert not set(speaking.voices.speeds) & set(speaking.unseen.speeds)
    assert not set(speaking.voices.pitches) & set(speaking.unseen.pitches)
