"""A Whisper small enough to ship, trained from nothing on espeak-ng's Korean over the packs' domain."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn import functional

from shared.errors import TrainingFailed
from shared.packs import load_pack
from shared.settings import settings

from . import files
from .corpus import PACKS, SpokenSentence, questions, spoken_sentences
from .optimizer import BETAS, Both, Muon
from .progress import say, watch
from .recipe import Part, Positive, Share
from .speech_batches import IGNORED, Batch, Mixture, SpeechBatches
from .speech_data import Manner, Pool, Recordings, Utterance, plan_utterances
from .speech_examination import Cases, examine
from .speech_export import export
from .speech_model import SpeechModel, whisper_config
from .speech_tokens import END, START, build_tokenizer, letter_count, token_id

Pair = tuple[float, float]


class Voices(Part):
    """Ways of speaking, as espeak-ng takes them."""

    variants: Annotated[tuple[str, ...], Field(min_length=1)]
    """Voice variants; one named twice is heard twice as often."""
    speeds: Annotated[tuple[Annotated[int, Field(ge=80, le=450)], ...], Field(min_length=1)]
    """Words per minute."""
    pitches: Annotated[tuple[Annotated[int, Field(ge=0, le=99)], ...], Field(min_length=1)]

    def manner(self) -> Manner:
        """The same for `speech_data`."""
        return Manner(self.variants, self.speeds, self.pitches)


class Speaking(Part):
    """The training speech."""

    utterances: Positive
    """Recordings that are made."""
    shuffled: Share = 0.25
    """Share of them that is words in no order, so that sound is heard rather than sentences remembered."""
    replies: Share = 0.35
    """Share of them that is what the packs say, evenly by their own speakers and by all the others."""
    voices: Voices
    unseen: Voices
    """Ways of speaking of the held-out sentences, none of which is trained."""


class Mixing(Part):
    """What is done to recordings when a batch is drawn."""

    batch_seconds: Annotated[float, Field(gt=0)] = 44.0
    """Speech in one batch."""
    joined: Share = 0.25
    """Share of the batches with two or three sentences in a window."""
    noisy: Share = 0.5
    """Share of the windows with a background."""
    quiet: Share = 0.03
    """Share of the windows without speech."""
    decibels: Pair = (10.0, 35.0)
    """Ratio of speech to background."""
    gain_db: Pair = (-24.0, 3.0)
    """Change of loudness."""


class Size(Part):
    """Size of the Whisper."""

    width: Positive = 128
    layers: Positive = 2
    """Blocks of the encoder, and of the decoder."""
    heads: Positive = 4
    dropout: Share = 0.05


class SpeechRecipe(Part):
    """A Whisper small enough to ship, trained on espeak-ng's Korean over the packs' sentences."""

    kind: Literal["speech"]
    seed: int = 0
    size: Size = Size()
    speaking: Speaking
    mixing: Mixing = Mixing()
    steps: Positive
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 2.0e-3
    warmup: Positive = 60
    """Steps over which the learning rate rises; then it falls along a cosine."""
    clean: Share = 0.1
    """Share of the steps, at the start, with single sentences and no background."""
    letters_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the CTC loss over letters at the start; it fades along with the steps."""
    doubted: Share = 0.1
    """Share of the words so far that are shown wrong, so that what is heard outweighs what is likely."""
    padding: Positive = 32
    """Positions that stand for a window's padding in training."""
    checkpoint_every: Positive = 250
    """Steps."""
    examined: Positive = 120
    """Held-out utterances behind each figure."""


def train(recipe: SpeechRecipe, out: Path) -> dict[str, Any]:
    """Train, export for faster-whisper into `out`, and examine what was exported."""
    torch.set_num_threads(1)
    sentences = spoken_sentences(recipe.seed)
    folder = settings().home / "training" / "speech"
    with files.alone(folder):
        run = SpeechRun(recipe, _pools(recipe.speaking, sentences), folder)
        figures = run.train()
        export(run.model.spread_timestamps(), run.tokenizer, out)
        figures |= examine(out, _cases(recipe, sentences), recipe.examined, recipe.seed)
    watch.at_end.append(run.forget)
    return figures


