"""Templates for the synthetic set: ten kinds of garment as polygons, and cloth; not about whole images.

Coordinates are template points, x to the right and y down, on a grid of 128 x 128 whose middle 112 x 112 are
the 28 x 28 pixels (4 points each); (64, 64) is the middle. All integers: see `synthetic`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["POINTS", "VARIANTS", "template", "textures"]

POINTS = 128
VARIANTS = 100  # templates per class
_MIDDLE = POINTS // 2
_KEY = 0x6761726D656E7473
_PER_PIXEL = 4
_ODD = 2 * np.arange(POINTS, dtype=np.int32) + 1  # point centres, in halves

Polygon = list[tuple[int, int]]
Part = tuple[int, Polygon]  # a grey level (0: cut away) and where; later parts cover earlier ones
Between = Callable[[int, int], int]


@functools.cache
def template(number: int) -> NDArray[np.uint8]:
    """One template, uint8 (128, 128), drawn when it is first asked for: by class, VARIANTS of each."""
    kinds = (_t_shirt, _trouser, _pullover, _dress, _coat, _sandal, _shirt, _sneaker, _bag, _ankle_boot)
    return _average(_paint(kinds[number // VARIANTS](_integers(number))))


@functools.lru_cache(maxsize=1)
def textures() -> NDArray[np.uint8]:
    """Cloth, plain or patterned: a brightness 0..255 at each template point, uint8 (kinds, 128, 128)."""
    y, x = np.mgrid[0:POINTS, 0:POINTS]
    dark = []
    for period in (10, 16, 26):
        across, down = (x % period) * 2 < period, (y % period) * 2 < period
        dark += [across, down, across & down]
    dark += [((x + y) % 20) < 10, (x - _MIDDLE) ** 2 + (y - 52) ** 2 < 14**2]
    patterns = [np.where(mask, 90, 255) for mask in dark]
    plain = [np.full((POINTS, POINTS), 255)] * 8
    blots = [_blots(cell) for cell in (7, 10, 14, 20)]
    cloth: NDArray[np.uint8] = np.stack([*plain, *patterns, *blots]).astype(np.uint8)
    return cloth


def _blots(cell: int) -> NDArray[np.int64]:
    """Random levels on a coarse grid, interpolated: cloth that is worn, dyed or creased."""
    across = POINTS // cell + 2
    words = np.random.Philox(key=_KEY + 1_000_000 + cell).random_raw(across * across)
    level = (words >> np.uint64(56)).astype(np.int64).reshape(across, across)
    whole, part = np.divmod(np.arange(POINTS), cell)
    rows = level[whole] * (cell - part)[:, None] + level[whole + 1] * part[:, None]
    blots: NDArray[np.int64] = (rows[:, whole] * (cell - part) + rows[:, whole + 1] * part) // cell**2
    return blots


def _integers(stream: int) -> Between:
    """A function that draws an integer from `low` to `high`, both included."""
    source = np.random.Philox(key=_KEY + stream)

    def between(low: int, high: int) -> int:
        return low + ((int(source.random_raw()) >> 32) * (high - low + 1) >> 32)

    return between


def _paint(parts: list[Part]) -> NDArray[np.uint8]:
    canvas = np.zeros((POINTS, POINTS), dtype=np.uint8)
    for grey, polygon in parts:
        canvas[_inside(polygon)] = grey
    return canvas


def _inside(polygon: Polygon) -> NDArray[np.bool_]:
    """The even-odd rule; points lie at odd and corners at even numbers, so none is level with a corner."""
    inside = np.zeros((POINTS, POINTS), dtype=np.bool_)
    for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        (x0, y0), (x1, y1) = sorted((start, end), key=lambda corner: corner[1])  # downwards
        top, bottom = max(y0, 0), min(y1, POINTS)
        x = (_ODD - 2 * x0) * (y1 - y0)
        y = (_ODD[top:bottom, None] - 2 * y0) * (x1 - x0)
        inside[top:bottom] ^= x < y  # right of the edge: compared without dividing
    return inside


def _average(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean over the pixel around each point: sampling single points then shows no jagged edges."""
    total = np.pad(image.astype(np.uint16), (2, 1))
    for axis in (0, 1):
        shifted = [total.take(range(shift, shift + POINTS), axis) for shift in range(_PER_PIXEL)]
        total = np.add.reduce(shifted, dtype=np.uint16)
    return ((total + np.uint16(8)) >> np.uint16(4)).astype(np.uint8)


