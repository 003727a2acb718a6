"""State where the training photos of a model come from, in its card and in the NOTICE.txt of its bundle."""

from collections.abc import Mapping, Sequence
from typing import Any

from image_classification_trash.inference.bundle import NOTICE

_NOTICE = """Training photos of the model {name}

The model was trained on photos of the sources below. Whoever passes the model on keeps this file with it, and follows the
licences of the sources. The licence of each photo is in the column `licence` of the data set's manifest.csv.
"""


def notice_text(name: str, sources: Sequence[Mapping[str, Any]]) -> str:
    """Return the content of a bundle's NOTICE.txt: name, attribution, licence and address of every source in training.

    Args:
        name: of the model.
        sources: `sources` of the data section of its config.json; sources that are test only are left out.
    """
    blocks = [
        f"{source['name']}\n  by: {source['attribution'] or 'not stated'}\n  licence: {source['licence']}\n"
        f"  from: {source['address']}\n  photos: {_trained_on(source)}\n"
        for source in sources
        if _trained_on(source)
    ]
    return "\n".join([_NOTICE.format(name=name), *blocks])


def source_rows(sources: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row of a card's table for each source: name, role, photos per split, licence, attribution, address."""
    return [
        [
            source["name"],
            source["role"],
            " / ".join(str(count) for count in source["photos"].values()),
            source["licence"],
            source["attribution"] or "not stated",
            source["address"],
        ]
        for source in sources
    ]


def notice_sentence(sources: Sequence[Mapping[str, Any]]) -> str:
    """Return what a card says of NOTICE.txt; empty without sources."""
    return (
        f" Keep {NOTICE} with it: it names the authors and licences of its training photos."
        if sources
        else ""
    )


def _trained_on(source: Mapping[str, Any]) -> int:
    """Return the number of photos of a source in training and validation."""
    return int(source["photos"].get("train", 0) + source["photos"].get("val", 0))
