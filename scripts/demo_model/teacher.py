"""The teacher: MiniLM's sentence embeddings mapped into the image tower's space."""

from __future__ import annotations

import numpy as np
import open_clip
import torch
from torch import nn

from demo_model.texts import TEMPLATES, Sentences, Texts
from demo_model.tower import DIM

SEED = 1
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 150, 512, 3e-3, 0.1, 0.2
NAME_SHARE = 0.75


class Teacher(nn.Module):
    """Two layers, 384 to 256."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(384, 768), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(768, DIM)
        )
        self.logit_scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))

    def forward(self, sentences: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(self.layers(sentences), dim=-1)


class Pairs:
    """A picture and a text for every emoji and for every class of ImageNet, drawn anew each time.

    A class has no picture here: its row of the classifier stands for one, since the tower gives
    the class to pictures along that direction.
    """

    def __init__(
        self, texts: Texts, pictures: np.ndarray, class_rows: np.ndarray, sentences: Sentences
    ) -> None:
        self.rng = np.random.default_rng(SEED)
        self.images = [*pictures.transpose(1, 0, 2), *class_rows[:, None, :]]
        self.texts = [sentences(own) for own in texts.emoji + texts.classes]

    def __len__(self) -> int:
        return len(self.texts)

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One picture (n, 256) and one sentence embedding (n, 384) each."""
        images = np.stack([own[self.rng.integers(len(own))] for own in self.images])
        texts = np.stack([own[self._which(len(own))] for own in self.texts])
        unit = images / np.linalg.norm(images, axis=1, keepdims=True)
        return torch.from_numpy(unit).float(), torch.from_numpy(texts)

    def _which(self, n: int) -> int:
        named = self.rng.random() < NAME_SHARE
        return self.rng.integers(len(TEMPLATES) if named else n)


def train_teacher(pairs: Pairs) -> Teacher:
    """Fit by the contrastive loss; the pictures' side stays as it is."""
    torch.manual_seed(SEED)
    teacher, loss_of = Teacher(), open_clip.ClipLoss()
    n_batches = len(pairs) // BATCH
    optimiser = torch.optim.AdamW(teacher.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, EPOCHS * n_batches)
    for _ in range(EPOCHS):
        images, texts = pairs.draw()
        for rows in torch.randperm(len(pairs))[: n_batches * BATCH].view(n_batches, BATCH):
            loss = loss_of(images[rows], teacher(texts[rows]), teacher.logit_scale.exp())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            teacher.logit_scale.data.clamp_(0, np.log(100))
    print(f"teacher: last loss {loss.item():.3f}, scale {teacher.logit_scale.exp().item():.1f}")
    return teacher.eval()


def targets(teacher: Teacher, sentences: Sentences, texts: list[str]) -> np.ndarray:
    """The teacher's unit embeddings (n, 256)."""
    with torch.inference_mode():
        return teacher(torch.from_numpy(sentences(texts))).numpy()
