"""The classes that the NumPy program is put together from, as text; which of them a net needs is decided elsewhere.

Each does in the same order what the oracle does, so that the numbers are the same to the last bit.
"""

from __future__ import annotations

from nin_multi.export.numpy_units import UNITS

PLAIN = {
    "pair": '''
def pair(size):
    """Height and width, which may be given as one number."""
    return (size, size) if isinstance(size, int) else size
''',
    "windows_of": '''
def windows_of(x, kernel_size, stride, writeable=False):
    """The windows (..., rows, columns, kh, kw) of images (..., H, W): a view."""
    view = np.lib.stride_tricks.sliding_window_view
    windows = view(x, kernel_size, axis=(-2, -1), writeable=writeable)
    return windows[..., :: stride[0], :: stride[1], :, :]
''',
    "Conv2d": '''
class Conv2d(Layer):
    """Each window of the image times each filter: a product of two matrices."""

    def __init__(self, before, after, kernel_size, stride=1, padding=0, bias=True):
        super().__init__()
        self.window = pair(kernel_size), pair(stride)
        self.padding = pair(padding)
        self.parameters["weight"] = np.zeros((after, before, *pair(kernel_size)))
        if bias:
            self.parameters["bias"] = np.zeros(after)

    def columns(self, image):  # (C, H, W) -> (C * kh * kw, rows * columns)
        windows = windows_of(image, *self.window).transpose(0, 3, 4, 1, 2)
        return windows.reshape(np.prod(windows.shape[:3]), -1)

    def forward(self, x):
        weight, (ph, pw) = self.parameters["weight"], self.padding
        matrix = weight.reshape(len(weight), -1)
        self.x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
        rows, columns = windows_of(self.x, *self.window).shape[2:4]
        y = np.empty((len(x), len(weight), rows * columns))
        for i in range(len(x)):  # the windows of all images would fill the memory
            np.matmul(matrix, self.columns(self.x[i]), out=y[i])
        y = y.reshape(len(x), len(weight), rows, columns)
        bias = self.parameters.get("bias")
        return y if bias is None else y + bias[:, None, None]

    def backward(self, g):
        n, after, rows, columns = g.shape
        weight, (ph, pw) = self.parameters["weight"], self.padding
        matrix, g = weight.reshape(after, -1), g.reshape(n, after, rows * columns)
        by_matrix, by_x = np.zeros_like(matrix), np.zeros_like(self.x)
        for i in range(n):
            by_matrix += g[i] @ self.columns(self.x[i]).T
            parts = (matrix.T @ g[i]).reshape(*weight.shape[1:], rows, columns)
            windows = windows_of(by_x[i], *self.window, writeable=True)
            for a, b in np.ndindex(*weight.shape[2:]):
                windows[..., a, b] += parts[:, a, b]
        self.gradients["weight"] = by_matrix.reshape(weight.shape)
        self.gradients["bias"] = g.sum((0, 2))
        return by_x[:, :, ph : by_x.shape[2] - ph, pw : by_x.shape[3] - pw]
''',
    "ReLU": '''
class ReLU(Layer):
    """The larger of x and 0."""

    def forward(self, x):
        self.passes = x > 0
        return np.maximum(x, 0)

    def backward(self, g):
        return g * self.passes
''',
    "Pool2d": '''
class Pool2d(Layer):
    """What both kinds share. They may read rows and columns beyond it: `overhang`."""

    def __init__(self, kernel_size, stride, padding=0, overhang=(0, 0)):
        super().__init__()
        self.window = pair(kernel_size), pair(stride)
        self.padding, self.overhang = pair(padding), overhang

    def windows(self, x, fill):  # (N, C, H, W) -> (N, C, rows, columns, kh, kw)
        (ph, pw), (down, right) = self.padding, self.overhang
        around = (0, 0), (0, 0), (ph, ph + down), (pw, pw + right)
        padded = np.pad(x, around, constant_values=fill)
        self.shape, self.padded = x.shape, padded.shape
        return windows_of(padded, *self.window)

    def backward(self, g):
        by_x, (ph, pw), (h, w) = np.zeros(self.padded), self.padding, self.shape[2:]
        windows = windows_of(by_x, *self.window, writeable=True)
        for a, b in np.ndindex(*self.window[0]):
            windows[..., a, b] += self.part(g, a, b)
        return by_x[:, :, ph : ph + h, pw : pw + w]
''',
    "MaxPool2d": '''
class MaxPool2d(Pool2d):
    """The largest of each window; of equal ones, the first."""

    def forward(self, x):
        windows = self.windows(x, -np.inf)
        flat = windows.reshape(*windows.shape[:4], -1)
        self.winner = flat.argmax(-1)
        return np.take_along_axis(flat, self.winner[..., None], -1)[..., 0]

    def part(self, g, a, b):  # what the place (a, b) of each window gets of it
        return g * (self.winner == a * self.window[0][1] + b)
''',
    "AvgPool2d": '''
class AvgPool2d(Pool2d):
    """The mean of each window; padding counts, what lies beyond it does not."""

    def forward(self, x):
        (ph, pw), (down, right) = self.padding, self.overhang
        ones = np.ones((x.shape[2] + 2 * ph, x.shape[3] + 2 * pw))
        ones = np.pad(ones, ((0, down), (0, right)))
        self.counts = windows_of(ones, *self.window).sum((2, 3))
        return self.windows(x, 0).sum((4, 5)) / self.counts

    def part(self, g, a, b):
        return g / self.counts
''',
    "Dropout": '''
class Dropout(Layer):
    """In training, drops a share p of the values and divides the others by 1 - p."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, x):
        self.mask = 1.0
        if self.training:
            self.mask = (np.random.random(x.shape) >= self.p) / (1 - self.p)
        return x * self.mask

    def backward(self, g):
        return g * self.mask
''',
    "GlobalAvgPool2d": '''
class GlobalAvgPool2d(Layer):
    """The mean over height and width."""

    def forward(self, x):
        self.shape = x.shape
        return x.mean((2, 3), keepdims=True)

    def backward(self, g):
        return np.broadcast_to(g / np.prod(self.shape[2:]), self.shape)
''',
    "Flatten": '''
class Flatten(Layer):
    """All values of an image in a row."""

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, g):
        return g.reshape(self.shape)
''',
    "Linear": '''
class Linear(Layer):
    """All inputs times the weights."""

    def __init__(self, before, after, bias=True):
        super().__init__()
        self.parameters["weight"] = np.zeros((after, before))
        if bias:
            self.parameters["bias"] = np.zeros(after)

    def forward(self, x):
        self.x = x
        y, bias = x @ self.parameters["weight"].T, self.parameters.get("bias")
        return y if bias is None else y + bias

    def backward(self, g):
        self.gradients["weight"] = g.T @ self.x
        self.gradients["bias"] = g.sum(0)
        return g @ self.parameters["weight"]
''',
}

DEFINITIONS = {**PLAIN, **UNITS}
