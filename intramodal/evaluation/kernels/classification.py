"""The compiled kernels of few-shot accuracy: which images a classifier has right."""

from __future__ import annotations

from typing import Any

import numpy as np

from intramodal.evaluation.kernels.compilation import compiled
from intramodal.evaluation.kernels.threads import in_threads

# One pass over the scores of ready classifiers, no winner is looked up.
#
# One thread: it costs a fiftieth of the product that made the scores, and threads that wait for
# each other cost more.


@compiled()
def _wins(scores: Any, bias: Any, start: Any, own: Any, stop: Any) -> Any:
    """Return whether column `own` has more than those before it, and no less than those after.

    No early end: without branches the compiler compares many columns at once. NaN never wins.
    """
    value = scores[own] + bias[own]
    n_ahead = np.int32(0)
    for j in range(start, own):
        n_ahead += np.int32(not scores[j] + bias[j] < value)
    for j in range(own + np.uint64(1), stop):
        n_ahead += np.int32(not scores[j] + bias[j] <= value)
    return n_ahead == 0


@compiled()
def mark_hits(scores: Any, bias: Any, truth: Any, hits: Any) -> None:
    """Write into `hits` (n, P) which images P classifiers of K classes have right.

    By float32 scores (n, P K) without the bias (P K,), and the class of each image, `truth` (n,);
    the first of equal scores wins.
    """
    # Unsigned: numba would check a signed index for being negative, at every look-up.
    n_classes = np.uint64(scores.shape[1] // hits.shape[1])
    for i in range(len(scores)):
        row = scores[i]
        for p in range(hits.shape[1]):
            start = np.uint64(p) * n_classes
            own = start + np.uint64(truth[i])
            hits[i, p] = _wins(row, bias, start, own, start + n_classes)


# Nearest prototypes of many episodes, by the products of images.


@compiled()
def _scales(part: Any, X: Any, draws: Any, shots: Any, out: Any) -> None:
    total = np.empty(X.shape[1], dtype=np.float32)
    for e in range(part[0], part[1]):
        for c in range(draws.shape[1]):
            total[:] = 0
            at = 0
            for j in range(draws.shape[2]):
                if draws[e, c, j] < 0:
                    break
                total += X[draws[e, c, j]]
                if j + 1 == shots[at]:
                    square = np.float32(0)
                    for value in total:
                        square += value * value
                    out[e, c, at] = 1 / np.sqrt(square) if square > 0 else 0
                    at += 1


def prototype_scales(X: Any, draws: Any, shots: Any) -> Any:
    """Return one over the length of the sum of the first shots (n_draws, K, n_shots).

    Of unit images `X` (n, d) and `draws` (n_draws, K, s) of their rows, -1 beyond a class; zero
    where a class has too few shots, or their sum no length.
    """
    out = np.zeros((*draws.shape[:2], len(shots)), dtype=np.float32)
    in_threads(_scales, len(draws), X, draws, shots, out)
    return out


@compiled()
def copied_shots(draws: Any, groups: Any, place: Any, n: int, masks: Any) -> Any:
    """Return (n, n_draws): for which numbers of shots, as bits, each of n groups has a shot.

    `place` tells which of the n a group is, -1 for others; `masks` (K, s) are the numbers of shots
    for which a class's j-th draw is one.
    """
    out = np.zeros((n, draws.shape[0]), dtype=np.uint32)
    for e in range(draws.shape[0]):
        for c in range(draws.shape[1]):
            for j in range(draws.shape[2]):
                shot = draws[e, c, j]
                at = place[groups[shot]] if shot >= 0 else -1
                if at >= 0:
                    out[at, e] |= masks[c, j]
    return out


_TOGETHER = 32
"""Images that are scored together: a shot's products with all of them are added at once."""


@compiled()
def _nearest(
    products: Any, draws: Any, scale: Any, shots: Any, serves: Any, best: Any, found: Any
) -> None:
    """Write each image's nearest class for each number of shots; the first of equal ones.

    By the products (n, b) of all images with b images; `best` and `found` are (n_shots, b).
    """
    best[:] = -np.inf
    found[:] = -1
    total = np.empty(products.shape[1], dtype=np.float32)
    for c in range(len(draws)):
        total[:] = 0
        at = 0
        for j in range(draws.shape[1]):
            if draws[c, j] < 0:
                break
            row = products[draws[c, j]]
            for i in range(len(total)):
                total[i] += row[i]
            if j + 1 == shots[at]:
                if serves[at, c]:
                    for i in range(len(total)):
                        score = total[i] * scale[c, at]
                        is_best = score > best[at, i]
                        best[at, i] = score if is_best else best[at, i]
                        found[at, i] = np.int32(c) if is_best else found[at, i]
                at += 1


@compiled()
def _count_parts(
    parts: Any, S: Any, truth: Any, drawn: Any, served: Any, copied: Any, counts: Any
) -> None:
    draws, scale = drawn
    shots, serves = served
    by_image, by_episode = counts
    for part in range(parts[0], parts[1]):
        first = part * _TOGETHER
        products = np.ascontiguousarray(S[first : first + _TOGETHER].T)
        best = np.empty((len(shots), products.shape[1]), dtype=np.float32)
        found = np.empty((len(shots), products.shape[1]), dtype=np.int32)
        for e in range(len(draws)):
            _nearest(products, draws[e], scale[e], shots, serves, best, found)
            for i in range(products.shape[1]):
                own = truth[first + i]
                for a in range(len(shots)):
                    if serves[a, own] and not (copied[first + i, e] >> np.uint32(a)) & 1:
                        is_right = found[a, i] == own
                        by_image[0, a, first + i] += is_right
                        by_image[1, a, first + i] += 1
                        by_episode[part, 0, a, e] += is_right
                        by_episode[part, 1, a, e] += 1


def count_episodes(S: Any, truth: Any, drawn: Any, shots: Any, serves: Any, copied: Any) -> Any:
    """Return how often images are right and tested: by image (2, n_shots, b), and by episode.

    `S` (b, n) are the images' products with all images, `drawn` the draws and their scales,
    `serves` (n_shots, K) the classes that take part, and `copied` (b, n_draws) the numbers of
    shots, as bits, for which an image or a copy of it is a shot: then it is not tested. The counts
    of the episodes are (n_parts, 2, n_shots, n_draws), to be summed over the parts.
    """
    n_parts, n_draws = -(-len(S) // _TOGETHER), len(drawn[0])
    by_image = np.zeros((2, len(shots), len(S)), dtype=np.int64)
    by_episode = np.zeros((n_parts, 2, len(shots), n_draws), dtype=np.int32)
    served, counts = (shots, serves), (by_image, by_episode)
    in_threads(_count_parts, n_parts, S, truth, drawn, served, copied, counts)
    return counts
