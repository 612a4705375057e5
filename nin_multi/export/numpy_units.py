"""The NumPy program's classes for what came after NiN's plain layers, as text: maxout, normalisation, SE and SK."""

from __future__ import annotations

UNITS = {
    "Maxout": '''
class Maxout(Layer):
    """The largest of every few channels that follow one another; of equals, the first."""

    def __init__(self, pieces):
        super().__init__()
        self.pieces = pieces

    def forward(self, x):
        parts = x.reshape(len(x), -1, self.pieces, *x.shape[2:])
        self.winner = parts.argmax(2)[:, :, None]
        return np.take_along_axis(parts, self.winner, 2)[:, :, 0]

    def backward(self, g):
        places = np.arange(self.pieces).reshape(-1, *[1] * (g.ndim - 2))
        parts = g[:, :, None] * (self.winner == places)
        return parts.reshape(len(g), -1, *g.shape[2:])
''',
    "LocalResponseNorm": '''
class LocalResponseNorm(Layer):
    """Divides each value by a power of what its channel and those beside it hold."""

    def __init__(self, size, alpha, beta, k):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def over_channels(self, x):
        """For each channel, the sum over those around it, `size` of them."""
        half = self.size // 2
        padded = np.pad(x, ((0, 0), (half, half), (0, 0), (0, 0)))
        return sum(padded[:, i : i + x.shape[1]] for i in range(self.size))

    def forward(self, x):
        self.x, self.base = x, self.k + self.alpha * self.over_channels(x**2)
        return x / self.base**self.beta

    def backward(self, g):
        shared = self.over_channels(g * self.x * self.base ** (-self.beta - 1))
        return g / self.base**self.beta - 2 * self.alpha * self.beta * self.x * shared
''',
    "SEBlock": '''
class SEBlock(Layer):
    """Squeeze and excitation: each channel times a number that all of them decide."""

    def __init__(self, channels, middle):
        super().__init__(
            {"reduce": Linear(channels, middle), "expand": Linear(middle, channels)}
        )

    def forward(self, x):
        self.x = x
        self.z = self.children["reduce"].forward(x.mean((2, 3)))
        scores = self.children["expand"].forward(np.maximum(self.z, 0))
        self.gates = 1 / (1 + np.exp(-scores))
        return x * self.gates[:, :, None, None]

    def backward(self, g):
        by_scores = (g * self.x).sum((2, 3)) * self.gates * (1 - self.gates)
        by_z = self.children["expand"].backward(by_scores) * (self.z > 0)
        by_means = self.children["reduce"].backward(by_z) / np.prod(g.shape[2:])
        return g * self.gates[:, :, None, None] + by_means[:, :, None, None]
''',
    "SKBlock": '''
class SKBlock(Layer):
    """Selective kernels: convolutions beside each other, weighed channel by channel."""

    def __init__(self, before, after, kernel_sizes, middle, stride=1):
        self.numbers = range(1, len(kernel_sizes) + 1)
        branches = {
            f"branch{i}": Conv2d(before, after, kernel, stride, padding=kernel // 2)
            for i, kernel in zip(self.numbers, kernel_sizes, strict=True)
        }
        selects = {f"select{i}": Linear(middle, after) for i in self.numbers}
        super().__init__({**branches, "reduce": Linear(after, middle), **selects})

    def of_each(self, name):
        return [self.children[f"{name}{i}"] for i in self.numbers]

    def forward(self, x):
        branches = [np.maximum(one.forward(x), 0) for one in self.of_each("branch")]
        self.u = np.stack(branches)  # (branches, N, C, H, W)
        self.z = self.children["reduce"].forward(sum(branches).mean((2, 3)))
        positive = np.maximum(self.z, 0)
        scores = np.stack([one.forward(positive) for one in self.of_each("select")])
        powers = np.exp(scores - scores.max(0))
        self.shares = powers / powers.sum(0)  # (branches, N, C)
        return (self.shares[..., None, None] * self.u).sum(0)

    def backward(self, g):
        by_shares = (g * self.u).sum((3, 4))
        by_scores = self.shares * (by_shares - (self.shares * by_shares).sum(0))
        selects = zip(self.of_each("select"), by_scores, strict=True)
        by_z = sum(one.backward(each) for one, each in selects) * (self.z > 0)
        by_means = self.children["reduce"].backward(by_z) / np.prod(g.shape[2:])
        by_u = self.shares[..., None, None] * g + by_means[:, :, None, None]
        branches = zip(self.of_each("branch"), by_u * (self.u > 0), strict=True)
        return sum(one.backward(each) for one, each in branches)
''',
}
