"""Mistakes that people make with nets, and what `verify` has to say of each; not how one is planted.

How is said three times, by the same names: `mutations_torch.py`, `mutations_mindspore.py`, `mutations_mxnet.py`; once,
in `mutations_alike.py`, where the adapters are alike. `mutations_products.py` is MindSpore's product form alone;
mistakes in maxout, normalization and units stand in `mutations_units.py` and its siblings.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nin_multi.architecture_file import parse_architecture

FRAMEWORKS = ("torch", "mindspore", "mxnet")
SURVIVED, MISSING = "SURVIVED", "MISSING"
Row = dict[str, str]  # mutation, check, where, cause; as pytest's cache keeps it

# What makes each mistake visible: rectangles and padding (conv1), a square kernel with as many channels in as out
# (block1.conv) and two equal layers after it, pools whose rounding matters both ways (pool1, pool2) with padding in a
# mean, a block with a last ReLU and one without, an image to flatten although a global pool came before (conv2's
# padding), dropout at 0.2, and a linear layer as wide as its input (linear2). Nothing is square by accident.
MISTAKABLE = parse_architecture("""
name: mistakable
input: [3, 12, 10]
layers:
  - {type: conv2d, out_channels: 4, kernel_size: [3, 2], stride: [1, 2], padding: [2, 1]}
  - {type: relu}
  - {type: max_pool2d, kernel_size: [3, 2], stride: [2, 1], padding: 1}
  - {type: dropout, rate: 0.2}
  - {type: nin_block, out_channels: 4, kernel_size: 3, padding: 1}
  - {type: avg_pool2d, kernel_size: [4, 3], stride: 2, padding: 1, ceil_mode: true}
  - {type: nin_block, out_channels: 3, kernel_size: [1, 2], mlp_channels: [5], final_relu: false}
  - {type: global_avg_pool2d}
  - {type: conv2d, out_channels: 3, kernel_size: [2, 3], padding: 2, bias: false}
  - {type: flatten}
  - {type: linear, out_features: 8}
  - {type: relu}
  - {type: dropout, rate: 0.5}
  - {type: linear, out_features: 8, bias: false}
""")
# For a batch in pieces: what a piece has of its own are its images, labels and masks.
PIECEWISE = parse_architecture("""
name: piecewise
input: [1, 6, 5]
layers:
  - {type: conv2d, out_channels: 3, kernel_size: 3}
  - {type: relu}
  - {type: dropout, rate: 0.5}
  - {type: flatten}
  - {type: linear, out_features: 4, bias: false}
""")
# For a pool whose windows hold equal values, after no ReLU: of a zero it would let no gradient pass. Windows that
# overlap without padding, in a convolution that is not the first.
LEVEL = parse_architecture("""
name: level
input: [2, 11, 9]
layers:
  - {type: conv2d, out_channels: 3, kernel_size: 2}
  - {type: max_pool2d, kernel_size: [3, 2], stride: 2}
  - {type: conv2d, out_channels: 3, kernel_size: 2}
  - {type: flatten}
  - {type: linear, out_features: 4, bias: false}
""")
# A norm whose size and exponent are no defaults; branches as wide as each other, so that they could change places and a
# padding left out still gives an image; as many pieces as channels that lie far apart would make.
UNITS = parse_architecture("""
name: units
input: [4, 9, 7]
layers:
  - {type: local_response_norm, size: 3, alpha: 0.5, beta: 0.6}
  - {type: se_block, reduction: 2}
  - {type: sk_block, out_channels: 6, kernel_sizes: [3, 3], stride: [2, 1], reduction: 2, min_channels: 2}
  - {type: maxout, pieces: 3}
  - {type: flatten}
  - {type: linear, out_features: 5}
