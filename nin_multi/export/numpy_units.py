"""The NumPy program's classes for what came after NiN's plain layers, as text: maxout, normalisation, SE and SK."""

from __future__ import annotations

UNITS = {
    "Maxout": '''
class Maxout(Layer):
    """The largest of each few channels in a row; of equal ones, the first."""

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

    def with_neighbours(self, x):
        """For each channel, the sum over it and those beside it, half the size away."""
        total = x.copy()
        for i in range(1, self.size // 2 + 1):
            total[:, i:] += x[:, :-i]
            total[:, :-i] += x[:, i:]
        return total

    def forward(self, x):
        self.x, self.base = x, self.k + self.alpha * self.with_neighbours(x**2)
        self.power = self.base**-self.beta
        return x * self.power

    def backward(self, g):
        shared = self.with_neighbours(g * self.x * self.power / self.base)
        return g * self.power - 2 * self.alpha * self.beta * self.x * shared
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
        self.gates = (1 + np.tanh(scores / 2)) / 2  # the sigmoid
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
        self.z = self.children["reduce"].forward(self.u.sum(0).mean((2, 3)))
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
