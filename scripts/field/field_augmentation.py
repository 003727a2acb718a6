"""Augment photos on an accelerator, a whole batch at once: copy-paste, crops, colours, corruptions.

Used by `scripts/field/train_field.py`; the package's own augmentation does the same on a CPU, photo by photo. Every function takes
and returns float32 batches (B, 3, H, W) from 0 to 255 and draws from the device's own generator, so that nothing waits
for the CPU. It needs torch alone.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

SMALLEST, LARGEST = 0.27, 1.2
"""A pasted object's longer side, as a share of the picture's shorter one."""
_KERNEL = 13
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_RGB_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)


@dataclass(frozen=True)
class Strength:
    """How strongly photos are changed; defaults as in `configs/field.yaml` and the package's settings."""

    height: int = 256
    width: int = 320
    min_scale: float = 0.6
    rotation: float = 180.0
    brightness: float = 0.5
    contrast: float = 0.4
    saturation: float = 0.3
    hue: float = 0.02
    erasing: float = 0.25


@dataclass(frozen=True)
class Objects:
    """Cut-outs for copy-paste, row by row of the photos.

    Attributes:
        masks: uint8 (N, h, w), 1 on the object; any size of its own.
        boxes: float (N, 4), the mask's middle x, y, width and height, all in the coordinates -1 to 1 of `grid_sample`.
        found: bool (N,), whether there is a mask; where not, a blob around the photo's middle is cut out.
    """

    masks: torch.Tensor
    boxes: torch.Tensor
    found: torch.Tensor


def uniform(low: float, high: float, *shape: int, device: torch.device) -> torch.Tensor:
    """Draw from [low, high)."""
    return torch.rand(shape, device=device) * (high - low) + low


def _sign(*shape: int, device: torch.device) -> torch.Tensor:
    return torch.randint(0, 2, shape, device=device).float() * 2 - 1


