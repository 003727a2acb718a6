"""The wrong answers of an evaluation as a gallery: each photo beside the regions that its answer rests on (Grad-CAM)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from image_classification_trash.evaluation.comparison.answers import Answer, predictions_file
from image_classification_trash.evaluation.result import Evaluation
from image_classification_trash.files import as_text
from image_classification_trash.inference.images import Pixels, read_photo
from image_classification_trash.networks.network import load_network
from image_classification_trash.visualization import plots
from image_classification_trash.visualization.gradcam import grad_cam
from image_classification_trash.visualization.report import MOST_CARDS, Card, Gallery, thumbnail

WORST = 8
"""Number of wrong answers that the report itself shows."""


@dataclass(frozen=True)
class WrongAnswer:
    """A wrong answer, the photo as the model sees it, uint8 (H, W, 3), and its Grad-CAM overlay of that size, if any."""

    answer: Answer
    photo: Pixels
    overlay: Pixels | None


def most_confident_first(evaluation: Evaluation) -> list[int]:
    """Return the places of the wrong answers, the most confident first."""
    wrong = [i for i, answer in enumerate(evaluation.answers) if not answer.is_right]
    return sorted(wrong, key=lambda i: (-evaluation.answers[i].confidence, i))


def wrong_answers(evaluation: Evaluation, most: int = MOST_CARDS) -> Iterator[WrongAnswer]:
    """Yield the most confident wrong answers with their pictures, at most `most` of them, one photo in memory at a time."""
    bundle, config = evaluation.bundle, evaluation.bundle.config
    network = None if bundle.is_file else load_network(bundle)
    places = most_confident_first(evaluation)[:most]
    for i in tqdm(places, desc="explain wrong answers", unit="photo"):
        photo = read_photo(evaluation.paths[i], config.input_size, config.resize_mode)
        heat = None if network is None else grad_cam(network, photo)
        yield WrongAnswer(evaluation.answers[i], photo, None if heat is None else plots.overlay(photo, heat))


def gallery(evaluation: Evaluation, cards: Sequence[Card], explained: bool) -> Gallery:
    """Return the gallery of the wrong answers, given the cards of the most confident ones.

    Args:
        evaluation: the evaluation.
        cards: of the most confident wrong answers.
        explained: whether they have a Grad-CAM overlay.
    """
    count, bundle = len(most_confident_first(evaluation)), evaluation.bundle
    text = f"{count} of {len(evaluation.answers)} answers are wrong"
    text += (
        f"; the {len(cards)} most confident are shown, {count - len(cards)} are left out."
        if count > len(cards)
        else ", all shown, the most confident first."
    )
    if bundle.is_file:
        beside = "Grad-CAM needs the weights of a bundle, so the photos stand alone."
        return Gallery("Wrong answers", f"{text} {beside}", cards)
    beside = (
        "Beside each photo, as the model sees it, are the regions that its answer rests on (Grad-CAM of the predicted class)."
        if explained
        else f"Grad-CAM needs feature maps, which {bundle.config.architecture} does not have, so the photos stand alone."
    )
    table = bundle.path / predictions_file(evaluation.photos.name)
    return Gallery(
        "Wrong answers", f"{text} {beside} The answers for all photos: {as_text(str(table))}.", cards
    )


def card_of(wrong: WrongAnswer) -> Card:
    """Return the card of a wrong answer."""
    answer = wrong.answer
    pictures = [(thumbnail(wrong.photo), f"{answer.path}, a photo of {answer.y_true}")]
    if wrong.overlay is not None:
        pictures.append((thumbnail(wrong.overlay), f"The regions that speak for {answer.y_pred}"))
    decision = "accepted" if answer.is_accepted else answer.decision
    return Card(
        f"{answer.y_true} taken for {answer.y_pred}",
        [f"{answer.probability:.1%}, {decision}", answer.path],
        pictures,
        {"true class": answer.y_true, "predicted class": answer.y_pred, "decision": decision},
    )


def draw_worst(worst: Sequence[WrongAnswer], count: int) -> tuple[Figure, str]:
    """Draw the most confident of `count` wrong answers; returns the figure and its caption."""
    cells = [[one.photo] if one.overlay is None else [one.photo, one.overlay] for one in worst]
    captions = [
        f"{Path(one.answer.path).stem}: {one.answer.y_pred} ({one.answer.confidence:.0%}), is {one.answer.y_true}"
        for one in worst
    ]
    explained = "; beside each, the regions that its answer rests on (Grad-CAM)" if len(cells[0]) > 1 else ""
    sure = sum(one.answer.is_accepted for one in worst)
    caption = (
        f"The most confident {len(worst)} of {count} wrong answers{explained}. {sure} of these {len(worst)} were accepted; the "
        "others were answered 'unsure' or rejected, so that a person would have seen them."
    )
    return plots.two_per_row(cells, captions, f"Most confident wrong answers ({count} in all)"), caption
