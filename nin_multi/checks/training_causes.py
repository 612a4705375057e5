"""What would explain a loss, gradients or steps that are not as expected; layers are `layer_causes`'s."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nin_multi.backend import Labels, Masks
from nin_multi.checks.explanations import MATCH, Hypothesis, choose, just
from nin_multi.checks.problem import Problem
from nin_multi.checks.truth import MOMENTUM, MOMENTUM_RATES, STEP_RATE
from nin_multi.knobs import micro_batch_knob, micro_batches
from nin_multi.oracle import Array, NumpyNetwork, cross_entropy

MATCH_MOVE = 1e-2  # a step is a small difference of rounded parameters
NEARLY_NOTHING = 1e-3  # of the largest tensor; in a smaller one float32 leaves little but rounding
MATCH_LOSS = 1e-5  # a single number fits by chance where a tensor would not

Named = Mapping[str, NDArray[Any]]


def of_mode(after: NDArray[Any], again: NDArray[Any]) -> tuple[str, ...]:
    """Why logits differ after a training pass; `again` are those of the next evaluation."""
    if after.shape == again.shape and not np.allclose(after, again, rtol=MATCH):
        return ("after a training pass the net is not set back to evaluation: a mode switch is missing",)
    return ()


def of_loss(problem: Problem, observed: float, expected: float, again: float | None = None) -> Iterator[str]:
    """What would give this loss instead; both may be means or both sums. `again`: the loss of a second pass."""
    if again is not None and not np.isclose(again, observed, rtol=MATCH):
        yield "two passes over one batch differ: dropout draws masks of its own in place of those given"
        return
    network, count = NumpyNetwork(problem.architecture, problem.params), len(problem.y)
    truth, _, logits = network.differentiate(problem.x, problem.y, problem.masks)
    unit = expected / truth if truth else 1.0
    losses = [
        ("the loss is summed over the batch, not averaged", truth * count),
        ("the loss is averaged twice", truth / count),
        *((cause, network.differentiate(problem.x, problem.y, masks)[0]) for cause, masks in _other_masks(problem)),
        *_other_losses(logits, problem.y, truth),
        *((cause, loss) for cause, loss, _ in _of_pieces(problem)),
    ]
    hypotheses = [(cause, just(np.array([unit * loss]))) for cause, loss in losses]
    yield from choose(np.array([observed]), np.array([expected]), hypotheses, MATCH_LOSS)


def _other_losses(logits: Array, y: Labels, truth: float) -> Iterator[tuple[str, float]]:
    shares = np.exp(logits - logits.max(1, keepdims=True))
    twice = cross_entropy(shares / shares.sum(1, keepdims=True), y)[0]
    yield "a softmax comes before the cross-entropy, which has one of its own", twice
    even = [cross_entropy(logits, np.full_like(y, label))[0] for label in range(logits.shape[1])]
    yield "labels are smoothed by 0.1", 0.9 * truth + 0.1 * float(np.mean(even))


def _other_masks(problem: Problem) -> Iterator[tuple[str, Masks]]:
    rates = {name: rate for name, (rate, _) in problem.architecture.dropouts().items() if rate}
    if not rates:
        return
    yield "dropout does nothing in training: its mask is not used, or a mode switch is missing", {}
    dropped = {name: np.float32(1.0) * (problem.masks[name] == 0) for name in rates}
    yield "dropout keeps what it should drop", {name: dropped[name] / np.float32(rate) for name, rate in rates.items()}
    scaled = {name: dropped[name] / np.float32(1 - rate) for name, rate in rates.items()}
    yield "dropout keeps what it should drop, scaled by 1 / (1 - rate)", scaled
    unscaled = {name: np.float32(1.0) * (problem.masks[name] > 0) for name in rates}
    yield "what dropout keeps is not divided by 1 - rate", unscaled


def _of_pieces(problem: Problem) -> Iterator[tuple[str, float, Named]]:
    """Loss and gradients of a batch whose pieces are not put together as they should be.

    How large the pieces were, nobody tells: each size is tried that a knob offers.
    """
    count = len(problem.y)
    for size in (value for value in micro_batch_knob().values if value.isdecimal() and int(value) < count):
        pieces = micro_batches(count, {"micro_batch": size})
        parts = [_of_piece(problem, piece) for piece in pieces]
        for cause, weights in _other_weights([(piece.stop - piece.start) / count for piece in pieces]):
            loss = sum(weight * part for weight, (part, _) in zip(weights, parts, strict=True))
            gradients = {
                name: np.sum([weight * part[name] for weight, (_, part) in zip(weights, parts, strict=True)], axis=0)
                for name in problem.params
            }
            yield cause, loss, gradients


def _other_weights(shares: list[float]) -> Iterator[tuple[str, list[float]]]:
    """What each piece may count by mistake, in place of its share in the batch."""
    count = len(shares)
    yield "the pieces of the batch are weighed alike, however many images they hold", [1.0 / count] * count
    yield "the pieces of the batch are added up without their shares in the batch", [1.0] * count
    yield "the last piece of the batch is left out", [*shares[:-1], 0.0]
    only_last = [0.0] * (count - 1) + shares[-1:]
    yield "only the last piece of the batch counts, in place of those before it", only_last


def _of_piece(problem: Problem, piece: slice) -> tuple[float, Named]:
    """Mean loss and its gradients."""
    network = NumpyNetwork(problem.architecture, problem.params)
    masks = {name: mask[piece] for name, mask in problem.masks.items()}
    return network.differentiate(problem.x[piece], problem.y[piece], masks)[:2]


def of_moves(check: str, problem: Problem, observed: Named, expected: Named, start: Named | None) -> Iterator[str]:
    """What would explain gradients (or, with `start`, how far parameters moved) that are not as expected."""
    if any(name not in observed or observed[name].shape != value.shape for name, value in expected.items()):
        return
    what = "gradients" if start is None else "the step"
    seen, right = (_joined(named, expected, start) for named in (observed, expected))
    if not np.any(seen):
        yield "no gradient reaches the parameters" if start is None else "the step does not move the parameters"
        return
    sizes = {name: float(np.linalg.norm(_moved(expected, name, start))) for name in expected}
    least = NEARLY_NOTHING * max(sizes.values()) or 1.0
    still = [name for name, size in sizes.items() if size > least and not np.any(_moved(observed, name, start))]
    if still:
        yield f"nothing reaches {still[0]}" + (f" and {len(still) - 1} more" if len(still) > 1 else "")
        return
    # Every tensor counts alike, apart from those that are rounding alone.
    scale = np.concatenate([np.full(expected[name].size, 1.0 / max(size, least)) for name, size in sizes.items()])
    hypotheses = (
        (cause, just(row * scale)) for cause, row in _other_moves(check, what, problem, seen, right, expected, start)
    )
    yield from choose(seen * scale, right * scale, hypotheses, MATCH if start is None else MATCH_MOVE)


def _other_moves(
    check: str, what: str, problem: Problem, seen: Array, right: Array, expected: Named, start: Named | None
) -> Iterator[tuple[str, Array]]:
    factor = float(seen @ right) / (float(right @ right) or 1.0)
    yield _of_factor(factor, len(problem.y), what), factor * right
    explain = {"gradient": _of_gradient, "step": _of_step, "momentum": _of_momentum}[check]
    yield from explain(problem, seen, expected, start)


def _moved(named: Named, name: str, start: Named | None) -> Array:
    value = np.asarray(named[name], np.float64)
    return value if start is None else value - start[name]


def _joined(named: Named, order: Named, start: Named | None) -> Array:
    """All tensors in one row, in the order of `order`."""
    return np.concatenate([_moved(named, name, start).ravel() for name in order] or [np.empty(0)])


def _of_factor(factor: float, count: int, what: str) -> str:
    known = (
        (-1.0, "with the wrong sign"),
        (float(count), "summed over the batch, not averaged"),
        (1.0 / count, "divided by the batch size a second time"),
        (2.0, "added to those before, which are not cleared"),
        (3.0, "added to those before, which are not cleared"),
    )
    for value, cause in known:
        if abs(factor / value - 1) < MATCH_MOVE:
            return f"{what}: {cause}"
    rate = "" if what == "gradients" else f", as with a learning rate of {factor * STEP_RATE:.4g} for {STEP_RATE:g}"
    return f"{what}: multiplied by {factor:.4g}{rate}"


def _of_gradient(problem: Problem, seen: Array, expected: Named, _: Named | None) -> Iterator[tuple[str, Array]]:
    network = NumpyNetwork(problem.architecture, problem.params)
    for cause, masks in _other_masks(problem):
        gradients = network.differentiate(problem.x, problem.y, masks)[1]
        yield cause, _joined(gradients, expected, None)
    for cause, _loss, added_up in _of_pieces(problem):
        yield cause, _joined(added_up, expected, None)


def _of_step(problem: Problem, seen: Array, expected: Named, start: Named | None) -> Iterator[tuple[str, Array]]:
    right, weights = _joined(expected, expected, start), _joined(problem.params, expected, None)
    yield "it is Adam's step: each number moves by the learning rate", STEP_RATE * np.sign(right)
    decay = -float((seen - right) @ weights) / float(weights @ weights) / STEP_RATE
    if abs(decay) > 1e-7:
        yield f"the step has a weight decay of {decay:.4g}", right - STEP_RATE * decay * weights


def _of_momentum(problem: Problem, seen: Array, expected: Named, _: Named | None) -> Iterator[tuple[str, Array]]:
    """Other definitions of the same word. v: velocity, g: gradient, r: learning rate, m: momentum."""
    r1, r2 = MOMENTUM_RATES
    m = MOMENTUM
    begin = _joined(problem.params, expected, None)

    def gradient(moved: Array) -> Array:
        return _joined(_gradients_at(problem, expected, begin + moved), expected, None)

    g1 = gradient(0.0 * begin)
    first = -r1 * g1
    g2 = gradient(first)
    eased = -r1 * (1 - m) * g1
    ahead = -r1 * (1 + m) * g1
    g2_eased, g2_ahead = gradient(eased), gradient(ahead)
    yield "momentum is not applied, or the velocity is not kept", first - r2 * g2
    yield "the velocity has the learning rate inside: v <- m v - r g, p <- p + v", first + m * first - r2 * g2
    yield "the learning rate of the first step is kept in the next", first + m * first - r1 * g2
    kept = -STEP_RATE * g1  # of the step that was taken before these two
    yield "the learning rate of the first step is kept for ever", kept - STEP_RATE * (m * g1 + gradient(kept))
    yield "the gradient is damped by 1 - m after the first step", first - r2 * (m * g1 + (1 - m) * g2)
    yield "the velocity is a mean: v <- m v + (1 - m) g", eased - r2 * (1 - m) * (m * g1 + g2_eased)
    yield "it is Nesterov's momentum", ahead - r2 * (g2_ahead + m * (m * g1 + g2_ahead))


def _gradients_at(problem: Problem, order: Named, row: Array) -> Mapping[str, Array]:
    """The oracle's gradients for parameters in one row."""
    named: dict[str, Any] = {}
    begin = 0
    for name, value in order.items():
        named[name] = row[begin : begin + value.size].reshape(value.shape)
        begin += value.size
    network = NumpyNetwork(problem.architecture, {})
    network.restore(named, {})
    return network.differentiate(problem.x, problem.y, problem.masks)[1]


def of_curve(problem: Problem, rate: float, step: int, observed: float) -> list[str]:
    """What would give this loss in step `step` (from 0) of training at this rate, if all was right before."""

    def loss(rate: float = rate, *, stale: bool = False) -> Array:
        network = NumpyNetwork(problem.architecture, problem.params)
        for i in range(step):
            network.train_step(problem.x, problem.y, problem.masks_of(0 if stale else i), rate)
        return np.array([network.differentiate(problem.x, problem.y, problem.masks_of(0 if stale else step))[0]])

    hypotheses: list[Hypothesis] = [
        ("the masks of the first step are used in every step", lambda: loss(stale=True)),
        ("the parameters do not move", lambda: loss(0.0)),
        ("the learning rate of an earlier step is kept", lambda: loss(STEP_RATE)),
    ]
    return choose(np.array([observed]), loss(), hypotheses, MATCH_LOSS)
