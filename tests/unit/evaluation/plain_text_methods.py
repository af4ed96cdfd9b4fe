"""The methods with text once more: from the formulas, in float64, with one-hot labels and loops.

Loops prepare affinities between single pictures; logits are then the papers' matrix formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from intramodal.evaluation.rivals.base import Episode
from intramodal.evaluation.rivals.tuning import APE

Plain = Callable[[Mapping[str, float]], np.ndarray]
"""From constants to logits (m, K)."""


def plain_method(name: str, episode: Episode, rows: np.ndarray) -> Plain:
    """Return a method's logits of some images as a function of its constants."""
    texts = np.array(
        [[100 * float(x @ w) for w in wide(episode.W)] for x in wide(episode.X)[rows]]
    )
    more = _METHODS[name](episode, rows)
    return lambda constants: texts + more(constants)


def wide(X: Any) -> np.ndarray:
    return np.asarray(X, dtype=np.float64)


def unit(x: np.ndarray) -> np.ndarray:
    return x / math.sqrt(float(x @ x))


def labelled(episode: Episode) -> Iterator[tuple[int, int]]:
    """Yield class and row of every shot."""
    for k, shots in enumerate(episode.shots):
        for row in shots:
            yield k, int(row)


def one_hot(episode: Episode) -> np.ndarray:
    return np.array([[float(c == k) for c in range(len(episode.W))] for k, _ in labelled(episode)])


def pairwise(images: Any, shots: Any) -> np.ndarray:
    return np.array([[float(x @ f) for f in shots] for x in images])


def _zero_shot(episode: Episode, rows: np.ndarray) -> Plain:
    return lambda _: np.zeros((len(rows), len(episode.W)))


def _cache(affinities: np.ndarray, labels: np.ndarray) -> Plain:
    return lambda p: p["alpha"] * np.exp(-p["beta"] * (1 - affinities)) @ labels


def _cosines(episode: Episode, rows: np.ndarray) -> np.ndarray:
    X = wide(episode.X)
    return pairwise(X[rows], [X[row] for _, row in labelled(episode)])


def _tip_adapter(episode: Episode, rows: np.ndarray) -> Plain:
    return _cache(_cosines(episode, rows), one_hot(episode))


def _signature(x: np.ndarray, W: np.ndarray) -> np.ndarray:
    weights = np.array([math.exp(float(x @ w) / 0.5) for w in W])
    return weights / weights.sum()


def _tip_x(episode: Episode, rows: np.ndarray) -> Plain:
    X, W = wide(episode.X), wide(episode.W)
    shots = [_signature(X[row], W) for _, row in labelled(episode)]
    kl = np.empty((len(rows), len(shots)))
    for i, row in enumerate(rows):
        p = _signature(X[row], W)
        for j, q in enumerate(shots):
            kl[i, j] = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    cosines = _cosines(episode, rows)
    share = (kl - kl.min()) / (kl.max() - kl.min())
    signed = -(cosines.min() + share * (cosines.max() - cosines.min()))
    cache, labels = _cache(cosines, one_hot(episode)), one_hot(episode)
    return lambda p: cache(p) + p["gamma"] * signed @ labels


def _coder(episode: Episode, rows: np.ndarray) -> Plain:
    X, bank = wide(episode.X), wide(episode.bank)
    described = [unit(np.array([float(x @ b) for b in bank])) for x in X]
    found = []
    for row in rows:
        line = [float(described[row] @ described[shot]) for _, shot in labelled(episode)]
        found.append([(value - min(line)) / (max(line) - min(line)) for value in line])
    return _cache(np.array(found), one_hot(episode))


def _coder_zero_shot(episode: Episode, rows: np.ndarray) -> Plain:
    """Return the scores less those of the names, which `plain_method` adds."""
    scores = np.empty((len(rows), len(episode.W)))
    for i, row in enumerate(rows):
        x = wide(episode.X[row])
        for k, w in enumerate(wide(episode.W)):
            said: dict[bool, list[float]] = {True: [], False: []}
            for text, owner, is_name in zip(
                wide(episode.bank), episode.owners, episode.is_name, strict=True
            ):
                if owner == k:
                    said[bool(is_name)].append(100 * float(x @ text))
            mean = sum([*said[False], max(said[True])]) / (len(said[False]) + 1)
            scores[i, k] = mean - 100 * float(x @ w)
    return lambda _: scores


def ape_channels_by_pairs(
    W: np.ndarray, keys: np.ndarray, weights: tuple[float, float], n_channels: int
) -> list[int]:
    """Return the channels by the definition: products over all pairs of different classes."""
    members = [[W[k], *keys[k]] for k in range(len(W))]
    pairs = [
        (f, g)
        for k, mine in enumerate(members)
        for other, theirs in enumerate(members)
        if k != other
        for f in mine
        for g in theirs
    ]
    similarity = sum(f * g for f, g in pairs) / len(pairs)
    variance = sum((w - W.mean(axis=0)) ** 2 for w in W) / (len(W) - 1)
    value = -weights[0] * similarity + weights[1] * variance
    return sorted(sorted(range(len(value)), key=lambda c: -value[c])[:n_channels])


def _ape(episode: Episode, rows: np.ndarray) -> Plain:
    preset, W, X = APE[episode.preset], wide(episode.W), wide(episode.X)
    weights = preset.similarity_weight, preset.variance_weight
    n_channels = round(preset.n_channels / 1024 * W.shape[1])
    channels = ape_channels_by_pairs(W, X[episode.shots], weights, n_channels)
    shots = [unit(X[row][channels]) for _, row in labelled(episode)]
    affinities = pairwise([unit(X[row][channels]) for row in rows], shots)
    labels = one_hot(episode)
    divergence = []
    for label, shot in zip(labels, shots, strict=True):
        scores = np.array([math.exp(float(shot @ unit(w[channels]))) for w in W])
        p = scores / scores.sum()
        pairs = zip(label, p, strict=True)
        divergence.append(sum(y * math.log2((y + 1e-6) / (q + 1e-6)) for y, q in pairs))
    column = np.array(divergence)[:, None]
    return lambda p: _cache(affinities, labels * np.exp(p["gamma"] * column))(p)


def _lda_text(episode: Episode, rows: np.ndarray) -> Plain:
    Z, n = wide(episode.Z), episode.shots.size
    d = Z.shape[1]
    means = [Z[shots].mean(axis=0) for shots in episode.shots]
    residuals = np.array([Z[row] - means[k] for k, row in labelled(episode)])
    sigma = np.cov(residuals, rowvar=False)
    inverse = d * np.linalg.inv((n - 1) * sigma + np.trace(sigma) * np.eye(d))
    prior = math.log(1 / len(means))
    scores = [
        [float(Z[row] @ inverse @ m) + prior - float(m @ inverse @ m) / 2 for m in means]
        for row in rows
    ]
    return lambda p: p["alpha"] * np.array(scores)


def _prototype_text(episode: Episode, rows: np.ndarray) -> Plain:
    Z = wide(episode.Z)
    means = [unit(Z[shots].mean(axis=0)) for shots in episode.shots]
    return lambda p: p["alpha"] * 100 * pairwise(Z[rows], means)


_METHODS = {
    "zero-shot": _zero_shot,
    "coder-zero-shot": _coder_zero_shot,
    "tip-adapter": _tip_adapter,
    "tip-x": _tip_x,
    "coder": _coder,
    "ape": _ape,
    "lda+text": _lda_text,
    "prototype+text": _prototype_text,
}