def _pools(speaking: Speaking, sentences: Sequence[SpokenSentence]) -> list[Pool]:
    trained = [one for one in sentences if one.split == "train"]
    everybody = speaking.voices.manner()
    asked = [one.text for one in trained if one.kind != "reply"]
    pools = [Pool(asked, everybody, 1 - speaking.replies)]
    for pack_id in PACKS:
        speaker = _voice(pack_id)
        own = Manner((speaker.variant,), (speaker.speed,), (speaker.pitch,))
        replies = [one.text for one in trained if one.kind == "reply" and one.pack_id == pack_id]
        pools += [Pool(replies, manner, speaking.replies / len(PACKS) / 2) for manner in (own, everybody)]
    return pools


def _cases(recipe: SpeechRecipe, sentences: Sequence[SpokenSentence]) -> Cases:
    wordings = {question.text for pack in PACKS for question in questions(pack) if question.kind == "paraphrase"}
    held = [sentence for sentence in sentences if sentence.split == "held"]
    return Cases(
        combinations=[one.text for one in held if one.kind == "question" and one.text not in wordings],
        paraphrases=[one.text for one in held if one.text in wordings],
        replies=[one.text for one in held if one.kind == "reply"],
        trained=[one.text for one in sentences if one.split == "train"],
        unseen=recipe.speaking.unseen.manner(),
        packs=[_voice(pack) for pack in PACKS],
    )


def _voice(pack_id: str) -> Utterance:
    formant = load_pack(pack_id).speaker.formant
    return Utterance("", formant.variant.removeprefix("ko"), formant.speed_wpm, formant.pitch)


