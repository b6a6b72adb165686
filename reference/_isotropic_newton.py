"""Newton's method for the convex program of the isotropic curvature model, on a batch of spectra at once."""

import numpy as np

from reference._arguments import Array
from reference._growth import Growth

__all__ = ["minimisers", "radii"]

#: Newton's method: iterations; relative step from which on two full steps reach rounding; a share of the
#: decrease promised by the slope that a step must bring; halvings, after which only rounding is left.
_ITERATIONS, _NEAR, _SHARE, _HALVINGS = 200, 1e-6, 1e-4, 50

_EPS = np.finfo(np.float64).eps

#: Powers of two in the range of float64, a few more: a search over scales that takes longer has no end.
_POWERS = 2200


def radii(sigma: Array, t: Array) -> Array:
    """``|Q zeta|`` at every point of the rule, the points along the last axis."""
    return np.sqrt(np.square(sigma) @ t.T)


@np.errstate(all="ignore")
def minimisers(s: Array, growth: Growth, t: Array, w: Array) -> Array:
    """Minimisers for nonzero spectra s ``(batch, n)`` on a rule t, w, or a ValueError.

    Newton steps from a flat spectrum, halved until they descend.
    """

    def value(sigma: Array) -> Array:
        return np.asarray(growth.value(radii(sigma, t)) @ w - (s * sigma).sum(axis=-1))

    sigma = np.where(s > 0, _flat_radius(s.sum(axis=-1), growth)[:, None], 0.0)
    polish = 2
    for _ in range(_ITERATIONS):
        slope, curvature = _derivatives(sigma, s, growth, t, w)
        if not (np.isfinite(curvature).all() and np.linalg.det(curvature).all()):
            break
        move = -np.linalg.solve(curvature, slope[..., None])[..., 0]
        if (np.abs(move).max(axis=-1) <= _NEAR * sigma.max(axis=-1)).all():
            sigma, polish = sigma + move, polish - 1
            if not polish:
                return sigma
            continue
        start, promised = value(sigma), (slope * move).sum(axis=-1)
        length = np.ones(len(s))
        for _ in range(_HALVINGS):
            rounding = len(w) * _EPS * np.abs(start)
            short = ~(value(sigma + length[:, None] * move) <= start + _SHARE * length * promised + rounding)
            if not short.any():
                break
            length = np.where(short, length / 2, length)
        sigma = sigma + length[:, None] * move
    raise ValueError(
        "growth must be twice differentiable, with numbers in range at s, got no convergence of Newton steps"
    )


def _derivatives(sigma: Array, s: Array, growth: Growth, t: Array, w: Array) -> tuple[Array, Array]:
    """Gradient and Hessian of the objective in sigma; with ``a = H'(r) / r`` at radius r they are
    ``E[a t] sigma - s`` and ``diag(E[a t]) + E[(H'' - a) / r^2 (sigma t) (sigma t)^T]``."""
    r = radii(sigma, t)
    a = growth.slope(r) / r
    stretch = (w * a) @ t
    b = w * (growth.curvature(r) - a) / np.square(r)
    arms = sigma[:, None, :] * t
    curvature = (arms * b[..., None]).mT @ arms + stretch[:, None, :] * np.eye(sigma.shape[-1])
    return stretch * sigma - s, curvature


def _flat_radius(total: Array, growth: Growth) -> Array:
    """A radius where H has the slope `total`, to a factor of two: a start of the right size."""
    radius = np.ones_like(total)
    for factor, below in ((2.0, True), (0.5, False)):
        for _ in range(_POWERS):
            slope = growth.slope(radius if below else radius / 2)
            outside = slope < total if below else slope > total
            if not outside.any():
                break
            radius = np.where(outside, radius * factor, radius)
        else:
            raise ValueError("growth must take the slope sum(s) somewhere, got one bounded away from it")
    if not np.isfinite(radius).all():
        raise ValueError("growth must take the slope sum(s) somewhere, got one bounded away from it")
    return radius
