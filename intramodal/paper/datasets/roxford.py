"""Revisited Oxford: landmarks of Oxford, 70 queries, judged easy, hard or junk."""

from __future__ import annotations

from intramodal.paper.disk import in_revisited_layout

DECLARED = in_revisited_layout(
    "roxford",
    title="ROxford",
    folder="roxford5k",
    ground_truth="gnd_roxford5k.pkl",
    origin="https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/ (images) and "
    "http://cmp.felk.cvut.cz/revisitop/ (ground truth)",
    licence="Flickr's terms of use, and the terms of access of Oxford's Visual Geometry Group",
    n_images=5_063,
)