""")


@dataclass(frozen=True)
class Mutation:
    """One mistake: where `verify` has to find it first, and a part of the first cause that it has to name.

    Attributes:
        cause: empty where no cause is known to `verify`.
        case: the name of the architecture that shows it.
        impossible_in: frameworks that cannot express it; the comment beside it says why.
    """

    name: str
    check: str
    where: str
    cause: str = ""
    case: str = "mistakable"
    impossible_in: tuple[str, ...] = ()


MUTATIONS = (
    # Parameters.
    Mutation("convolution made without bias", "parameters", "conv1.bias", "made without its bias"),
    Mutation("linear made without bias", "parameters", "linear1.bias", "made without its bias"),
    Mutation("linear's bias left at its default", "parameters", "linear2.bias", "made with a bias"),
    Mutation("biases never loaded", "parameters", "conv1.bias", "never put into the net"),
    Mutation("weights never loaded", "parameters", "conv1.weight", "never put into the net"),
    Mutation("weights loaded as (in, out)", "parameters", "block1.conv.weight", "its axes are swapped"),
    Mutation("equal layers exchanged when loaded", "parameters", "block1.mlp1.weight", "belongs to block1.mlp2.weight"),
    # Convolutions and linear layers.
    Mutation("equal layers exchanged", "activation", "block1.mlp1", "works with the parameters of block1.mlp2"),
    Mutation("bias not added", "activation", "conv1", "its bias is left out"),
    Mutation("padding 'same'", "activation", "conv1", "its padding is 'same'"),
    Mutation("padding left out", "activation", "conv1", "its padding is left out"),
    Mutation("stride left at its default", "activation", "conv1", "its stride is left at 1"),
    Mutation("stride and padding swapped", "activation", "conv1", "its stride and padding are swapped"),
    Mutation("height and width swapped in the kernel", "activation", "conv1", "its kernel's axes are swapped"),
    Mutation("height and width swapped in the image", "activation", "conv1", "the image's axes are swapped"),
    Mutation("colours in the opposite order", "activation", "conv1", "channels come in the opposite order"),
    Mutation("pixels divided by 255 again", "activation", "conv1", "its input is multiplied by 0.003922"),
    Mutation("kernel turned around", "activation", "conv1", "a true convolution"),
    Mutation("factors rounded to half precision", "activation", "conv1", "rounded to 11 bits, as TF32"),
    Mutation("convolution with (in, out)", "activation", "block1.conv", "its weight's axes are swapped: (in, out, kh"),
    Mutation("linear with (in, out)", "activation", "linear2", "its weight's axes are swapped: (in, out)"),
    # Pools and flatten.
    Mutation("pool's stride left at its default", "activation", "pool1", "its stride is left at"),
    Mutation("pool's padding left out", "activation", "pool1", "its padding is left out"),
    Mutation("pool's axes swapped", "activation", "pool1", "its axes are swapped: width before height"),
    Mutation("pool rounds up for down", "activation", "pool1", "rounded up (ceil)"),
    Mutation("pool rounds down for up", "activation", "pool2", "rounded down (floor)"),
    Mutation("padding left out of the mean", "activation", "pool2", "its padding does not count in the mean"),
    Mutation("more than padding in the mean", "activation", "pool2", "reads past the padding counts in the mean"),
    Mutation("mean for maximum", "activation", "pool1", "it takes the mean"),
    Mutation("maximum for mean", "activation", "pool2", "it takes the largest value"),
    Mutation("global pool not made", "activation", "global_avg_pool1", "the layer is left out"),
    Mutation("global pool takes the maximum", "activation", "global_avg_pool1", "the global pool takes the largest"),
    Mutation("global pool takes the sum", "activation", "global_avg_pool1", "the global pool takes the sum"),
    Mutation("width before height in flatten", "activation", "flatten1", "width before height"),
    Mutation("channels last in flatten", "activation", "flatten1", "channels come last"),
    # Activations.
    Mutation("ReLU left out", "activation", "relu1", "the ReLU is left out"),
    Mutation("ReLU left out at a block's end", "activation", "block1.relu2", "the ReLU is left out"),
    Mutation("ReLU not made at a block's end", "activation", "block1.relu2", "the layer is left out"),
    Mutation("ReLU at the end of each block", "activation", "block2.mlp1", "an activation is part of it"),
    Mutation("ReLU on the logits", "activation", "linear2", "an activation is part of it"),
    Mutation("leaky ReLU", "activation", "relu1", "of negative values through"),
    Mutation("sigmoid for ReLU", "activation", "relu1", "a sigmoid stands in place of the ReLU"),
    # Dropout.
    Mutation("dropout at work in evaluation", "activation", "dropout1", "dropout is at work in evaluation: a mode"),
    Mutation("dropout scales in evaluation", "activation", "dropout1", "values are scaled by 1 - rate in evaluation"),
    Mutation("mask not applied", "loss", "loss", "dropout does nothing in training"),
    Mutation("mask inverted", "loss", "loss", "dropout keeps what it should drop"),
    Mutation("kept values not scaled", "loss", "loss", "not divided by 1 - rate"),
    Mutation("own draws for the masks given", "loss", "loss", "draws masks of its own"),
    Mutation("first masks kept for ever", "curve", "step 2", "the masks of the first step are used in every step"),
    Mutation("not set back to evaluation", "mode", "logits", "the net is not set back to evaluation"),
    # Seen at 0.2; at 0.5 the two are one.
    Mutation("rate taken for the share kept", "dropout", "rate 0.2", "for the share that is kept"),
    Mutation("own dropout idle in training", "dropout", "rate 0.2", "does nothing in training"),
    Mutation("own dropout does not scale", "dropout", "rate 0.2", "not divided by 1 - rate"),
    Mutation("own dropout draws the same again", "dropout", "rate 0.2", "begin anew in each step"),
    # Loss and gradients.
    Mutation("loss summed", "loss", "loss", "the loss is summed over the batch"),
    Mutation("loss averaged twice", "loss", "loss", "the loss is averaged twice"),
    Mutation("labels smoothed", "loss", "loss", "labels are smoothed by 0.1"),
    Mutation("softmax before the loss", "loss", "loss", "a softmax comes before the cross-entropy"),
    Mutation("gradient of the sum", "gradient", "linear2.weight", "gradients: summed over the batch"),
    Mutation("gradients not cleared", "gradient", "linear2.weight", "gradients: added to those before"),
    Mutation("gradients asked for, step taken", "gradient", "conv1.weight", "asking for gradients moves"),
    # A batch in pieces, the last one smaller than the others.
    Mutation("pieces weighed alike", "loss", "loss", "the pieces of the batch are weighed alike", "piecewise"),
    Mutation("pieces summed without their shares", "loss", "loss", "without their shares in the batch", "piecewise"),
    Mutation("last piece left out", "loss", "loss", "the last piece of the batch is left out", "piecewise"),
    Mutation(
        "only the last piece's gradient counts",
        "gradient",
        "linear1.weight",
        "only the last piece of the batch counts",
        "piecewise",
    ),
    # Steps.
    Mutation("step divided by the batch again", "step", "linear2.weight", "divided by the batch size a second time"),
    Mutation("learning rate ignored", "step", "linear2.weight", "as with a learning rate of 0.01 for 0.1"),
    Mutation("Adam for SGD", "step", "linear2.weight", "it is Adam's step"),
    Mutation("gradient ascent", "step", "linear2.weight", "the step: with the wrong sign"),
    Mutation("weight decay left on", "step", "linear2.weight", "the step has a weight decay of 0.01"),
    Mutation("a layer left out of the step", "step", "block1.conv.bias", "nothing reaches block1.conv.weight"),
    Mutation("first learning rate kept for ever", "momentum", "linear2.weight", "rate of the first step is kept"),
    Mutation("momentum not applied", "momentum", "linear2.weight", "momentum is not applied"),
    Mutation("learning rate inside the velocity", "momentum", "linear2.weight", "has the learning rate inside"),
    Mutation("Nesterov's momentum", "momentum", "linear2.weight", "it is Nesterov's momentum"),
    Mutation("momentum with dampening", "momentum", "linear2.weight", "damped by 1 - m after the first step"),
    Mutation("velocity as a mean", "momentum", "linear2.weight", "the velocity is a mean"),
)
# No one else makes these: the product form of layers, with its backward passes, is MindSpore's alone.
_OTHERS = ("torch", "mxnet")
IN_PRODUCTS = (
    Mutation("rows: channels before positions", "activation", "conv1", impossible_in=_OTHERS),
    Mutation("rows: pixel outside is not zero", "activation", "conv1", impossible_in=_OTHERS),
    Mutation("rows: pixels counted by columns", "activation", "conv1", impossible_in=_OTHERS),
    Mutation("rows: overlaps lost", "gradient", "conv1.bias", case="level", impossible_in=_OTHERS),
    Mutation("rows: overlaps lost at the edge", "gradient", "block2.mlp1.bias", impossible_in=_OTHERS),
    Mutation(
        "bias has no gradient", "gradient", "block2.mlp1.bias", "block2.mlp1.bias and 5 more", impossible_in=_OTHERS
    ),
    Mutation(
        "second convolution taken for the first",
        "gradient",
        "conv1.bias",
        "nothing reaches conv1.weight and 1 more",
        impossible_in=_OTHERS,
    ),
    Mutation("1 x 1: weight's gradient as (in, out)", "gradient", "block2.mlp1.weight", impossible_in=_OTHERS),
    Mutation("pool: last tap ignored", "activation", "pool1", impossible_in=_OTHERS),
    Mutation("pool: overlaps lost", "gradient", "conv1.bias", impossible_in=_OTHERS),
    Mutation("pool: each of equal values counts", "gradient", "conv1.bias", case="level", impossible_in=_OTHERS),
    Mutation("channels stay last in flatten", "activation", "flatten1", "channels come last", impossible_in=_OTHERS),
)
IN_UNITS = tuple(
    Mutation(name, check, where, cause, case="units")
    for name, check, where, cause in (
        ("alpha divided by the size", "activation", "lrn1", "its alpha is divided by the size"),
        ("k left at 1", "activation", "lrn1", "its k is left at 1"),
        ("size left at its default", "activation", "lrn1", "its size is left at 5"),
        ("size taken for a radius", "activation", "lrn1", "its size is taken for a radius"),
        ("normalization left out", "activation", "lrn1", "it is left out"),
        ("linear maps made without bias", "parameters", "se1.reduce.bias", "made without its bias"),
        ("sigmoid left out", "activation", "se1", "its sigmoid is left out"),
        ("ReLU left out in between", "activation", "se1", "its ReLU is left out"),
        ("second bias not added", "activation", "se1", "the bias of expand is left out"),
        ("squeezed by the maximum", "activation", "se1", "it squeezes by the largest value"),
        ("gates without a gradient", "gradient", "se1.expand.bias", "nothing reaches se1.expand.weight and 3 more"),
        ("softmax over the channels", "activation", "sk1", "its softmax goes over the channels"),
        ("branches added without shares", "activation", "sk1", "added up without their shares"),
        ("shares exchanged", "activation", "sk1", "come in the opposite order"),
        ("branches' ReLUs left out", "activation", "sk1", "the ReLUs of its branches are left out"),
        ("branches' padding left out", "activation", "sk1", ""),
        ("branches' stride left at its default", "activation", "sk1", "its stride is left at 1"),
        ("pieces far apart", "activation", "maxout1", "channels compete that lie far apart"),
        ("mean of the pieces", "activation", "maxout1", "it takes the mean of the pieces"),
    )
)


def to_plant(framework: str, mutations: Iterable[Mutation] = MUTATIONS) -> Iterable[Mutation]:
    """Those that a framework can express."""
    return (mutation for mutation in mutations if framework not in mutation.impossible_in)


def lay_out(heading: Sequence[str], rows: Iterable[Sequence[str]], width: int = 100) -> Iterator[str]:
    """Lines of a table; the last column takes what `width` leaves, and as many lines as it needs."""
    table = [tuple(heading), *map(tuple, rows)]
    columns = [max(map(len, column)) for column in zip(*table, strict=True)][:-1]
    for row in table:
        start = "".join(cell.ljust(size + 2) for cell, size in zip(row, columns, strict=False))
        for part in textwrap.wrap(row[-1], max(width - len(start), 20)) or [""]:
            yield (start + part).rstrip()
            start = " " * len(start)


def set_side_by_side(found: Mapping[str, Sequence[Row]]) -> list[tuple[str, ...]]:
    """For each mutation where each framework's rows have it; "-" where a framework cannot express it."""
    places = {framework: {row["mutation"]: row["where"] for row in rows} for framework, rows in found.items()}
    return [
        (mutation.name, *(_place(mutation, framework, places.get(framework, {})) for framework in FRAMEWORKS))
        for mutation in (*MUTATIONS, *IN_PRODUCTS, *IN_UNITS)
    ]


def _place(mutation: Mutation, framework: str, places: Mapping[str, str]) -> str:
    return "-" if framework in mutation.impossible_in else places.get(mutation.name, MISSING)
