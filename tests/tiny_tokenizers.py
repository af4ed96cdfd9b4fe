"""The tokenizers of the tiny models, in the files of the published ones; no network."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_START, _END = "<|startoftext|>", "<|endoftext|>"


def save_clip_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Write a CLIP tokenizer (bytes, bytes that end a word, words) and return its size."""
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges([[*word[:-1], f"{word[-1]}</w>"] for word in words])
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate([*dict.fromkeys(pieces), _START, _END])}
    write_json(folder / "vocab.json", **vocabulary)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    write_json(
        folder / "tokenizer_config.json", tokenizer_class="CLIPTokenizer", model_max_length=24,
        bos_token=_START, eos_token=_END, unk_token=_END, pad_token=_END, do_lower_case=True,
    )  # fmt: skip
    return len(vocabulary)


def save_siglip_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Write a sentencepiece model that ends texts with ``</s>``, and return its size."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([word for word in words if word.isalpha()] * 5),
        model_writer=model, model_type="bpe", vocab_size=50, minloglevel=2,
        pad_id=1, pad_piece="</s>", eos_id=-1, bos_id=-1, unk_id=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    write_json(
        folder / "tokenizer_config.json", tokenizer_class="SiglipTokenizer", do_lower_case=True,
        eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=64,
    )  # fmt: skip
    return 50


def save_gemma_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Write a Gemma tokenizer (byte pairs, spaces as ▁) that ends texts; return its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    merges = _merges([list(f"▁{word}") for word in words])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = [*special, *letters, *sorted({*"".join(words), "▁"}), *map("".join, merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    options = {"fuse_unk": True, "byte_fallback": True, "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, **options))
    tokenizer.add_special_tokens(special)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json", tokenizer_class="GemmaTokenizer", model_max_length=64,
        add_bos_token=False, add_eos_token=True, padding_side="right", pad_token="<pad>",
        eos_token="<eos>", bos_token="<bos>", unk_token="<unk>",
    )  # fmt: skip
    return len(vocabulary)


def _merges(words: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Return the byte-pair merges that join each word from its left end."""
    found: dict[tuple[str, str], None] = {}
    for letters in words:
        for end in range(1, len(letters)):
            found["".join(letters[:end]), letters[end]] = None
    return list(found)


def write_json(file: Path, **content: Any) -> None:
    file.write_text(json.dumps(content, indent=2), "utf-8")