def _mirrored(half: Polygon) -> Polygon:
    """Close a left half, listed from top to bottom, by its mirror image."""
    return half + [(2 * _MIDDLE - x, y) for x, y in reversed(half)]


def _both(grey: int, left: Polygon) -> list[Part]:
    return [(grey, left), (grey, [(2 * _MIDDLE - x, y) for x, y in left])]


def _box(left: int, top: int, right: int, bottom: int) -> Polygon:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


# --- Tops: T-shirt, pullover, coat and shirt share one cut and differ in tendencies, as in the real set ---


def _top(between: Between, *, shoulder: int, chest: int, hem: int, bottom: int, sleeve: int, neck: int) -> list[Part]:
    """Sleeves, body, neckline. `shoulder`, `chest`, `hem` are half widths, `bottom` and `sleeve` heights."""
    top = between(14, 18)
    middle = _MIDDLE
    grey = between(190, 225)
    reach = shoulder + between(5, 11) + (sleeve - top) // 9
    cuff = between(8, 11)
    short = sleeve < 62
    arm = [
        (middle - shoulder + 2, top + 3),
        (middle - shoulder - 4, top + 8),
        (middle - reach - (6 if short else 0), sleeve - 3),
        (middle - reach + cuff, sleeve),
        (middle - chest + 1, top + between(27, 32)),
    ]
    body = _mirrored(
        [
            (middle - neck, top),
            (middle - shoulder, top + 4),
            (middle - chest, top + 28),
            (middle - (chest + hem) // 2 + between(0, 2), (top + bottom) // 2 + 8),
            (middle - hem, bottom),
        ]
    )
    crease = [
        (middle - chest, top + 26),
        (middle - chest + 2, top + 26),
        (middle - hem + 3, bottom),
        (middle - hem, bottom),
    ]
    opening = _mirrored([(middle - neck + 1, top - 1), (middle - neck // 2, top + between(2, 5))])
    sleeves = _both(grey - between(5, 30), arm)
    return [*sleeves, (grey, body), *_both(grey - 70, crease), (0, opening)]


def _front(between: Between, bottom: int, width: int, grey: int) -> list[Part]:
    """A line down the front, straight or with buttons."""
    left = _MIDDLE + between(-3, 2)
    if between(0, 1):
        return [(grey, _box(left, 22, left + width, bottom))]
    return [(grey, _box(left, y, left + width + 1, y + 4)) for y in range(26, bottom - 4, between(10, 14))]


def _collar(between: Between, grey: int) -> list[Part]:
    depth, width = between(8, 16), between(8, 12)
    return _both(grey, [(_MIDDLE - width, 14), (_MIDDLE - 2, 18), (_MIDDLE - 2, 18 + depth), (_MIDDLE - width - 2, 22)])


def _t_shirt(between: Between) -> list[Part]:
    chest = between(20, 26)
    parts = _top(
        between,
        shoulder=between(22, 27),
        chest=chest,
        hem=chest + between(-2, 2),
        bottom=between(92, 110),
        sleeve=between(36, 56),
        neck=between(9, 14),
    )
    if between(0, 3) == 0:
        parts.append((110, _box(_MIDDLE - between(6, 12), between(40, 48), _MIDDLE + between(6, 12), between(56, 70))))
    return parts


def _pullover(between: Between) -> list[Part]:
    chest, bottom = between(20, 26), between(94, 110)
    parts = _top(
        between,
        shoulder=between(20, 26),
        chest=chest,
        hem=chest + between(-3, 2),
        bottom=bottom,
        sleeve=between(84, 108),
        neck=between(7, 12),
    )
    if between(0, 1):
        parts.append((150, _box(_MIDDLE - chest + 1, bottom - 6, _MIDDLE + chest - 1, bottom - 3)))
    if between(0, 4) == 0:
        parts += _collar(between, 160)
    if between(0, 7) == 0:  # a cardigan
        parts += _front(between, bottom, between(1, 2), 130)
    return parts


def _coat(between: Between) -> list[Part]:
    chest, bottom = between(20, 26), between(100, 116)
    parts = _top(
        between,
        shoulder=between(20, 26),
        chest=chest,
        hem=chest + between(-1, 5),
        bottom=bottom,
        sleeve=between(86, 110),
        neck=between(6, 11),
    )
    if between(0, 9):
        parts += _front(between, bottom, between(2, 3), between(60, 140))
    if between(0, 9) < 6:
        parts += _collar(between, between(130, 170))
    if between(0, 9) < 3:
        parts.append((120, _box(_MIDDLE - chest, 64, _MIDDLE + chest, 68)))
    return parts


def _shirt(between: Between) -> list[Part]:
    chest, bottom = between(19, 26), between(94, 112)
    short = between(0, 9) < 3
    parts = _top(
        between,
        shoulder=between(20, 27),
        chest=chest,
        hem=chest + between(-3, 3),
        bottom=bottom,
        sleeve=between(40, 60) if short else between(82, 108),
        neck=between(7, 13),
    )
    if between(0, 9) < 6:
        parts += _collar(between, between(130, 170))
    if between(0, 9) < 6:
        parts += _front(between, bottom, between(1, 2), between(90, 160))
    return parts


# --- Other clothes ---


def _trouser(between: Between) -> list[Part]:
    waist, hip, foot = between(13, 17), between(16, 21), between(7, 11)
    top, bottom, spread = between(10, 14), between(110, 118), between(2, 7)
    legs = _mirrored(
        [
            (_MIDDLE - waist, top),
            (_MIDDLE - hip, top + 28),
            (_MIDDLE - spread - 2 * foot + 2, bottom),
            (_MIDDLE - spread, bottom),
            (_MIDDLE - 1, top + between(32, 40)),
        ]
    )
    grey = between(190, 225)
    return [(grey, legs), (grey - 50, _box(_MIDDLE - waist, top, _MIDDLE + waist, top + between(4, 6)))]


def _dress(between: Between) -> list[Part]:
    shoulder, waist, hem = between(11, 17), between(10, 17), between(15, 30)
    top, bottom, middle = between(9, 13), between(108, 118), between(44, 60)
    grey = between(190, 225)
    body = _mirrored(
        [
            (_MIDDLE - 8, top),
            (_MIDDLE - shoulder, top + 3),
            (_MIDDLE - shoulder - 1, top + 22),
            (_MIDDLE - waist, middle),
            (_MIDDLE - hem, bottom),
        ]
    )
    sleeve_end = (0, 0, 34, 48, 84)[between(0, 4)]
    reach = shoulder + 5 + sleeve_end // 9
    arm = [
        (_MIDDLE - shoulder, top + 3),
        (_MIDDLE - reach, sleeve_end),
        (_MIDDLE - reach + 7, sleeve_end + 2),
    ]
    arm.append((_MIDDLE - shoulder, top + 22))
    parts = _both(grey - 15, arm) if sleeve_end else []
    parts += [(grey, body), (0, _mirrored([(_MIDDLE - 6, top - 1), (_MIDDLE - 3, top + between(4, 14))]))]
    if between(0, 1):
        parts.append((grey - 80, _box(_MIDDLE - waist, middle - 2, _MIDDLE + waist, middle + 2)))
    return parts


def _bag(between: Between) -> list[Part]:
    half, top, bottom = between(28, 46), between(42, 60), between(92, 108)
    lean, grip, rise = between(-4, 6), between(12, 24), between(14, 30)
    grey = between(180, 225)
    outer = _mirrored(
        [(_MIDDLE - grip + 4, top - rise), (_MIDDLE - grip, top - rise + 6), (_MIDDLE - grip - 3, top + 2)]
    )
    inner = _mirrored(
        [
            (_MIDDLE - grip + 8, top - rise + 5),
            (_MIDDLE - grip + 5, top - rise + 8),
            (_MIDDLE - grip + 2, top + 2),
        ]
    )
    body = _mirrored([(_MIDDLE - half + lean, top), (_MIDDLE - half - max(lean, 0) // 2, bottom)])
    parts = [] if between(0, 5) == 0 else [(grey - 40, outer), (0, inner)]
    parts.append((grey, body))
    flap = top + between(8, 26)
    if between(0, 2):
        parts += [(grey - 70, _box(_MIDDLE - half + 3, flap, _MIDDLE + half - 3, flap + 2))]
    if between(0, 1):
        parts += [(80, _box(_MIDDLE - 4, flap - 3, _MIDDLE + 4, flap + 5))]
    return parts


# --- Shoes: all point to the left, as in the real set ---


def _sole(between: Between, toe: int, heel: int, ground: int, thickness: int, grey: int) -> Part:
    lift = between(0, 3)
    return grey, [
        (toe, ground - thickness - lift),
        (heel, ground - thickness),
        (heel, ground),
        (toe + 6, ground),
    ]


def _sneaker(between: Between) -> list[Part]:
    toe, heel, ground = between(9, 14), between(112, 118), between(82, 92)
    height, collar, thickness = between(26, 44), between(52, 66), between(5, 9)
    grey = between(175, 225)
    upper = [
        (toe + 1, ground - thickness),
        (toe + 3, ground - thickness - between(6, 10)),
        (toe + 22, ground - thickness - between(13, 18)),
        (collar, ground - height),
        (collar + 8, ground - height + 3),
        (heel - 12, ground - height + between(0, 8)),
        (heel - 2, ground - height - between(-4, 4)),
        (heel, ground - thickness),
    ]
    parts: list[Part] = [(grey, upper), _sole(between, toe, heel, ground, thickness, between(90, 250))]
    for lace in range(between(0, 4)):
        x = collar - 6 * lace
        parts.append(
            (
                110,
                [
                    (x - 8, ground - 26 - lace),
                    (x - 6, ground - 27),
                    (x + 2, ground - height + 8),
                    (x, ground - height + 7),
                ],
            )
        )
    if between(0, 1):
        parts.append((110, _slanted(between(62, 84), ground - height + 12, ground - thickness - 2)))
    return parts


def _slanted(x: int, top: int, bottom: int) -> Polygon:
    return [(x, top), (x + 5, top), (x - 4, bottom), (x - 9, bottom)]


def _sandal(between: Between) -> list[Part]:
    toe, heel, ground = between(9, 14), between(110, 118), between(84, 98)
    thickness, high = between(4, 8), between(0, 2)
    rise = between(14, 34) if high == 2 else between(0, 8)
    grey = between(170, 240)
    slope = [(toe, ground - thickness), (toe + 40, ground - thickness), (heel, ground - thickness - rise)]
    parts: list[Part] = [(grey, [*slope, (heel, ground - rise), (toe + 44, ground), (toe + 6, ground)])]
    if rise > 8:
        parts.append((grey, _box(heel - 8, ground - rise - 2, heel, ground)))
    for _ in range(between(2, 4)):
        x, lean, width = between(18, 58), between(10, 34), between(6, 11)
        top = ground - thickness - between(14, 30) - rise * x // 120
        parts.append((grey - 20, [(x, ground - 2), (x + width, ground - 2), (x + width + lean, top), (x + lean, top)]))
    ankle = ground - thickness - rise - between(18, 34)
    if between(0, 3):
        parts.append(
            (
                grey - 20,
                [(heel - 5, ankle), (heel, ankle), (heel, ground - rise - 2), (heel - 6, ground - rise - 2)],
            )
        )
        parts.append((grey - 20, [(between(56, 70), ankle + 4), (heel, ankle), (heel, ankle + 5), (62, ankle + 10)]))
    return parts


def _ankle_boot(between: Between) -> list[Part]:
    toe, heel, ground = between(10, 18), between(106, 116), between(100, 110)
    shaft, top, thickness = between(58, 72), between(22, 58), between(4, 8)
    raised = between(0, 2) == 0
    grey = between(175, 225)
    boot = [
        (toe, ground - thickness),
        (toe + 2, ground - thickness - between(8, 13)),
        (toe + 24, ground - thickness - between(16, 24)),
        (shaft, max(top + 14, ground - 50)),
        (shaft - between(0, 3), top),
        (heel - between(0, 4), top + between(-3, 3)),
        (heel - between(0, 6), (top + ground) // 2 + 6),
        (heel, ground - thickness),
    ]
    parts: list[Part] = [(grey, boot), _sole(between, toe, heel, ground, thickness, between(90, 200))]
    if raised:
        parts.append((0, _box(between(62, 72), ground - thickness + 1, heel - 16, ground + 1)))
    if between(0, 1):
        parts.append((grey - 70, _slanted(between(80, 96), top + 4, ground - 24)))
    if between(0, 2) == 0:
        parts.append((grey - 60, _box(shaft, top + 4, heel, top + 9)))
    return parts
