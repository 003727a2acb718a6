"""Draw procedural backgrounds for copy-pasted objects, so that no photos of backgrounds are needed.

Two families share no rule: `TRAINING` for training and `HELD_OUT` for evaluation, so that accuracy on the latter measures
robustness to unseen backgrounds. Each rule takes a random generator and a size (height, width), and returns float (H, W, 3)
in RGB, nominally 0 to 255; the result depends on the generator's state alone.
"""

import colorsys
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt

from image_classification_trash.inference.images import Pixels, Size

Plane = npt.NDArray[np.float32]
Rule = Callable[[np.random.Generator, Size], Plane]


def draw_backgrounds(rules: Sequence[Rule], count: int, size: Size, seed: int) -> Pixels:
    """Draw `count` backgrounds, uint8 (N, H, W, 3), cycling through the rules; light, blur and noise are random."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return np.stack(
            list(pool.map(lambda number: draw_background(rules, number, size, seed), range(count)))
        )


def draw_background(rules: Sequence[Rule], number: int, size: Size, seed: int) -> Pixels:
    """Draw background `number` of the series of a seed, uint8 (H, W, 3)."""
    rng = np.random.default_rng([seed, number])
    background = rules[number % len(rules)](rng, size)
    background = background * _light(rng, size)[..., None]
    if rng.random() < 0.3:
        background = cv2.GaussianBlur(background, (0, 0), rng.uniform(0.5, 2.0))
    return np.clip(background + rng.normal(0, rng.uniform(0, 6), background.shape), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator, size: Size, cell: float, octaves: int = 4, fall: float = 0.5) -> Plane:
    """Return cloudy noise, float32 (H, W), 0 to 1: octaves of smooth random grids, the coarsest with cells of `cell` pixels."""
    height, width = size
    total = np.zeros(size, np.float32)
    weight = 1.0
    for _ in range(octaves):
        rows, columns = max(2, round(height / cell)) + 1, max(2, round(width / cell)) + 1
        grid = rng.random((rows, columns), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, cell = weight * fall, max(cell / 2, 1.0)
    low, high = np.quantile(total, [0.01, 0.99])
    return np.asarray(np.clip((total - low) / (high - low + 1e-6), 0, 1).astype(np.float32), dtype=np.float32)


def _colour(
    rng: np.random.Generator, hues: tuple[float, float], saturation: float, value: tuple[float, float]
) -> Plane:
    """Return a random RGB colour, float32 (3,), 0 to 255; hues are fractions of the colour circle."""
    hue = rng.uniform(*hues) % 1
    rgb = colorsys.hsv_to_rgb(hue, rng.uniform(0, saturation), rng.uniform(*value))
    return np.array(rgb, np.float32) * 255


def _blend(share: Plane, first: Plane, second: Plane) -> Plane:
    """Interpolate from `first` to `second`, colours or pictures, as share (H, W) goes from 0 to 1."""
    return np.asarray(first + (second - first) * share[..., None], dtype=np.float32)


def _light(rng: np.random.Generator, size: Size) -> Plane:
    """Return light, float32 (H, W): a gradient and, in 40% of cases, a shadow with a soft edge."""
    y, x = np.mgrid[0 : 1 : size[0] * 1j, 0 : 1 : size[1] * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    light = 1 + rng.uniform(0, 0.4) * along
    if rng.random() < 0.4:
        edge = along + 0.15 * (_noise(rng, size, 80, 2) - 0.5) - rng.uniform(-0.4, 0.4)
        light *= 1 - rng.uniform(0.2, 0.6) / (1 + np.exp(-edge * rng.uniform(10, 120)))
    return np.asarray(light * rng.uniform(0.55, 1.15), dtype=np.float32)


def _strokes(rng: np.random.Generator, canvas: Plane, count: int, length: tuple[float, float], spread: float,
             colours: Callable[[], Plane], curved: bool = True) -> Plane:  # fmt: skip
    """Draw overlapping strokes around one direction; `length` in pixels, `spread` in radians."""
    height, width, _ = canvas.shape
    main = rng.uniform(0, np.pi)
    for _ in range(count):
        start = rng.uniform((-20, -20), (width + 20, height + 20))
        angle, reach = rng.normal(main, spread), rng.uniform(*length)
        end = start + reach * np.array([np.cos(angle), np.sin(angle)])
        bend = rng.normal(0, 0.12 * reach, 2) if curved else np.zeros(2)
        points = np.rint([start, (start + end) / 2 + bend, end]).astype(np.int32)
        cv2.polylines(canvas, [points], False, colours().tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    return canvas


def clouds(rng: np.random.Generator, size: Size) -> Plane:
    """Draw cloudy noise between two colours."""
    first, second = _colour(rng, (0, 1), 0.9, (0.05, 1)), _colour(rng, (0, 1), 0.9, (0.05, 1))
    return _blend(_noise(rng, size, rng.uniform(10, 200), 5, rng.uniform(0.4, 0.9)), first, second)


def plain(rng: np.random.Generator, size: Size) -> Plane:
    """Draw a table, wall or floor of one colour."""
    colour = _colour(rng, (0, 1), 0.8, (0.05, 1))
    return np.asarray(colour * (1 + 0.1 * (_noise(rng, size, 120, 3)[..., None] - 0.5)), dtype=np.float32)


def grass(rng: np.random.Generator, size: Size) -> Plane:
    """Draw blades of grass around one direction."""
    hues = (0.13, 0.36)
    canvas = _blend(
        _noise(rng, size, 30), _colour(rng, hues, 0.6, (0.05, 0.2)), _colour(rng, hues, 0.6, (0.2, 0.4))
    )
    value = rng.uniform(0.4, 0.95)
    return _strokes(rng, canvas, int(rng.integers(300, 1500)), (10, rng.uniform(30, 130)), rng.uniform(0.2, 1.5),
                    lambda: _colour(rng, hues, 0.75, (0.3 * value, value)))  # fmt: skip


def asphalt(rng: np.random.Generator, size: Size) -> Plane:
    """Draw grainy asphalt, in a quarter of cases with a painted line."""
    base = _colour(rng, (0.02, 0.65), 0.15, (0.15, 0.6))
    grains = cv2.GaussianBlur(rng.normal(0, 1, size).astype(np.float32), (0, 0), rng.uniform(0.6, 2.5))
    grains = grains / (grains.std() + 1e-6) * rng.uniform(10, 35)
    background = base + grains[..., None] + 25 * (_noise(rng, size, 90)[..., None] - 0.5)
    if rng.random() < 0.25:
        background = _painted_line(rng, background)
    return np.asarray(background, dtype=np.float32)


def _painted_line(rng: np.random.Generator, background: Plane) -> Plane:
    """Draw a worn line of road paint across the background."""
    height, width, _ = background.shape
    stencil = np.zeros((height, width), np.uint8)
    ends = rng.uniform((0, 0), (width, height), (2, 2))
    direction = (ends[1] - ends[0]) * 5
    line = np.rint([ends[0] - direction, ends[0] + direction]).astype(np.int32)
    cv2.line(stencil, line[0].tolist(), line[1].tolist(), 255, int(rng.integers(15, 70)), cv2.LINE_AA)
    worn = stencil / 255 * (_noise(rng, (height, width), 25, 5, 0.8) > rng.uniform(0.1, 0.5))
    paint = _colour(rng, (0.11, 0.15), 0.8, (0.7, 0.95))
    return _blend(np.asarray(worn, dtype=np.float32), np.asarray(background, dtype=np.float32), paint)


def wood(rng: np.random.Generator, size: Size) -> Plane:
    """Draw wood grain along either side of the picture, in half of cases with gaps between planks."""
    height, width = size
    bend = _noise(rng, size, rng.uniform(60, 250), 3)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    rings = np.sin((y * rng.uniform(3, 20) + bend * rng.uniform(1, 5)) * 2 * np.pi)
    fibre = cv2.resize(rng.random((height, max(2, width // 40)), dtype=np.float32), (width, height))
    dark, bright = _colour(rng, (0.03, 0.11), 0.7, (0.15, 0.5)), _colour(rng, (0.05, 0.12), 0.6, (0.5, 0.9))
    planks = _blend((0.35 * (rings + 1) + 0.3 * fibre).astype(np.float32), dark, bright)
    if rng.random() < 0.5:
        for edge in np.arange(rng.uniform(0, 60), height, rng.uniform(40, 130)).astype(int):
            planks[edge : edge + 2] *= 0.4
    return planks if rng.random() < 0.5 else _turned(planks)


def _turned(picture: Plane) -> Plane:
    height, width, _ = picture.shape
    return np.ascontiguousarray(cv2.resize(np.rot90(picture), (width, height)))


def bricks(rng: np.random.Generator, size: Size) -> Plane:
    """Draw pavement: rows of stones of different shades, with joints between them."""
    height, width = size
    tall, wide = rng.uniform(18, 90), rng.uniform(25, 160)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(-0.8, 0.8)
    x, y = x * np.cos(angle) - y * np.sin(angle) + 1000, x * np.sin(angle) + y * np.cos(angle) + 1000
    row = np.floor(y / tall)
    column = np.floor((x + (row % 2) * wide * rng.choice([0, 0.5])) / wide)
    inside_y, inside_x = y / tall - row, (x + (row % 2) * wide * 0.5) / wide % 1
    shade = np.abs(np.sin(row * 12.9898 + column * 78.233) * 43758.5453) % 1
    joint = (inside_y < 3 / tall) | (inside_x < 3 / wide)
    stone = _blend((0.6 * shade + 0.4 * _noise(rng, size, 12)).astype(np.float32),
                   _colour(rng, (0, 0.12), 0.5, (0.2, 0.6)), _colour(rng, (0, 0.12), 0.4, (0.4, 0.9)))  # fmt: skip
    stone[joint] = _colour(rng, (0, 0.15), 0.3, (0.1, 0.8))
    return stone + rng.normal(0, 8, (*size, 1)).astype(np.float32)


def leaves(rng: np.random.Generator, size: Size) -> Plane:
    """Draw fallen or growing leaves: overlapping pointed ellipses with veins."""
    height, width = size
    hues = [(0.02, 0.12), (0.2, 0.38), (0.05, 0.3)][int(rng.integers(3))]
    canvas = _blend(
        _noise(rng, size, 20), _colour(rng, hues, 0.5, (0.02, 0.15)), _colour(rng, hues, 0.5, (0.1, 0.35))
    )
    scale = rng.uniform(8, 40)
    for _ in range(int(min(900, 60000 / scale**1.5))):
        centre, reach, angle = (
            rng.uniform((0, 0), (width, height)),
            scale * rng.uniform(0.5, 1.4),
            rng.uniform(0, 2 * np.pi),
        )
        t = np.linspace(0, 2 * np.pi, 14)
        outline = np.stack([np.cos(t), rng.uniform(0.3, 0.7) * np.sin(t) * (1 - 0.4 * np.cos(t))]) * reach
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = np.rint((turn @ outline).T + centre).astype(np.int32)
        colour = _colour(rng, hues, 0.7, (0.15, 0.85))
        cv2.fillPoly(canvas, [points], colour.tolist(), cv2.LINE_AA)
        cv2.line(canvas, points[0].tolist(), points[7].tolist(), (colour * 0.7).tolist(), 1, cv2.LINE_AA)
    return canvas


def stripes(rng: np.random.Generator, size: Size) -> Plane:
    """Draw fences, blinds or corrugated sheet: evenly spaced bars over cloudy noise."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle, wave = rng.uniform(0, np.pi), rng.uniform(8, 90)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / wave % 1
    bar = (phase < rng.uniform(0.15, 0.6)).astype(np.float32) * (0.7 + 0.3 * np.sin(phase * 2 * np.pi))
    return _blend(bar.astype(np.float32), clouds(rng, size), _colour(rng, (0, 1), 0.8, (0.05, 0.95)))


