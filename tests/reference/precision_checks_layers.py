"""Checks of the reference against 50 digits: layer factors, diagonals, curvature methods.

As in `tests.reference.precision_checks`, whose conventions and helpers these are.
"""

import numpy as np

from proofs_checks.ratios import EXPLICIT_BUDGET, Ratio
from reference import adafisher, adahessian
from tests.reference import precise
from tests.reference.cases import U64
from tests.reference.precise import exact
from tests.reference.precision_checks import FEW, Rng, checks, entries

# adafisher and adahessian: means of squares, where only the sums round


@checks("adafisher.linear_factors", "adafisher.embedding_factors")
def layer_factors(rng: Rng) -> list[Ratio]:
    N, n, m = (int(k) for k in rng.integers(1, 6, 3))
    h, s, indices = rng.standard_normal((N, n)), rng.standard_normal((N, m)), rng.integers(0, n, N)
    h_D, s_D = adafisher.linear_factors(h, s)
    shares, s_E = adafisher.embedding_factors(indices, s, num_embeddings=n)
    want_h, want_s = (precise.mean_square(exact(X)) for X in (h, s))
    want_shares = precise.mean_square(exact(np.eye(n)[indices]))
    level = (N + FEW) * U64
    return [
        entries("h_D", h_D[:-1], want_h, level * np.abs(h_D[:-1]), threshold=EXPLICIT_BUDGET),
        Ratio("bias", abs(float(h_D[-1]) - 1.0), U64, EXPLICIT_BUDGET),
        entries("s_D", s_D, want_s, level * np.abs(s_D), threshold=EXPLICIT_BUDGET),
        entries("shares", shares, want_shares, level * np.abs(shares), threshold=EXPLICIT_BUDGET),
        entries("s_D of an embedding", s_E, want_s, level * np.abs(s_E), threshold=EXPLICIT_BUDGET),
    ]


@checks("adafisher.conv2d_factors")
def planar_convolution(rng: Rng) -> list[Ratio]:
    return _convolution(adafisher.conv2d_factors, (2, 1), rng)


@checks("adafisher.convolution_factors")
def convolution(rng: Rng) -> list[Ratio]:
    """In one, two and three dimensions."""
    return [
        ratio
        for kernel in ((3,), (1, 2), (2, 1, 2))
        for ratio in _convolution(adafisher.convolution_factors, kernel, rng)
    ]


def _convolution(factors, kernel: tuple[int, ...], rng: Rng) -> list[Ratio]:
    groups, pads = int(rng.integers(1, 3)), int(rng.integers(0, 2))
    strides, spread_by = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    spatial = (5, 4, 3)[: len(kernel)]
    x = rng.standard_normal((2, 2 * groups, *spatial))
    setting = {"kernel_size": kernel, "stride": strides, "padding": pads, "dilation": spread_by}
    patches = precise.patches(exact(x), **setting, groups=groups)  # per group (samples and sites, entries)
    s = rng.standard_normal((2, groups, *precise.sites(spatial, **setting)))
    h_D, s_D = factors(x, s, **setting, groups=groups, bias=False)
    want_h = np.array([precise.mean_square(group) for group in patches]).reshape(h_D.shape)
    flat = np.moveaxis(s, 1, -1).reshape(-1, groups)
    want_s = precise.mean_square(exact(flat)).reshape(s_D.shape)
    level = (len(flat) + FEW) * U64
    return [
        entries("h_D", h_D, want_h, level * np.abs(h_D), threshold=EXPLICIT_BUDGET),
        entries("s_D", s_D, want_s, level * np.abs(s_D), threshold=EXPLICIT_BUDGET),
    ]


