"""Images per second of the whole ingest against the bare forward pass of the same model.

ViT-B/32 with random weights, loaded as a user's model is; generated JPEGs of 500 x 375 pixels
(about 63 kB) and, apart, of 12 megapixels. The ingest reads, hashes, decodes, encodes, projects
and writes both vectors to an embedded store; the bare pass takes ready float tensors in batches
of the same size. Runs of both alternate; medians and their ratio are printed, by the clock and by
CPU time: on a machine with other work, the second is the steadier one.

`--quick` takes half of the pictures and three rounds. `--memory` ingests 2,000 small
pictures with a small model instead and prints how much anonymous memory grows on the way.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from intramodal import ImageCollection, Projection, load_encoder, open_source, open_store
from intramodal.ingest.images import encoder_origin
from intramodal.ingest.pipeline import ingest_images
from intramodal.store.manifest import VectorOrigin
from intramodal.types import Encoder, ImageRecord

BATCH = 32
SMALL, PHOTO = (500, 375), (4000, 3000)
N_SMALL, N_PHOTOS, N_ROUNDS = 192, 96, 5
N_MEMORY, WARM_UP, SAMPLE_EVERY = 2000, 1000, 50
SMALL_MODEL = {
    "embed_dim": 64,
    "vision_cfg": {
        "image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip

Seconds = tuple[float, float]
"""By the clock, and of CPU time."""


def write_pictures(folder: Path, n: int, size: tuple[int, int]) -> None:
    """Write JPEGs with the detail of photographs: noise at several scales, quality 90."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        picture = np.zeros((size[1], size[0], 3), dtype=np.float32)
        for scale, strength in ((64, 60), (16, 30), (4, 14), (1, 4)):
            small = (max(2, size[1] // scale), max(2, size[0] // scale), 3)
            layer = rng.normal(0, strength, small).astype(np.float32)
            planes = [Image.fromarray(plane).resize(size) for plane in np.moveaxis(layer, 2, 0)]
            picture += np.stack([np.asarray(plane) for plane in planes], axis=2)
        Image.fromarray(np.clip(picture + 128, 0, 255).astype(np.uint8)).save(
            folder / f"{i:04}.jpg", quality=90
        )


def large_model(folder: Path) -> str:
    """Save a ViT-B/32 with random weights and return the name that loads it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = open_clip.create_model("ViT-B-32").state_dict()
    path = folder / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return f"open_clip:ViT-B-32:{path}"


def small_model(folder: Path) -> str:
    """Save a model of a few thousand weights in open_clip's own format."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir()
    save_file(open_clip.CLIP(**SMALL_MODEL).state_dict(), folder / "open_clip_model.safetensors")
    grey = {"mean": [0.5] * 3, "std": [0.5] * 3, "size": 64}
    config = {"model_cfg": SMALL_MODEL, "preprocess_cfg": grey}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"open_clip:local-dir:{folder}"


def half(encoder: Encoder) -> Projection:
    """Return a projection to half the dimensions."""
    square = np.random.default_rng(0).normal(size=(encoder.dim, encoder.dim // 2))
    matrix = np.linalg.qr(square)[0]
    return Projection(matrix, "pca", encoder.name, encoder.fingerprint)


class Stopwatch:
    """Seconds since it was made, by the clock and of all this process's threads."""

    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> Seconds:
        """Return both."""
        return time.perf_counter() - self._clock, time.process_time() - self._cpu


def timed_ingest(
    source: Iterable[ImageRecord], encoder: Encoder, workers: int | None, folder: Path
) -> Seconds:
    """Return the seconds of an ingest into a new embedded store."""
    projection, raw = half(encoder), encoder_origin(encoder)
    pca = VectorOrigin(raw.encoder, raw.encoder_fingerprint, projection=projection.fingerprint)
    vectors = {"raw": (encoder.dim, raw), "pca": (projection.dim_out, pca)}
    with tempfile.TemporaryDirectory(dir=folder) as store, open_store(store) as opened:
        collection = ImageCollection.create(opened, "photos", vectors)
        watch = Stopwatch()
        summary = ingest_images(
            source,
            collection,
            encoder=encoder,
            projection=projection,
            batch_size=BATCH,
            workers=workers,
        )
        elapsed = watch.read()
    if summary.failed:
        raise SystemExit(f"the ingest failed: {summary.failures[:3]}")
    return elapsed


def timed_forward(encoder: Any, n: int) -> Seconds:
    """Return the seconds of the bare forward pass of `n` pictures as ready tensors."""
    import torch

    tensors = torch.randn(n, 3, encoder.image_size, encoder.image_size)
    watch = Stopwatch()
    for start in range(0, n, BATCH):
        encoder.runtime.run(tensors[start : start + BATCH], encoder.towers.embed_pixels)
    return watch.read()


def throughput(folder: Path, encoder: Encoder, args: argparse.Namespace) -> None:
    """Print images per second of the bare pass and of the ingest, for both kinds of pictures."""
    share, n_rounds = (2, 3) if args.quick else (1, N_ROUNDS)
    for name, size, n_all in (("500 x 375", SMALL, N_SMALL), ("4000 x 3000", PHOTO, N_PHOTOS)):
        n = n_all // share
        pictures = folder / name.replace(" ", "")
        write_pictures(pictures, n, size)
        kilobytes = sum(p.stat().st_size for p in pictures.iterdir()) / n / 1000
        print(f"{name} JPEG ({kilobytes:,.0f} kB), n={n}, {n_rounds} rounds")
        source = open_source(str(pictures))
        rounds = [
            (timed_forward(encoder, n), timed_ingest(source, encoder, args.workers, folder))
            for _ in range(n_rounds)
        ]
        for unit, which in (("clock", 0), ("CPU", 1)):
            report(unit, n, [(bare[which], whole[which]) for bare, whole in rounds])


def report(unit: str, n: int, rounds: list[tuple[float, float]]) -> None:
    """Print the medians of both, their ratio, and the ratio of every round."""
    bare, whole = (median(column) for column in zip(*rounds, strict=True))
    each = ", ".join(f"{b / w:.0%}" for b, w in rounds)
    print(
        f"  {unit:5}: bare {n / bare:6.1f} img/s, ingest {n / whole:6.1f} img/s, "
        f"ratio {bare / whole:6.1%} (rounds: {each})"
    )


def anonymous_mb() -> float:
    """Return this process's anonymous memory."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("Anonymous:")]
    return int(kilobytes) / 1024


def sampled(source: Iterable[ImageRecord], samples: list[tuple[int, float]]) -> Iterator[Any]:
    """Yield the records and note the memory on the way."""
    for n, record in enumerate(source):
        if n % SAMPLE_EVERY == 0:
            samples.append((n, anonymous_mb()))
        yield record


def memory(folder: Path, encoder: Encoder, args: argparse.Namespace) -> None:
    """Print how anonymous memory grows once it is warm."""
    write_pictures(folder / "pictures", N_MEMORY, (96, 96))
    samples: list[tuple[int, float]] = []
    # Records are taken in chunks of 256 ahead of the encoder: the whole tail is in the last ones.
    source = sampled(open_source(str(folder / "pictures")), samples)
    seconds, _ = timed_ingest(source, encoder, args.workers, folder)
    samples.append((N_MEMORY, anonymous_mb()))
    warm = [mb for n, mb in samples if n >= WARM_UP]
    print(
        f"{N_MEMORY:,} pictures in {seconds:.1f} s: anonymous memory {samples[0][1]:.1f} MB at "
        f"the start, {warm[0]:.1f} MB at picture {WARM_UP}, {warm[-1]:.1f} MB at the end "
        f"(growth {warm[-1] - warm[0]:+.1f} MB, highest {max(warm):.1f} MB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="half the pictures, three rounds")
    parser.add_argument("--memory", action="store_true", help="memory instead of speed")
    parser.add_argument("--workers", type=int, help="decoding threads; default the ingest's")
    parser.add_argument("--device", help="default CUDA where there is one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = small_model(folder / "model") if args.memory else large_model(folder)
        encoder = load_encoder(model, device=args.device)
        print(f"{encoder!r}, batches of {BATCH}")
        (memory if args.memory else throughput)(folder, encoder, args)


if __name__ == "__main__":
    main()
