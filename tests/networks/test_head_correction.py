"""A head learns from a few photos of other light, forgets little, and says truthfully how good it is on new ones."""

import numpy as np
import pytest
import safetensors.numpy

from image_classification_trash.arrays import Embeddings, Floats, Ints
from image_classification_trash.errors import BundleError
from image_classification_trash.networks.head_correction import (
    MOST_FITS,
    Examples,
    Head,
    adapt_head,
    held_out_scores,
    left_out,
    refit_temperature,
    softmax,
)
from image_classification_trash.networks.safetensors_file import read_tensor, with_tensor

CLASSES, WIDTH = 3, 40
CENTRES = 0.5 * np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
HEAD = Head(CENTRES, -(CENTRES**2).sum(1) / 2)
UNIT = (CENTRES / np.linalg.norm(CENTRES, axis=1, keepdims=True)).astype(np.float32)
SHIFT = CENTRES[[1, 2, 0]] - CENTRES + np.random.default_rng(1).normal(size=(CLASSES, WIDTH))
"""Photos of the owner's place look like those of another class, and unlike any."""


def photos(count: int, seed: int, share: float = 0.6, classes: int = CLASSES) -> tuple[Embeddings, Ints]:
    """Embeddings of `count` photos a class at a place that is moved by a share of `SHIFT`, and their classes."""
    y_true = np.repeat(np.arange(classes), count)
    noise = np.random.default_rng(seed).normal(size=(len(y_true), WIDTH))
    return (CENTRES + share * SHIFT)[y_true].astype(np.float32) + 0.5 * noise.astype(np.float32), y_true


def accuracy(scores: Floats, y_true: Ints) -> float:
    return float((scores.argmax(1) == y_true).mean())


def test_a_few_photos_correct_the_head_for_new_ones() -> None:
    embedded, y_true = photos(8, 1)
    new, y_new = photos(60, 2)
    adapted = adapt_head(HEAD, Examples(embedded, y_true))
    assert accuracy(HEAD(new), y_new) < 0.6
    assert accuracy(adapted(new), y_new) > 0.9


def test_photos_that_are_right_already_change_next_to_nothing() -> None:
    embedded, y_true = photos(8, 1, share=0)
    new, _ = photos(60, 2, share=0)
    adapted = adapt_head(HEAD, Examples(embedded, y_true))
    assert (adapted(new).argmax(1) == HEAD(new).argmax(1)).mean() > 0.98


def test_a_class_without_photos_keeps_its_scores_where_no_means_are_known() -> None:
    embedded, y_true = photos(8, 1, classes=2)
    adapted = adapt_head(HEAD, Examples(embedded, y_true))
    assert np.array_equal(adapted.weight[2], HEAD.weight[2])
    assert adapted(embedded)[:, :2].sum(1) == pytest.approx(HEAD(embedded)[:, :2].sum(1))


def test_class_means_keep_what_was_learned_before() -> None:
    embedded, y_true = photos(8, 1)
    old, y_old = photos(60, 2, share=0)
    means = CENTRES.astype(np.float32)
    forgetful, mindful = (
        softmax(adapt_head(HEAD, Examples(embedded, y_true, known))(old)) for known in (None, means)
    )
    rows = np.arange(len(y_old))
    assert mindful[rows, y_old].mean() > forgetful[rows, y_old].mean()
    assert accuracy(adapt_head(HEAD, Examples(embedded, y_true, means))(embedded), y_true) > 0.9


@pytest.mark.parametrize("means", [None, UNIT])
def test_each_photo_is_answered_by_a_head_that_was_adapted_without_it(means: Embeddings | None) -> None:
    embedded, y_true = photos(3, 1)
    embedded = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)  # so that all fits are on one scale
    scores = held_out_scores(HEAD, Examples(embedded, y_true, means))
    for number in (0, 4):
        rest = np.arange(len(y_true)) != number
        other = adapt_head(HEAD, Examples(embedded[rest], y_true[rest], means))
        assert scores[number] == pytest.approx(other(embedded[[number]])[0])


def test_many_photos_are_left_out_in_groups_of_every_class() -> None:
    _, y_true = photos(2 * MOST_FITS, 1)
    groups = list(left_out(y_true))
    assert len(groups) == MOST_FITS
    assert sorted(np.concatenate(groups)) == list(range(len(y_true)))
    assert all(np.bincount(y_true[group]).tolist() == [2, 2, 2] for group in groups)


def test_the_temperature_follows_the_photos_the_more_there_are() -> None:
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, CLASSES, 1000)
    scores = 8.0 * (np.eye(CLASSES)[np.where(rng.random(1000) < 0.6, y_true, (y_true + 1) % CLASSES)])
    few, many = (refit_temperature(1.0, scores[:n], y_true[:n]) for n in (5, 1000))
    assert 1.0 < few < many
    assert many == pytest.approx(
        8.0 / np.log(2 * 0.6 / 0.4), rel=0.5
    )  # the softmax then says how often it is right


def test_single_tensors_of_a_weights_file_are_replaced() -> None:
    tensors = {"head.1.weight": np.ones((2, 3), np.float32), "temperature": np.array(1.5, np.float32)}
    content = safetensors.numpy.save(tensors)
    changed = with_tensor(content, "temperature", np.array(2.5), "mine")
    changed = with_tensor(changed, "head.1.weight", np.arange(6.0).reshape(2, 3), "mine")
    assert read_tensor(changed, "temperature", "mine") == 2.5
    assert safetensors.numpy.load(changed)["head.1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert with_tensor(changed, "temperature", np.array(1.5), "mine") != content and len(changed) == len(
        content
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05\0\0\0\0\0\0\0{}",
        safetensors.numpy.save({"head.1.weight": np.ones(2, np.float16)}),
        safetensors.numpy.save({"head.1.weight": np.ones(2, np.float32)})[:-2],
    ],
)
def test_a_damaged_weights_file_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="mine has"):
        read_tensor(content, "head.1.weight", "mine")
