"""The text tower that ships: a small transformer that gives the teacher's embeddings."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.tokenizer import basic_clean, whitespace_clean
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import nn

from demo_model.tower import TEXT

SEED = 2
STEPS, HALF_BATCH, RATE, DECAY = 3500, 64, 1e-3, 0.05
CLEARNESS = 20.0
# By the texts, the padding and the start come first: open_clip reads the highest id as the end.
PAD, START, END = "<pad>", "<start>", "<end>"


def train_tokenizer(texts: list[str], folder: Path) -> Tokenizer:
    """Write a byte-pair tokenizer of TEXT's size into `folder`, in transformers' format."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT["vocab_size"] - 1,
        special_tokens=[PAD, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END])
    _check_and_frame(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 32,
             "pad_token": PAD, "bos_token": START, "eos_token": END}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return tokenizer


def _check_and_frame(tokenizer: Tokenizer) -> None:
    size, end = tokenizer.get_vocab_size(), tokenizer.token_to_id(END)
    if (size, end) != (TEXT["vocab_size"], TEXT["vocab_size"] - 1):
        raise SystemExit(f"the tokenizer has {size} tokens and ends with {end}; set vocab_size")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )


def tokens_of(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids (n, context_length), padded with zeros; texts cleaned as open_clip does."""
    tokenizer.enable_truncation(TEXT["context_length"])
    tokenizer.enable_padding(length=TEXT["context_length"], pad_id=0, pad_token=PAD)
    # Curly quotes become straight ones there, and other tokens than a tokenizer alone gives.
    cleaned = [whitespace_clean(basic_clean(text)) for text in texts]
    return torch.tensor([encoded.ids for encoded in tokenizer.encode_batch(cleaned)])


def train_student(
    model: nn.Module,
    close: tuple[torch.Tensor, np.ndarray],
    wide: tuple[torch.Tensor, np.ndarray],
) -> None:
    """Fit the text side of `model` to the teacher's embeddings.

    Parameters
    ----------
    model : nn.Module
        open_clip's CLIP.
    close, wide : tuple of Tensor (n, context_length) and ndarray (n, 256)
        Tokens and targets; every batch takes half from each, so that few names of emoji count
        as much as many nouns.
    """
    torch.manual_seed(SEED)
    sources = [(tokens, torch.from_numpy(vectors)) for tokens, vectors in (close, wide)]
    tower = [p for name, p in model.named_parameters() if not name.startswith("visual.")]
    optimiser = torch.optim.AdamW(tower, lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS, pct_start=0.05)
    started, running = time.monotonic(), 0.0
    for step in range(1, STEPS + 1):
        tokens, wanted = _batch(sources)
        loss = _loss(encode_tokens(model, tokens), wanted)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(tower, 1.0)
        optimiser.step()
        schedule.step()
        running += loss.item()
        if step % 250 == 0:
            took = time.monotonic() - started
            print(f"student: step {step}, loss {running / 250:.4f}, {took:.0f} s", flush=True)
            running = 0.0


def _batch(sources: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    # Texts of about the same length, so that little of the batch is padding.
    place, tokens, wanted = torch.rand(()), [], []
    for ids, vectors in sources:
        order = torch.argsort((ids > 0).sum(1) + 2 * torch.rand(len(ids)))
        start = int(place * (len(ids) - HALF_BATCH))
        rows = order[start : start + HALF_BATCH]
        tokens.append(ids[rows])
        wanted.append(vectors[rows])
    return torch.cat(tokens), torch.cat(wanted)


def _loss(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    # The angle to the teacher's vector, and telling the batch's texts apart as the teacher does.
    given = nn.functional.normalize(given, dim=-1)
    cosine = (given * wanted).sum(-1).mean()
    theirs = nn.functional.softmax(CLEARNESS * wanted @ wanted.T, dim=-1)
    ours = nn.functional.log_softmax(CLEARNESS * given @ wanted.T, dim=-1)
    return 1 - cosine + 0.2 * nn.functional.kl_div(ours, theirs, reduction="batchmean")


def encode_tokens(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """What ``model.encode_text`` gives, without computing the common padding."""
    length = int((tokens > 0).sum(1).max())
    tokens = tokens[:, :length]
    states = model.token_embedding(tokens) + model.positional_embedding[:length]
    states = model.transformer(states, attn_mask=model.attn_mask[:length, :length])
    ends = model.ln_final(states)[torch.arange(len(tokens)), tokens.argmax(-1)]
    return ends @ model.text_projection


def embed_texts(model: nn.Module, tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Unit embeddings (n, 256) of texts."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), 256):
            tokens = tokens_of(tokenizer, texts[start : start + 256])
            found.append(nn.functional.normalize(encode_tokens(model, tokens), dim=-1).numpy())
    return np.concatenate(found)
