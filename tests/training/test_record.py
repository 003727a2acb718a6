"""What a training writes about itself in its bundle."""

import json
from pathlib import Path

from image_classification_trash.evaluation.calibration import PredictionSets, Validation
from image_classification_trash.evaluation.result import StartComparison
from image_classification_trash.training.fine_tuning import FineTuned
from image_classification_trash.training.linear_head import LinearHead
from image_classification_trash.training.record import Ancestors, Run, training_record
from image_classification_trash.training.robustness import RejectionHeadRecord, ShiftRecord

VALIDATION = Validation(10, 0.9, 0.8, 0.5, 8, 0.8, None, PredictionSets(1.0, 2.0, 0.5))
RUN = Run(Path("reports"), {"seed": 0, "weights": None}, {}, began=0.0)
EPOCHS = [{"epoch": 1.0, "val_macro_f1": 0.4}, {"epoch": 2.0, "val_macro_f1": 0.7}]

START = {"epoch": 0.0, "val_macro_f1": 0.8}
COMPARISON = StartComparison("fitted head", 0.8, 0.7, 0)


def test_a_record_has_what_was_done_in_the_order_it_was_done() -> None:
    empty = LinearHead(None, None, 0.1, 0.9, 0.3)  # type: ignore[arg-type]  the figures alone are written
    shift = ShiftRecord({"clean": 0.9}, RejectionHeadRecord(0.99, 0.98))
    ancestors = Ancestors({"abc": 5.0}, ("another machine",))
    record = training_record(
        RUN, ancestors, VALIDATION, empty, FineTuned([START, *EPOCHS], COMPARISON), shift
    ).as_json()
    assert list(record) == [
        "settings", "validation", "seconds", "head", "epochs_run", "best_epoch", "comparison", "ancestors", "validation_under_shift",
        "rejection_head", "machine",
    ]  # fmt: skip
    assert record["head"] == {"inverse_regularisation": 0.1, "val_accuracy": 0.9}
    assert (record["epochs_run"], record["best_epoch"]) == (2, 2)
    assert record["comparison"]["kept_epoch"] == 0 and record["comparison"]["start_macro_f1"] == 0.8
    assert record["rejection_head"] == {"auroc": 0.99, "kept": 0.98}
    assert record["machine"].startswith("another machine; ") and record["seconds"] > 5
    assert record["validation"]["prediction_set"] == {"right_among": 1.0, "mean_size": 2.0, "single": 0.5}
    assert json.loads(json.dumps(record)) == record


def test_what_was_not_done_is_left_out_and_what_has_no_value_is_not() -> None:
    record = training_record(RUN, Ancestors({}, ()), VALIDATION, None, FineTuned([], None), None).as_json()
    assert list(record) == ["settings", "validation", "seconds", "ancestors", "machine"]
    assert record["validation"]["precision"] is None and record["settings"]["weights"] is None


def test_the_first_epoch_may_be_the_best() -> None:
    record = training_record(
        RUN, Ancestors({}, ()), VALIDATION, None, FineTuned(EPOCHS[:1], None), None
    ).as_json()
    assert (record["epochs_run"], record["best_epoch"]) == (1, 1)