@checks("adafisher.normalization_factors", "adafisher.normalization_block")
def normalization(rng: Rng) -> list[Ratio]:
    N, T, c = (int(k) for k in rng.integers(1, 4, 3))
    h, s = rng.standard_normal((2, N, T, c))
    H, S = exact(h), exact(s)
    level = (N * T + FEW) * U64
    found = []
    for form in ("v3", "submission"):
        got = adafisher.normalization_factors(h, s, form=form)
        flat = H.reshape(-1, c)
        want = precise.mean_square(flat) if form == "v3" else (flat.sum(axis=0) / (N * T)) ** 2
        terms = np.abs(h).mean(axis=(0, 1)) ** 2 if form == "submission" else np.square(h).mean(axis=(0, 1))
        found.append(entries("scale", got.scale, want, 2 * level * terms, threshold=EXPLICIT_BUDGET))
        of_s = precise.mean_square(S.reshape(-1, c))
        found.append(entries("s_D", got.s_D, of_s, level * np.abs(got.s_D), threshold=EXPLICIT_BUDGET))
    for parameter, X in (("scale", H * S), ("shift", S)):
        g = X.sum(axis=1)
        want = sum(np.outer(row, row) for row in g) / N
        a = np.abs(X).sum(axis=1).astype(float)
        terms = np.einsum("ni,nj->ij", a, a) / N
        block = adafisher.normalization_block(h, s, parameter=parameter)
        found.append(entries(parameter, block, want, 2 * level * terms, threshold=EXPLICIT_BUDGET))
    return found


@checks(
    "adafisher.minmax_normalize", "adafisher.average", "adafisher.released_average", "adafisher.denominator"
)
def denominators(rng: Rng) -> list[Ratio]:
    """Min-max subtracts nearly equal entries: u times the entries over the range, as stated for a step."""
    old, new = rng.uniform(0.5, 4.0, (2, int(rng.integers(2, 6))))
    gamma, lam = rng.random(), 10.0 ** rng.uniform(-3, 0)
    X, Y = exact(old), exact(new)
    weight, cancelled = precise.mp.mpf(gamma), FEW * U64 * float(np.max(new) / np.ptp(new))
    mixed = weight * X + (1 - weight) * Y
    tenth = precise.mp.mpf(1) / 10
    ranged = (Y - min(Y)) / (max(Y) - min(Y) + precise.mp.mpf(1) / 10**6)
    released = tenth * weight * X + tenth**2 * weight * ranged
    s = rng.random(3)
    F = np.outer(exact(s), X) + precise.mp.mpf(lam)
    explicit = {"threshold": EXPLICIT_BUDGET}
    got = adafisher.released_average(old, new, gamma=gamma)
    return [
        entries("min-max", adafisher.minmax_normalize(new), precise.minmax(Y), cancelled, **explicit),
        entries(
            "average", adafisher.average(old, new, gamma=gamma), mixed, FEW * U64 * (old + new), **explicit
        ),
        entries("released", got, released, FEW * U64 * gamma * old + gamma * cancelled, **explicit),
        entries("F", adafisher.denominator(old, s, lam=lam), F, FEW * U64 * F.astype(float), **explicit),
    ]


@checks("adahessian.hutchinson_diagonal", "adahessian.spatial_average", "adahessian.exact_diagonal")
def diagonals(rng: Rng) -> list[Ratio]:
    d, N = (int(k) for k in rng.integers(1, 5, 2))
    H, z = rng.standard_normal((d, d)), rng.choice([-1.0, 1.0], (N, d))
    products = exact(z) * (exact(z) @ exact(H).T)
    # The product with H rounds d times, the mean N times.
    terms = (np.abs(z) @ np.abs(H).T).mean(axis=0)
    got = adahessian.hutchinson_diagonal(lambda probes: probes @ H.T, z)
    D = rng.standard_normal((2, 3, 3))
    want = exact(D).reshape(2, 9).sum(axis=1) / 9
    averaged = adahessian.spatial_average(D, averaging="paper")
    explicit = {"threshold": EXPLICIT_BUDGET}
    mean = np.abs(D).mean(axis=(1, 2))
    assert np.array_equal(averaged, np.broadcast_to(averaged[:, :1, :1], D.shape))
    assert np.array_equal(adahessian.exact_diagonal(H), [H[i, i] for i in range(d)])
    return [
        entries("Hutchinson", got, products.sum(axis=0) / N, (d + N + FEW) * U64 * terms, **explicit),
        entries("window", averaged[:, 0, 0], want, (D[0].size + FEW) * U64 * mean, **explicit),
    ]
