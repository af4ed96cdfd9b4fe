"""StanfordCars: makes, models and years."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "stanford_cars",
    title="StanfordCars",
    column="Cars",
    images="stanford_cars",
    split_file="stanford_cars/split_zhou_StanfordCars.json",
    origin="https://ai.stanford.edu/~jkrause/cars/car_dataset.html (cars_train/ and cars_test/)",
    licence="none found; its page is gone",
    n_images=16_185,
)
