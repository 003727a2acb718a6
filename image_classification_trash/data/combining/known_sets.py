"""Public sets of waste photos that a data sources file can name: `known: realwaste`.

Addresses and licences are those of the documents named in docs/reference/data.md. A set without an address has to be
downloaded by hand, and a set without a checksum has not been fetched where this list was written: its `sha256` then has
to be stated in the data sources file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from image_classification_trash.data.layouts import Layout
from image_classification_trash.data.trashnet import HUB_SHA256

LEAVE_OUT = "leave out"


@dataclass(frozen=True)
class KnownSet:
    """A public set: where it is, how its labels map to TrashNet's classes, and on which terms.

    Attributes:
        page: where the set is described.
        licence: as its documents state it.
        attribution: authors, title, year.
        labels: its labels, and the class of each or `leave out`.
        url: address of its zip; None if it has no address that needs no account.
        sha256: checksum of that zip; None if it is not known.
        layout: how its folders are read.
        obtain: how to get it by hand.
    """

    page: str
    licence: str
    attribution: str
    labels: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    sha256: str | None = None
    layout: Layout = "classes"
    obtain: str = ""


_TACO = {
    "cardboard": "Corrugated carton, Egg carton, Meal carton, Other carton, Pizza box, Toilet tube",
    "glass": "Broken glass, Glass bottle, Glass cup, Glass jar",
    "metal": "Aerosol, Aluminium foil, Drink can, Food Can, Metal bottle cap, Metal lid, Pop tab, Scrap metal",
    "paper": "Magazine paper, Normal paper, Paper bag, Paper straw, Wrapping paper",
    "plastic": "Clear plastic bottle, Disposable food container, Disposable plastic cup, Garbage bag, "
    "Other plastic, Other plastic bottle, Other plastic container, Other plastic cup, Plastic bottle cap, Plastic film, "
    "Plastic glooves, Plastic lid, Plastic straw, Plastic utensils, Polypropylene bag, Single-use carrier bag, "
    "Six pack rings, Spread tub, Squeezable tube, Tupperware",
    "trash": "Aluminium blister pack, Carded blister pack, Cigarette, Crisp packet, Foam cup, Foam food container, "
    "Other plastic wrapper, Paper cup, Plastified paper bag, Styrofoam piece, Tissues",
    LEAVE_OUT: "Battery, Drink carton, Food waste, Rope & strings, Shoe, Unlabeled litter",
}
"""TACO's 60 categories; what is laminated, of foam or soiled is trash, as in TrashNet."""

KNOWN_SETS = {
    "trashnet": KnownSet(
        page="https://huggingface.co/datasets/garythung/trashnet",
        licence="MIT",
        attribution="Gary Thung and Mindy Yang: TrashNet, 2016",
        url="https://huggingface.co/datasets/garythung/trashnet/resolve/main/dataset-resized.zip",
        sha256=HUB_SHA256,
    ),
    "realwaste": KnownSet(
        page="https://archive.ics.uci.edu/dataset/908/realwaste",
        licence="CC BY-NC-SA 4.0 by its authors' IEEE DataPort page; compare the page of the copy that you fetch",
        attribution="Sam Single, Saeid Iranmanesh and Raad Raad: RealWaste, 2023, doi:10.24432/C5SS4G",
        url="https://archive.ics.uci.edu/static/public/908/realwaste.zip",
        labels={
            "Cardboard": "cardboard",
            "Food Organics": LEAVE_OUT,
            "Glass": "glass",
            "Metal": "metal",
            "Miscellaneous Trash": "trash",
            "Paper": "paper",
            "Plastic": "plastic",
            "Textile Trash": LEAVE_OUT,
            "Vegetation": LEAVE_OUT,
        },
    ),
    "taco": KnownSet(
        page="https://github.com/pedropro/TACO",
        licence="CC BY 4.0 for the annotations; each photo's own licence is in annotations.json",
        attribution="Pedro F. Proença and Pedro Simões: TACO, Trash Annotations in Context, 2020, arXiv:2003.06975",
        labels={name: label for label, names in _TACO.items() for name in names.split(", ")},
        obtain="Download it from its page, and cut out the boxes of annotations.json into one folder per category",
    ),
    "drinking-waste": KnownSet(
        page="https://www.kaggle.com/datasets/arkadiyhacks/drinking-waste-classification",
        licence="CC0 1.0, as others who use it state; compare its page",
        attribution="Arkadiy Serezhkin: Drinking Waste Classification",
        labels={"AluCan": "metal", "Glass": "glass", "HDPEM": "plastic", "PET": "plastic"},
        obtain="Download it from its page, which needs an account, and unpack its folders AluCan, Glass, HDPEM and PET",
    ),
}