def shapes(rng: np.random.Generator, size: Size) -> Plane:
    """Draw an abstract cluttered scene: overlapping polygons of any colour."""
    height, width = size
    canvas = clouds(rng, size)
    for _ in range(int(rng.integers(3, 25))):
        colour = _colour(rng, (0, 1), 0.9, (0.05, 1)).tolist()
        centre, reach = rng.uniform((0, 0), (width, height)), rng.uniform(10, 120)
        corners = np.rint(centre + rng.normal(0, reach, (int(rng.integers(3, 6)), 2))).astype(np.int32)
        cv2.fillPoly(canvas, [cv2.convexHull(corners)], colour, cv2.LINE_AA)
    return canvas + rng.normal(0, 4, canvas.shape).astype(np.float32)


def straw(rng: np.random.Generator, size: Size) -> Plane:
    """Draw straight straws in all directions."""
    hues = (0.06, 0.14)
    canvas = _blend(
        _noise(rng, size, 25), _colour(rng, hues, 0.5, (0.1, 0.3)), _colour(rng, hues, 0.5, (0.2, 0.5))
    )
    return _strokes(rng, canvas, int(rng.integers(200, 900)), (20, 160), 3.0,
                    lambda: _colour(rng, hues, 0.6, (0.3, 0.95)), curved=False)  # fmt: skip