def _grid(matrix: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Sampling points (B, H, W, 2) of affine maps (B, 2, 3) from output to input coordinates."""
    y, x = ((torch.arange(side, device=matrix.device) * 2 + 1) / side - 1 for side in size)
    across = x[None, None, :, None] * matrix[:, None, None, :, 0]
    return across + y[None, :, None, None] * matrix[:, None, None, :, 1] + matrix[:, None, None, :, 2]


def _upsampled(coarse: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(coarse, size, mode="bicubic", align_corners=True)


# Copy-paste (after Dwibedi et al., 2017, "Cut, Paste and Learn").


def mask_boxes(masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (N, 4) around masks (N, h, w), as in `Objects`, and whether each holds anything (N,)."""
    sides = []
    for axis in (1, 2):  # rows are collapsed for x, columns for y
        line = masks.amax(axis) > 0  # (N, w) or (N, h)
        n = line.shape[1]
        place = torch.arange(n, device=masks.device)
        first = torch.where(line, place, n).amin(1)
        last = torch.where(line, place, -1).amax(1)
        sides.append(((first + last + 1) / n - 1, (last - first + 1) * 2 / n))
    (x, wide), (y, tall) = sides
    found = masks.flatten(1).amax(1) > 0
    boxes = torch.stack([x, y, wide, tall], 1)
    return torch.where(found[:, None], boxes, boxes.new_tensor([0.0, 0.0, 1.4, 1.4])), found


def paste(
    photos: torch.Tensor, objects: Objects, rows: torch.Tensor, backgrounds: torch.Tensor
) -> torch.Tensor:
    """Put the objects of photos (B, 3, H, W), which are `rows` (B,) of `objects`, on backgrounds uint8 (G, 3, H, W)."""
    n, _, height, width = photos.shape
    size = (height, width)
    grid = _grid(_placement(objects.boxes[rows], size), size) + _dents(n, size, photos.device)
    moved = F.grid_sample(photos, grid, padding_mode="reflection", align_corners=False)
    masks = objects.masks[rows].float()[:, None]  # (B, 1, h, w)
    masks = torch.where(
        objects.found[rows].view(-1, 1, 1, 1), masks, _blobs(n, masks.shape[2:], masks.device)
    )
    alpha = _soft(F.grid_sample(masks, grid, padding_mode="zeros", align_corners=False))
    see_through = torch.where(
        torch.rand(n, device=photos.device) < 0.3, uniform(0.75, 0.95, n, device=photos.device), 1.0
    )
    alpha = alpha * see_through.view(-1, 1, 1, 1)
    below = draw_background(n, backgrounds, size) * (1 - _shadow(alpha))
    picture = torch.lerp(below, lit(moved), alpha)
    cover = background_pieces(n, backgrounds, size)
    return torch.lerp(picture, cover, _hiding(n, size, photos.device)).clamp_(0, 255)


def _placement(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Affine maps (B, 2, 3), output to input, that show the box (B, 4) at a random size, turn and place."""
    n, device = len(boxes), boxes.device
    height, width = size
    longer = torch.maximum(boxes[:, 2] * width / 2, boxes[:, 3] * height / 2)  # pixels
    share = SMALLEST * (LARGEST / SMALLEST) ** torch.rand(n, device=device)
    scale = share * min(size) / longer
    stretch, angle = (
        uniform(-0.3, 0.3, n, device=device).exp(),
        uniform(0, 2 * math.pi, n, device=device),
    )
    across, down = 1 / (scale * stretch * _sign(n, device=device)), stretch / scale
    cos, sin, ratio = angle.cos(), angle.sin(), height / width
    linear = torch.stack(
        [
            torch.stack([cos * across, sin * across * ratio], 1),
            torch.stack([-sin * down / ratio, cos * down], 1),
        ],
        1,
    )  # (B, 2, 2)
    target = uniform(-0.36, 0.36, n, 2, device=device)
    shift = boxes[:, :2] - (linear @ target[:, :, None])[:, :, 0]
    return torch.cat([linear, shift[:, :, None]], 2)


def _dents(n: int, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Smooth displacements (B, H, W, 2) for half of the photos: waste is rarely as it was made."""
    cells = 5
    strength = uniform(0.05, 0.2, n, device=device) / cells * (torch.rand(n, device=device) < 0.5)
    coarse = torch.randn(n, 2, cells, cells, device=device) * strength.view(-1, 1, 1, 1) * 2
    return _upsampled(coarse, size).permute(0, 2, 3, 1)


def _blobs(n: int, size: torch.Size, device: torch.device) -> torch.Tensor:
    """Superellipses (B, 1, h, w) around the middle: what is cut out where no object could be."""
    y, x = (torch.linspace(-1, 1, side, device=device) for side in size)
    wide, tall = uniform(0.5, 0.85, 2, n, 1, 1, device=device)
    power = uniform(2, 6, n, 1, 1, device=device)
    reach = (x.abs()[None, None, :] / wide) ** power + (y.abs()[None, :, None] / tall) ** power
    return (reach < 1).float()[:, None]


def _soft(alpha: torch.Tensor) -> torch.Tensor:
    """Drawn in by a pixel and softened, so that nothing of the old background shines round the edge."""
    inner = -F.max_pool2d(-alpha, 3, 1, 1)
    return F.avg_pool2d(F.avg_pool2d(inner, 3, 1, 1), 3, 1, 1)


def _shadow(alpha: torch.Tensor) -> torch.Tensor:
    """What the objects darken, (B, 1, H, W); an eighth of the size is enough for something so soft."""
    n, _, height, width = alpha.shape
    small = F.avg_pool2d(alpha, 8)
    matrix = torch.zeros(n, 2, 3, device=alpha.device)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1
    matrix[:, :, 2] = torch.randn(n, 2, device=alpha.device) * 0.04
    moved = F.grid_sample(small, _grid(matrix, (small.shape[2], small.shape[3])), align_corners=False)
    soft = F.avg_pool2d(moved, 3, 1, 1) * uniform(0, 0.7, n, 1, 1, 1, device=alpha.device)
    return F.interpolate(soft, (height, width), mode="bilinear", align_corners=False)


def _hiding(n: int, size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Soft-edged blobs (B, 1, H, W) near the middle of three in ten pictures, which cover a part of the object."""
    y, x = (torch.linspace(-1, 1, side, device=device) for side in size)
    middle = uniform(-0.5, 0.5, 2, n, 1, 1, device=device)
    reach = uniform(0.08, 0.3, n, 1, 1, device=device)
    wobble = _upsampled(torch.randn(n, 1, 8, 10, device=device) * 0.25, size)[:, 0]
    distance = ((x[None, None, :] - middle[0]) ** 2 + (y[None, :, None] - middle[1]) ** 2).sqrt() / reach
    blob = ((1 + wobble - distance) * 6).clamp(0, 1)
    return blob[:, None] * (torch.rand(n, device=device) < 0.3).view(-1, 1, 1, 1)


def background_pieces(n: int, backgrounds: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pieces of random backgrounds uint8 (G, 3, h, w), mirrored and in other light: (B, 3, H, W)."""
    device = backgrounds.device
    chosen = backgrounds[torch.randint(len(backgrounds), (n,), device=device)].float()
    share = uniform(0.5, 1.0, n, device=device)
    matrix = torch.zeros(n, 2, 3, device=device)
    matrix[:, 0, 0], matrix[:, 1, 1] = share * _sign(n, device=device), share * _sign(n, device=device)
    matrix[:, :, 2] = uniform(-1, 1, n, 2, device=device) * (1 - share)[:, None]
    return lit(F.grid_sample(chosen, _grid(matrix, size), align_corners=False))


def draw_background(n: int, backgrounds: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A piece of a background, or pieces of two that meet at a rough edge, as at a kerb: (B, 3, H, W)."""
    device = backgrounds.device
    first, second = background_pieces(n, backgrounds, size), background_pieces(n, backgrounds, size)
    y, x = (torch.linspace(-1, 1, side, device=device) for side in size)
    angle = uniform(0, 2 * math.pi, n, 1, 1, device=device)
    rough = _upsampled(torch.randn(n, 1, 12, 16, device=device) * 0.05, size)[:, 0]
    distance = x[None, None, :] * angle.cos() + y[None, :, None] * angle.sin() + rough
    distance = distance - uniform(-0.7, 0.7, n, 1, 1, device=device)
    edge = (distance * uniform(3, 40, n, 1, 1, device=device) + 0.5).clamp(0, 1)[:, None]
    return torch.lerp(first, second, edge * (torch.rand(n, device=device) < 0.3).view(-1, 1, 1, 1))


def lit(x: torch.Tensor) -> torch.Tensor:
    """Other light: brightness, a tint, contrast around the middle, paler or richer colours."""
    n, device = len(x), x.device
    factor = uniform(0.65, 1.35, n, 1, device=device) * (1 + 0.06 * torch.randn(n, 3, device=device))
    contrast = uniform(0.75, 1.35, n, 1, 1, 1, device=device)
    x = (((x - 128) * contrast + 128) * factor[:, :, None, None]).clamp_(0, 255)
    grey = (x * x.new_tensor(_RGB_TO_YIQ[0]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return torch.lerp(grey, x, uniform(0.6, 1.6, n, 1, 1, 1, device=device)).clamp_(0, 255)


# Crops, turns and colours (as `image_classification_trash.features.augmentation`).


def augment(x: torch.Tensor, strength: Strength) -> torch.Tensor:
    """Crop, turn, mirror, recolour and erase: (B, 3, h, w) to (B, 3, height, width)."""
    matrix = _crops(len(x), x.shape[-1] / x.shape[-2], strength, x.device)
    size = (strength.height, strength.width)
    x = F.grid_sample(x, _grid(matrix, size), padding_mode="reflection", align_corners=False)
    return _erased(_recoloured(x, strength), strength.erasing).clamp_(0, 255)


def _crops(n: int, ratio: float, strength: Strength, device: torch.device) -> torch.Tensor:
    """Affine maps (B, 2, 3) from output to input coordinates."""
    scale = uniform(strength.min_scale, 1, n, device=device).sqrt()
    aspect = uniform(-0.1, 0.1, n, device=device).exp()
    across, down = (scale * aspect).clamp(max=1.0), (scale / aspect).clamp(max=1.0)
    angle = uniform(-strength.rotation, strength.rotation, n, device=device) * (math.pi / 180)
    mirror_x, mirror_y = _sign(n, device=device), _sign(n, device=device)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.zeros(n, 2, 3, device=device)
    matrix[:, 0, 0], matrix[:, 0, 1] = cos * across * mirror_x, -sin * down * mirror_y / ratio
    matrix[:, 1, 0], matrix[:, 1, 1] = sin * across * mirror_x * ratio, cos * down * mirror_y
    matrix[:, 0, 2] = uniform(-1, 1, n, device=device) * (1 - across)
    matrix[:, 1, 2] = uniform(-1, 1, n, device=device) * (1 - down)
    return matrix


def _recoloured(x: torch.Tensor, strength: Strength) -> torch.Tensor:
    """Other brightness, contrast, saturation and hue; contrast pivots on each photo's own mean."""
    n, device = len(x), x.device
    bright = 1 + uniform(-strength.brightness, strength.brightness, n, device=device)
    contrast = 1 + uniform(-strength.contrast, strength.contrast, n, device=device)
    saturation = 1 + uniform(-strength.saturation, strength.saturation, n, device=device)
    angle = uniform(-strength.hue, strength.hue, n, device=device) * (2 * math.pi)
    turn = torch.zeros(n, 3, 3, device=device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos() * saturation
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin() * saturation, angle.sin() * saturation
    yiq = torch.tensor(_RGB_TO_YIQ)
    matrix = yiq.inverse().to(device) @ turn @ yiq.to(device) * (bright * contrast)[:, None, None]
    shift = x.mean((1, 2, 3)) * matrix.sum((1, 2)) / 3 / contrast * (1 - contrast)  # (B,)
    coloured = torch.baddbmm(shift.view(-1, 1, 1).expand(-1, 3, 1), matrix, x.flatten(2))
    return coloured.view_as(x)


def _erased(x: torch.Tensor, share: float) -> torch.Tensor:
    """A grey rectangle over a share of the photos."""
    n, _, height, width = x.shape
    device = x.device
    y, row = torch.arange(height, device=device), torch.rand(6, n, 1, 1, device=device)
    across = torch.arange(width, device=device)
    tall, wide = height * (0.15 + 0.25 * row[0]), width * (0.15 + 0.25 * row[1])
    top, left = (height - tall) * row[2], (width - wide) * row[3]
    inside_y = (y[None, :, None] >= top) & (y[None, :, None] < top + tall)
    inside_x = (across[None, None, :] >= left) & (across[None, None, :] < left + wide)
    box = (inside_y & inside_x & (row[4] < share))[:, None]
    return torch.where(box, row[5][:, None] * 255, x)


# What cameras, light and files do to photos (as `image_classification_trash.features.synthesis.corruptions`).


def corrupt(x: torch.Tensor, share: float) -> torch.Tensor:
    """Give a share of the photos one or two corruptions of random strength, in place.

    Each kind takes its own random rows, a fixed number of them, so that no step waits for the CPU to count.
    """
    n = len(x)
    count = round(share * 1.5 * n / 5)
    if not count:
        return x
    for change in (blurred, as_jpeg, noisy, brightened, coarse):
        rows = torch.randperm(n, device=x.device)[:count]
        x[rows] = change(x[rows]).clamp_(0, 255)
    return x


def blurred(x: torch.Tensor) -> torch.Tensor:
    """Blur every other photo evenly and the others along a line."""
    n, channels, height, width = x.shape
    device = x.device
    reach = torch.arange(_KERNEL, device=device) - _KERNEL // 2
    y, across = reach.view(1, -1, 1).float(), reach.view(1, 1, -1).float()
    even = torch.exp(-(y**2 + across**2) / (2 * uniform(0.5, 3, n, 1, 1, device=device) ** 2))
    angle, half = uniform(0, math.pi, n, 1, 1, device=device), uniform(1, 6, n, 1, 1, device=device)
    along, beside = across * angle.cos() + y * angle.sin(), y * angle.cos() - across * angle.sin()
    line = ((half + 0.5 - along.abs()).clamp(0, 1)) * ((1 - beside.abs()).clamp(0, 1))
    kernel = torch.where((torch.arange(n, device=device) % 2 == 0).view(-1, 1, 1), even, line)
    kernel = kernel / kernel.sum((1, 2), keepdim=True)  # (B, 13, 13)
    padded = F.pad(x, (_KERNEL // 2,) * 4, mode="reflect").view(
        1, n * channels, height + _KERNEL - 1, width + _KERNEL - 1
    )
    weight = kernel.repeat_interleave(channels, 0)[:, None]
    return F.conv2d(padded, weight, groups=n * channels).view(n, channels, height, width)


def as_jpeg(x: torch.Tensor) -> torch.Tensor:
    """What JPEG at a random quality from 10 to 70 leaves: 4:2:0 chroma, 8x8 DCT, the standard's tables."""
    device = x.device
    to_ycc = x.new_tensor(_RGB_TO_YCC)
    ycc = torch.einsum("dc,bchw->bdhw", to_ycc, x)
    quality = uniform(10, 70, len(x), 1, 1, device=device)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    luma = _quantised(ycc[:, :1] - 128, x.new_tensor(_LUMA), scale) + 128
    chroma = _quantised(F.avg_pool2d(ycc[:, 1:], 2), x.new_tensor(_CHROMA), scale)
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    inverse = torch.tensor(_RGB_TO_YCC).inverse().to(device)
    return torch.einsum("dc,bchw->bdhw", inverse, torch.cat([luma, chroma], 1))


def _quantised(plane: torch.Tensor, table: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Planes (B, C, H, W) after their DCT coefficients were rounded to multiples of the scaled table (8, 8)."""
    n, channels, height, width = plane.shape
    steps = ((table * scale + 50) / 100).floor().clamp(1, 255).view(n, 1, 1, 8, 1, 8)
    k = torch.arange(8, device=plane.device).float()
    basis = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    basis[0] *= math.sqrt(0.5)
    blocks = plane.reshape(n, channels, height // 8, 8, width // 8, 8)
    waves = torch.einsum("uy,bcaydx,vx->bcaudv", basis, blocks, basis)
    waves = (waves / steps).round() * steps
    return torch.einsum("uy,bcaudv,vx->bcaydx", basis, waves, basis).reshape(plane.shape)


def noisy(x: torch.Tensor) -> torch.Tensor:
    """Gaussian noise of 3 to 25 grey levels."""
    return x + torch.randn_like(x) * uniform(3, 25, len(x), 1, 1, 1, device=x.device)


def brightened(x: torch.Tensor) -> torch.Tensor:
    """Every value times 0.3 to 1.7."""
    return x * uniform(0.3, 1.7, len(x), 1, 1, 1, device=x.device)


def coarse(x: torch.Tensor) -> torch.Tensor:
    """Made smaller by three strengths, a third of the photos each, and enlarged again."""
    size = x.shape[2:]
    parts = []
    for part, factor in zip(x.chunk(3), (0.25, 0.4, 0.6), strict=False):
        small = F.interpolate(part, [round(side * factor) for side in size], mode="area")
        parts.append(F.interpolate(small, size, mode="bilinear", align_corners=False))
    return torch.cat(parts)
