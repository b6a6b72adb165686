"""Exact Fisher blocks of small trained networks, layer by layer, and their Kronecker approximations.

Three networks on the digits, trained by Adam in float64: linear layers with a layer normalisation, two
convolutions, and one attention head over the rows of the image. A block is ``E[vec(G) vec(G)^T]`` with the
rows of G stacked, so that ``P kron Q`` here is the papers' ``Q kron P``; expectation over a sample of images
and, for the true Fisher, exactly over the labels of the model. The scale and shift of a normalisation layer
make one 2 x c matrix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from proofs_checks.reproduction.networks import digits, initialised

__all__ = ["Block", "blocks", "divergence", "least_squares", "log_det_optimal", "model_with"]

Array = NDArray[np.float64]

#: Images behind a block, and steps and step size of the training before it.
IMAGES, STEPS, LR = 600, 150, 5e-3

#: Most sweeps of the alternation, and the relative change of Q at which it has settled.
SWEEPS, SETTLED = 500, 2.0**-30


class Attention(nn.Module):
    """One attention head over the eight rows of the image, with a residual connection and a linear head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(8, width), requires_grad=False)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.head = nn.Linear(8 * width, 10, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 8, 8)."""
        x = images.squeeze(1) + self.position
        mixed = scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.head((x + self.out(mixed)).flatten(1))


#: Networks by name, and the layers to measure: layer type, then the parameters that make a matrix.
_NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, tuple[str, ...]]]] = {
    "linear": (
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 16, bias=False),
            nn.LayerNorm(16),
            nn.ReLU(),
            nn.Linear(16, 16, bias=False),
            nn.ReLU(),
            nn.Linear(16, 10, bias=False),
        ),
        {"linear": ("4.weight",), "head": ("6.weight",), "normalisation": ("2.weight", "2.bias")},
    ),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1, stride=2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 10, bias=False),
        ),
        {"convolution": ("2.weight",)},
    ),
    "attention": (
        Attention,
        {
            name: (f"{part}.weight",)
            for name, part in (
                ("query", "query"),
                ("key", "key"),
                ("value", "value"),
                ("attention output", "out"),
            )
        },
    ),
}


@dataclass(frozen=True)
class Block:
    """The Fisher blocks of one weight matrix.

    Attributes
    ----------
    shape : (m, n)
    exact : (m n, m n) float64
        Fisher block, expectation over the model's labels.
    gradients : (N, m, n) float64
        Per-sample gradients with the labels of the data.
    """

    shape: tuple[int, int]
    exact: Array
    gradients: Array

    @property
    def empirical(self) -> Array:
        """Second moment of the per-sample gradients, ``(m n, m n)``."""
        g = self.gradients.reshape(len(self.gradients), -1)
        return g.T @ g / len(g)


@cache
def model_with(network: str) -> nn.Module:
    """A network of `_NETWORKS`, trained."""
    model = initialised(_NETWORKS[network][0], seed=3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Attention):
                module.position.copy_(torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(8, 8).sin())
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=LR)
    images, labels = digits()
    rng = np.random.default_rng(4)
    for _ in range(STEPS):
        chosen = torch.from_numpy(rng.integers(0, len(labels), 64))
        optimizer.zero_grad()
        cross_entropy(model(images[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


@cache
def blocks() -> dict[str, Block]:
    """The blocks of all measured layers by name."""
    found = {}
    for network, (_, layers) in _NETWORKS.items():
        model = model_with(network)
        for name, parameters in layers.items():
            found[name] = _block(model, parameters)
    return found


def _block(model: nn.Module, names: tuple[str, ...]) -> Block:
    images, labels = digits()
    chosen = torch.from_numpy(np.random.default_rng(5).permutation(len(labels))[:IMAGES])
    given = {name: p.detach() for name, p in model.named_parameters()}
    weights = {name: given[name] for name in names}

    def logits(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, {**given, **weights}, (image[None],))[0]

    J = vmap(jacrev(logits), in_dims=(None, 0))(weights, images[chosen])
    stacked = torch.cat([J[name].flatten(2) for name in names], dim=2).numpy()  # (N, 10, d)
    with torch.no_grad():
        p = model(images[chosen]).softmax(dim=1).numpy()
    root = np.sqrt(p)  # diag(p) - p p^T = R^T R with R = diag(root) - root p^T
    factor = root[:, :, None] * stacked - root[:, :, None] * np.einsum("nk,nkd->nd", p, stacked)[:, None]
    flat = factor.reshape(-1, factor.shape[-1])
    error = p - np.eye(10)[labels[chosen].numpy()]
    shape = (len(names), weights[names[0]].numel()) if len(names) > 1 else (weights[names[0]].shape[0], -1)
    gradients = np.einsum("nk,nkd->nd", error, stacked).reshape(IMAGES, *shape)
    return Block(gradients.shape[1:], flat.T @ flat / IMAGES, gradients)


def log_det_optimal(F: Array, shape: tuple[int, int], *, mu: float) -> tuple[Array, Array]:
    """Factors of the fixed point of Theorem 4.1 for a block F: ``P kron Q`` nearest to ``F + mu I``.

    Parameters
    ----------
    F : (m n, m n) float64
        Symmetric positive semidefinite, rows of G stacked. Not modified.
    shape : (m, n)
    mu : float
        Damping, above 0.
    """
    m, n = shape
    T = F.reshape(m, n, m, n)
    P, Q = np.eye(m), np.eye(n)
    for _ in range(SWEEPS):
        Q_inverse = np.linalg.inv(Q)
        P = np.einsum("iajb,ab->ij", T, Q_inverse) / n + mu * np.trace(Q_inverse) / n * np.eye(m)
        P_inverse, old = np.linalg.inv(P), Q
        Q = np.einsum("iajb,ij->ab", T, P_inverse) / m + mu * np.trace(P_inverse) / m * np.eye(n)
        if np.linalg.norm(Q - old) <= SETTLED * np.linalg.norm(Q):
            break
    return P, Q


def least_squares(F: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Factors of the ``P kron Q`` nearest to F in the Frobenius norm (Van Loan and Pitsianis 1993)."""
    m, n = shape
    rearranged = F.reshape(m, n, m, n).transpose(0, 2, 1, 3).reshape(m * m, n * n)
    U, s, Vt = np.linalg.svd(rearranged, full_matrices=False)
    P, Q = np.sqrt(s[0]) * U[:, 0].reshape(m, m), np.sqrt(s[0]) * Vt[0].reshape(n, n)
    sign = np.sign(np.trace(P))
    return sign * P, sign * Q


def divergence(X: Array, Y: Array) -> float:
    """Log-det divergence from X to Y over the dimension; infinite if Y is not positive definite."""
    try:
        lower = np.linalg.cholesky(Y)
    except np.linalg.LinAlgError:
        return np.inf
    whitened = np.linalg.solve(lower, np.linalg.solve(lower, X).T)
    eigenvalues = np.linalg.eigvalsh((whitened + whitened.T) / 2)
    return float(np.mean(eigenvalues - np.log(eigenvalues) - 1))