def stones(rng: np.random.Generator, size: Size) -> Plane:
    """Draw gravel: cells around random points, shaded to look round."""
    height, width = size
    count = int(rng.integers(40, 900))
    points = rng.uniform((0, 0), (height, width), (count, 2)).astype(np.float32)
    seeds = np.full(size, 255, np.uint8)
    seeds[points[:, 0].astype(int), points[:, 1].astype(int)] = 0
    distance, cells = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    tones = np.stack([_colour(rng, (0.02, 0.6), 0.25, (0.2, 0.95)) for _ in range(count + 2)])
    rounded = np.clip(1.15 - distance / (distance.max() * rng.uniform(0.6, 1.0) + 1), 0.15, 1)
    return np.asarray(
        tones[cells % len(tones)] * rounded[..., None] + rng.normal(0, 7, (*size, 1)), dtype=np.float32
    )


def weave(rng: np.random.Generator, size: Size) -> Plane:
    """Draw cloth: two sets of interwoven threads."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    pitch = rng.uniform(3, 14)
    warp, weft = np.sin(2 * np.pi * x / pitch), np.sin(2 * np.pi * y / (pitch * rng.uniform(0.7, 1.4)))
    over = np.where(np.sign(np.sin(np.pi * x / pitch) * np.sin(np.pi * y / pitch)) > 0, warp, weft)
    cloth = _blend(
        (0.5 + 0.5 * over).astype(np.float32),
        _colour(rng, (0, 1), 0.8, (0.05, 0.6)),
        _colour(rng, (0, 1), 0.8, (0.2, 1)),
    )
    return np.asarray(cloth * (0.8 + 0.4 * _noise(rng, size, 100, 3)[..., None]), dtype=np.float32)


def water(rng: np.random.Generator, size: Size) -> Plane:
    """Draw ripples: waves in many directions, with glints on their crests."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    height = np.zeros(size, np.float32)
    for _ in range(12):
        angle, wave = rng.uniform(0, 2 * np.pi), rng.uniform(12, 90)
        height += np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / wave + rng.uniform(0, 6))
    height = (height - height.min()) / (height.max() - height.min())
    ripples = _blend(
        height, _colour(rng, (0.4, 0.65), 0.7, (0.05, 0.4)), _colour(rng, (0.3, 0.65), 0.5, (0.3, 0.8))
    )
    return np.asarray(
        ripples + 160 * np.clip(height - 0.8, 0, 1)[..., None] * 5 * rng.random(), dtype=np.float32
    )


