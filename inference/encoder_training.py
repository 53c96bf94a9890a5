"""The training of the sentence encoder itself: torch, one step after the other, every one of them repeatable.

What the next step depends on is in the checkpoint (weights, optimiser, schedule, random numbers, the best so far) or
follows from recipe and examples (split, order), so a run that goes on does what an unbroken one would have done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from inference import checkpoint
from inference.contrastive import batches_of, contrastive_loss
from inference.prepare import load_original
from inference.training import Examples, Observe, TrainingFailed, TrainingRecipe, TrainingStep, split

LONGEST_TEXT = 64
"""Tokens of an example that training reads. Chat messages are shorter; a step takes as long as its longest text."""

NEIGHBOURS_A_LABEL = 20
"""Trained examples of each label that held-out ones are compared with: enough to choose an epoch by, and quick."""

PADDED_TOGETHER = 24
"""Texts of a batch that are padded to one length; short ones apart from long ones, a step takes half the time."""

AT_ONCE = 128
"""Texts embedded at once where nothing is learnt from them."""

TOLD_EVERY = 10
"""Steps between two words of progress."""


class EncoderTraining:
    """One training under way.

    training = EncoderTraining(examples, recipe, fingerprint, file)
    encoder = training.run(observe)         # from `file`, where an earlier run got
    """

    def __init__(self, examples: Examples, recipe: TrainingRecipe, fingerprint: str, file: Path) -> None:
        """`file` takes the checkpoints, `fingerprint` says what they are of. Raises `PreparationFailed`."""
        # The order of additions depends on the number of threads, and with it the last bits of every weight.
        torch.set_num_threads(1)
        torch.manual_seed(recipe.seed)
        self._recipe, self._fingerprint, self._file = recipe, fingerprint, file
        self._encoder = load_original()
        self._bert = self._encoder[0].auto_model
        # Half of all weights, of which examples touch a few: left as they are, rare words keep what they mean.
        self._bert.embeddings.word_embeddings.weight.requires_grad_(False)
        self._learnt = {name: each for name, each in self._bert.named_parameters() if each.requires_grad}
        names = examples.names
        self._labels = torch.tensor([names.index(label) for label in examples.labels])
        self._texts, self._strangers = self._tokens(examples.texts), self._tokens(examples.strangers)
        self._trained, self._held_out = split(examples.labels, recipe)
        if not self._held_out:
            raise TrainingFailed("no label has two examples, so none can be held out to choose the best epoch by")
        self._neighbours = self._some_of_each_label()
        self._anchors = torch.nn.Parameter(self._centres(len(names)))
        self._optimiser = torch.optim.AdamW(
            [
                {"params": [*self._learnt.values()], "lr": recipe.learning_rate, "weight_decay": recipe.weight_decay},
                {"params": [self._anchors], "lr": recipe.anchor_learning_rate, "weight_decay": 0.0},
            ]
        )
        self._epoch_length = -(-len(self._trained) // recipe.batch_size)
        self.steps = recipe.epochs * self._epoch_length
        """Steps in all."""
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, self._share_of_learning_rate)
        self._step = 0
        self.scores: list[dict[str, float]] = []
        """Of the held-out examples before the first epoch and after each: `accuracy` and, with strangers, `auroc`."""
        self.best_epoch = 0
        """0: the original was better than anything learnt."""
        self._best: dict[str, torch.Tensor] = {}

    def run(self, observe: Observe) -> Any:
        """Train to the end; returns the `SentenceTransformer` of the best epoch. Raises `TrainingFailed`."""
        if self._go_on():
            observe(TrainingStep(self._step, self.steps, f"going on after step {self._step}"))
        else:
            self._score(observe)
        while self._step < self.steps:
            epoch, first = divmod(self._step, self._epoch_length)
            for batch in self._batches(epoch)[first:]:
                loss = self._learn(batch)
                self._step += 1
                if self._step % TOLD_EVERY == 0:
                    observe(TrainingStep(self._step, self.steps, f"epoch {epoch + 1}, loss {loss:.3f}"))
                if self._step % self._epoch_length == 0:
                    self._score(observe)
                if self._step % self._recipe.checkpoint_every == 0 or self._step == self.steps:
                    self._keep()
        self._bert.load_state_dict(self._best, strict=False)
        self._bert.eval()
        return self._encoder

    def _learn(self, batch: Sequence[int]) -> float:
        self._bert.train()
        anchors = torch.nn.functional.normalize(self._anchors, dim=1)
        ordered = sorted(batch, key=lambda position: len(self._texts[position]))
        parts = [ordered[start : start + PADDED_TOGETHER] for start in range(0, len(ordered), PADDED_TOGETHER)]
        vectors = torch.cat([self._embedded([self._texts[position] for position in part]) for part in parts])
        loss = contrastive_loss(vectors, self._labels[ordered], anchors, temperature=self._recipe.temperature)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._learnt.values(), 1.0)
        self._optimiser.step()
        self._schedule.step()
        return float(loss.detach())

    def _batches(self, epoch: int) -> list[list[int]]:
        order = batches_of(
            self._labels[self._trained].tolist(),
            batch_size=self._recipe.batch_size,
            examples_a_label=self._recipe.examples_a_label,
            seed=f"{self._recipe.seed} {epoch}",
        )
        return [[self._trained[position] for position in batch] for batch in order]

    def _share_of_learning_rate(self, step: int) -> float:
        rising = max(1, round(self._recipe.warm_up * self.steps))
        if step < rising:
            return (step + 1) / rising
        return max(0.0, (self.steps - step) / max(1, self.steps - rising))

    def _score(self, observe: Observe) -> None:
        """Measure on the held-out examples, and keep the weights where they are the best so far."""
        known, held_out = self._frozen(self._texts, self._neighbours), self._frozen(self._texts, self._held_out)
        nearest = (held_out @ known.T).max(dim=1)
        right = self._labels[self._neighbours][nearest.indices] == self._labels[self._held_out]
        score = {"accuracy": float(right.double().mean())}
        if self._strangers:
            strange = (self._frozen(self._strangers, range(len(self._strangers))) @ known.T).max(dim=1).values
            score["auroc"] = _auroc(nearest.values, strange)
        best = not self.scores or sum(score.values()) > sum(self.scores[self.best_epoch].values())
        self.scores.append(score)
        if best:
            self.best_epoch = len(self.scores) - 1
            self._best = {name: weight.detach().clone() for name, weight in self._learnt.items()}
        told = ", ".join(f"{name} {100 * value:.1f}" for name, value in score.items())
        when = f"after epoch {len(self.scores) - 1}" if self._step else "before training"
        observe(TrainingStep(self._step, self.steps, f"{when}, on held-out examples: {told}"))

    def _keep(self) -> None:
        checkpoint.save(
            {
                "fingerprint": self._fingerprint,
                "step": self._step,
                "learnt": {name: weight.detach() for name, weight in self._learnt.items()},
                "anchors": self._anchors.detach(),
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict(),
                "random": torch.get_rng_state(),
                "scores": self.scores,
                "best_epoch": self.best_epoch,
                "best": self._best,
            },
            self._file,
        )

    def _go_on(self) -> bool:
        state = checkpoint.load(self._file)
        if state is None:
            return False
        if state["fingerprint"] != self._fingerprint:
            raise TrainingFailed(
                f"{self._file.parent} holds an unfinished training of other examples or another recipe: finish that "
                "one, or remove the folder"
            )
        self._bert.load_state_dict(state["learnt"], strict=False)
        with torch.no_grad():
            self._anchors.copy_(state["anchors"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])
        self._step, self.scores = state["step"], state["scores"]
        self.best_epoch, self._best = state["best_epoch"], state["best"]
        return True

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        tokenised = self._encoder.tokenizer(list(texts), truncation=True, max_length=LONGEST_TEXT, padding=False)
        ids: list[list[int]] = tokenised["input_ids"]
        return ids

    def _embedded(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Vectors of tokenised texts: [n, 384], each of length 1."""
        longest = max(map(len, texts))
        ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        hidden = self._bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)

    @torch.no_grad()
    def _frozen(self, texts: Sequence[Sequence[int]], positions: Sequence[int]) -> torch.Tensor:
        self._bert.eval()
        # Texts of like length together: a batch takes as long as its longest text.
        order = sorted(range(len(positions)), key=lambda place: len(texts[positions[place]]))
        parts = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]
        vectors = torch.cat([self._embedded([texts[positions[place]] for place in part]) for part in parts])
        return vectors[torch.tensor(order).argsort()]

    def _centres(self, labels: int) -> torch.Tensor:
        vectors = self._frozen(self._texts, self._neighbours)
        centres = torch.zeros(labels, vectors.shape[1]).index_add_(0, self._labels[self._neighbours], vectors)
        return torch.nn.functional.normalize(centres, dim=1)

    def _some_of_each_label(self) -> list[int]:
        taken = [0] * (int(self._labels.max()) + 1)
        chosen: list[int] = []
        for position in self._trained:
            label = int(self._labels[position])
            if taken[label] < NEIGHBOURS_A_LABEL:
                taken[label] += 1
                chosen.append(position)
        return chosen


def _auroc(known: torch.Tensor, strange: torch.Tensor) -> float:
    """Probability that a held-out example looks more familiar than a stranger; ties count half."""
    above = (known[:, None] > strange[None, :]).double() + 0.5 * (known[:, None] == strange[None, :]).double()
    return float(above.mean())
