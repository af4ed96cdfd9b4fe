"""OxfordPets: breeds of cats and dogs."""

from __future__ import annotations

from intramodal.paper.disk import in_coop_layout

DECLARED = in_coop_layout(
    "oxford_pets",
    title="OxfordPets",
    column="Pets",
    images="oxford_pets/images",
    split_file="oxford_pets/split_zhou_OxfordPets.json",
    origin="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    licence="CC BY-SA 4.0; the images remain their owners'",
    n_images=7_349,
    template="a photo of a {}, a type of pet.",
)
