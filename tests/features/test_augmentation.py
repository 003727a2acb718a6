"""Augmentation: same seed, same photos; nothing switched on, nothing changed."""

import torch

from image_classification_trash.features.augmentation import Augmentation, _affine_grid, mixup

STRONG = Augmentation(48, 64, 0.5, 30, 0.3, 0.3, 0.3, 0.05, 1.0)
NONE = Augmentation(48, 64, 1.0, 0, 0, 0, 0, 0, 0)


def photos() -> torch.Tensor:
    return torch.randint(
        0, 256, (6, 60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shape_range_and_seed() -> None:
    first = STRONG(photos(), seeded())
    assert first.shape == (6, 3, 48, 64) and first.dtype == torch.float32
    assert first.min() >= 0 and first.max() <= 255
    assert torch.equal(first, STRONG(photos(), seeded()))
    assert not torch.equal(first, STRONG(photos(), seeded(2)))


def test_weak_augmentation_keeps_colours() -> None:
    grey = torch.full((4, 60, 80, 3), 100, dtype=torch.uint8)
    assert torch.allclose(NONE(grey, seeded()), torch.tensor(100.0), atol=1e-2)


def test_erasing_blots_out_a_rectangle() -> None:
    blotted = Augmentation(48, 64, 1.0, 0, 0, 0, 0, 0, 1.0)(
        torch.zeros(8, 60, 80, 3, dtype=torch.uint8), seeded()
    )
    share = (blotted > 0).float().mean((1, 2, 3))
    assert share.max() > 0.01 and share.max() < 0.2


def test_hue_turns_colours_but_leaves_grey_alone() -> None:
    turn = Augmentation(48, 64, 1.0, 0, 0, 0, 0, 0.5, 0)
    grey = torch.full((4, 60, 80, 3), 90, dtype=torch.uint8)
    red = grey.clone()
    red[..., 0] = 200
    assert torch.allclose(turn(grey, seeded()), torch.tensor(90.0), atol=0.5)
    assert (turn(red, seeded()) - torch.tensor([200.0, 90, 90]).view(3, 1, 1)).abs().max() > 20


def test_mixup_keeps_targets_summing_to_one() -> None:
    x, targets = torch.rand(8, 3, 4, 4), torch.eye(8)
    assert mixup(x, targets, 0.0, seeded())[0] is x
    results = [mixup(x, targets, 0.5, seeded(seed))[1] for seed in range(10)]
    assert all(torch.allclose(mixed.sum(1), torch.ones(8)) for mixed in results)
    assert any(not torch.equal(mixed, targets) for mixed in results)
    assert all((mixed.diagonal() >= 0.5).all() for mixed in results)


def test_sampling_points_are_those_of_torch() -> None:
    matrix = torch.rand(4, 2, 3, generator=seeded())
    expected = torch.nn.functional.affine_grid(matrix, [4, 3, 12, 20], align_corners=False)
    assert torch.allclose(_affine_grid(matrix, (12, 20)), expected, atol=1e-6)