def sand(rng: np.random.Generator, size: Size) -> Plane:
    """Draw sand or earth: fine grain, soft dunes, a few darker crumbs."""
    base = _blend(
        _noise(rng, size, rng.uniform(30, 160), 3),
        _colour(rng, (0.06, 0.13), 0.5, (0.3, 0.7)),
        _colour(rng, (0.06, 0.13), 0.4, (0.5, 0.95)),
    )
    background = base + rng.normal(0, rng.uniform(6, 20), (*size, 1))
    crumbs = rng.random(size) < rng.uniform(0, 0.01)
    dark = cv2.dilate(crumbs.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    background[dark] *= rng.uniform(0.3, 0.8)
    return np.asarray(background, dtype=np.float32)


def carpet(rng: np.random.Generator, size: Size) -> Plane:
    """Draw a repeating pattern: one small random tile, mirrored."""
    side = int(rng.integers(16, 72))
    tile = cv2.resize(
        rng.uniform(0, 255, (5, 5, 3)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    )
    tile = np.concatenate([tile, tile[:, ::-1]], axis=1)
    tile = np.concatenate([tile, tile[::-1]], axis=0)
    rows, columns = -(-size[0] // tile.shape[0]), -(-size[1] // tile.shape[1])
    return np.ascontiguousarray(np.tile(tile, (rows, columns, 1))[: size[0], : size[1]]) + rng.normal(
        0, 10, (*size, 1)
    ).astype(np.float32)


def bark(rng: np.random.Generator, size: Size) -> Plane:
    """Draw tree bark: ridges along one direction, broken up by noise."""
    ridges = cv2.resize(_noise(rng, (size[0] // 6 + 2, size[1]), 14, 4, 0.8), (size[1], size[0]))
    torn = np.abs(ridges - 0.5) * 2
    surface = _blend(
        torn.astype(np.float32),
        _colour(rng, (0.02, 0.12), 0.5, (0.03, 0.25)),
        _colour(rng, (0.02, 0.14), 0.4, (0.3, 0.75)),
    )
    return surface if rng.random() < 0.5 else _turned(surface)


TRAINING: tuple[Rule, ...] = (
    clouds,
    grass,
    asphalt,
    wood,
    bricks,
    leaves,
    stripes,
    shapes,
    straw,
    plain,
)
HELD_OUT: tuple[Rule, ...] = (stones, weave, water, sand, carpet, bark)
