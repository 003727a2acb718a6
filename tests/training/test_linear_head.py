"""The linear head and the class weights."""

import numpy as np
import pytest

from image_classification_trash.training.linear_head import class_weights, fit_head


def clusters(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_true = np.arange(40 * classes) % classes
    return (rng.normal(size=(len(y_true), 16)) + 3 * np.eye(classes, 16)[y_true]).astype(np.float32), y_true


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_classes_are_learned(classes: int) -> None:
    train, val = clusters(classes), clusters(classes, 1)
    head = fit_head(*train, *val, classes, 0.5)
    assert head.weight.shape == (classes, 16) and head.bias.shape == (classes,)
    assert head.val_accuracy > 0.9
    assert (head.logits(val[0]).argmax(1) == val[1]).mean() == pytest.approx(head.val_accuracy)


def test_class_weights_run_from_photos_to_classes() -> None:
    y_true = np.array([0] * 90 + [1] * 10)
    assert class_weights(y_true, 2, 0.0).tolist() == [1.0, 1.0]
    even = class_weights(y_true, 2, 1.0)
    assert even[0] * 90 == pytest.approx(even[1] * 10)
    for weighting in (0.0, 0.5, 1.0):
        assert class_weights(y_true, 2, weighting)[y_true].mean() == pytest.approx(1.0)