class SpeechRun:
    """One run of a recipe; goes on from its checkpoint after a kill."""

    def __init__(self, recipe: SpeechRecipe, pools: Sequence[Pool], folder: Path) -> None:
        """`folder` keeps recordings and checkpoint."""
        self.recipe = recipe
        self.tokenizer = build_tokenizer()
        speaking, size = recipe.speaking, recipe.size
        plan = plan_utterances(pools, speaking.utterances, speaking.shuffled, recipe.seed)
        recordings = Recordings(plan, folder / "recordings")
        mixing = Mixture(seconds=recipe.mixing.batch_seconds, **recipe.mixing.model_dump(exclude={"batch_seconds"}))
        clean = Mixture(mixing.seconds, 0.0, 0.0, 0.0, mixing.decibels, mixing.gain_db)
        self.batches = SpeechBatches(recordings, self.tokenizer, mixing, recipe.seed)
        self._clean = SpeechBatches(recordings, self.tokenizer, clean, recipe.seed)
        torch.manual_seed(recipe.seed)
        config = whisper_config(
            self.tokenizer.get_vocab_size(),
            token_id(self.tokenizer, END),
            token_id(self.tokenizer, START),
            width=size.width,
            layers=size.layers,
            heads=size.heads,
            dropout=size.dropout,
        )
        self.model = SpeechModel(config, letter_count(), recipe.padding)
        self._optimizer = _optimizer(self.model, recipe.learning_rate)
        self._checkpoint = folder / "checkpoint.pt"
        self.step, self._elapsed = 0, 0.0
        self._curve: list[tuple[int, float, float]] = []

    def train(self) -> dict[str, Any]:
        """All steps; the last checkpoint stays, whatever is raised.

        Raises `TrainingFailed` where the loss is no number or the disk is full, `JobCancelled` where it is to stop.
        """
        self._resume()
        self.model.train()
        recent: list[tuple[float, float]] = []
        while self.step < self.recipe.steps:
            started = time.monotonic()
            recent.append(self.one_step())
            self.step += 1
            self._elapsed += time.monotonic() - started
            self._tell(recent[-1][0])
            if self.step % 50 == 0 or self.step == self.recipe.steps:
                self._report(recent)
                recent = []
            if self.step % self.recipe.checkpoint_every == 0:
                self._save()
            watch.check(self._save, self.step)
        self.model.eval()
        return {"steps": self.step, "training_minutes": round(self._elapsed / 60, 1), "curve": _thinned(self._curve)}

    def forget(self) -> None:
        """Remove the checkpoint, once the model stands elsewhere."""
        self._checkpoint.unlink(missing_ok=True)

    def one_step(self) -> tuple[float, float]:
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        early = self.step < self.recipe.clean * self.recipe.steps
        batch = (self._clean if early else self.batches).draw(self.step)
        text, letters = self._losses(batch)
        loss = text + letters * self.recipe.letters_weight * (1 - self.step / self.recipe.steps)
        if not math.isfinite(loss.item()):
            raise TrainingFailed(f"The loss is {loss.item()} at step {self.step}; the last good checkpoint is kept.")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        return text.item(), letters.item()

    def _losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        logits, letters = self.model(batch.features, self.doubted(batch.tokens))
        text = functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED)
        positions = torch.full((len(letters),), letters.shape[1])
        likelihood = functional.log_softmax(letters, -1).transpose(0, 1)
        return text, functional.ctc_loss(likelihood, batch.letters, positions, batch.letter_counts, zero_infinity=True)

    def doubted(self, tokens: torch.Tensor) -> torch.Tensor:
        """`tokens` with some of the text exchanged for text from elsewhere in the batch."""
        other = tokens.flatten()[torch.randperm(tokens.numel())].view_as(tokens)
        end = token_id(self.tokenizer, END)
        wrong = (torch.rand(tokens.shape) < self.recipe.doubted) & (tokens < end) & (other < end)
        return torch.where(wrong, other, tokens)

    def _rate(self) -> float:
        rising = min(1.0, (self.step + 1) / self.recipe.warmup)
        falling = 0.5 * (1 + math.cos(math.pi * self.step / self.recipe.steps))
        return self.recipe.learning_rate * rising * (0.02 + 0.98 * falling)

    def _report(self, recent: list[tuple[float, float]]) -> None:
        text, letters = (sum(values) / len(recent) for values in zip(*recent, strict=True))
        self._curve.append((self.step, round(text, 4), round(letters, 4)))
        left = self._elapsed / self.step * (self.recipe.steps - self.step) / 60
        say(f"step {self.step}/{self.recipe.steps} loss {text:.3f} letters {letters:.3f} eta {left:.1f} min")

    def _tell(self, loss: float) -> None:
        left = self._elapsed / self.step * (self.recipe.steps - self.step)
        watch.tell(step=self.step, steps=self.recipe.steps, loss=loss, rate=self._rate(), eta_s=left)

    def _save(self) -> None:
        content = {
            "recipe": self.recipe.model_dump_json(),
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": (self.step, self._elapsed, self._curve),
        }
        files.save(self._checkpoint, content)

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        content = files.load(self._checkpoint)
        if content["recipe"] != self.recipe.model_dump_json():
            say("the checkpoint is of another recipe; starting anew")
            return
        self.model.load_state_dict(content["model"])
        self._optimizer.load_state_dict(content["optimizer"])
        self.step, self._elapsed, self._curve = content["progress"]
        say(f"going on from step {self.step}")


def _optimizer(model: SpeechModel, rate: float) -> torch.optim.Optimizer:
    """Muon for the matrices inside the Whisper, AdamW for convolutions, embeddings, vectors and the letters' head."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    inner = {name for name, value in trained.items() if value.ndim == 2 and ".layers." in name}
    outer = [value for name, value in trained.items() if name not in inner]
    adamw = torch.optim.AdamW(outer, lr=rate, betas=BETAS, weight_decay=0.01, fused=True)
    return Both(Muon([trained[name] for name in sorted(inner)], rate), adamw)


def _thinned(curve: list[tuple[int, float, float]], points: int = 20) -> list[tuple[int, float, float]]:
    """About `points` of the curve, the last one among them."""
    return curve[::-1][:: max(1, len(curve) // points)][::-1]
