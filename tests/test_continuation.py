"""What a run that continues another one has changed is listed."""

from image_classification_trash.continuation import differences, listed


def test_what_differs_is_listed_in_order_and_what_one_run_does_not_know_is_not() -> None:
    before = {"seed": 0, "classes": ["a", "b"], "teacher": [], "old": 1, "weights": None}
    now = {"classes": ["a"], "seed": 0, "teacher": ["x"], "new": 2, "weights": "abc"}
    changes = differences(before, now)
    assert listed(changes) == "classes a, b -> a; teacher none -> x; weights none -> abc"
    assert [change.name for change in changes] == ["classes", "teacher", "weights"]
    assert not differences(before, before)
