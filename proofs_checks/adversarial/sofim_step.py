"""SOFIM-closed-form, -eq6, -step-bound, -scaling: the step itself."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.search import portfolio
from proofs_checks.adversarial.verdicts import DOUBLE, at_least, at_most, tightest, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio, linear_solve, worst, yes_no
from reference.sofim import direction, init, sherman_morrison_solve, step, two_term_direction

__all__ = ["closed_form", "equation_six", "scaling_group", "step_bound"]

Array = NDArray[np.float64]

#: What the attack on a bound that is attained must reach, and what counts as a visible difference of two
#: runs.
_TIGHT, _VISIBLE = 0.999, 1e-3


@evidence(faults=("rho-squared", "norm-not-squared"), scope="region")
def closed_form(*, fault: str | None = None) -> Finding:
    """``M / (rho + |M|^2)`` solves ``(M M^T + rho I) x = M``: backward error of the dense system.

    Faults: ``rho^2 + |M|^2`` in the denominator; ``rho + |M|``.
    """
    rng = np.random.default_rng(20240620)
    ratios = []
    for d in (1, 2, 7, 30):
        for s in 10.0 ** np.arange(-9, 16, 3):
            rho = float(10.0 ** rng.uniform(-3, 2))
            M = _vector(rng, d, norm=np.sqrt(s * rho))
            x = direction(M, rho=rho)
            nu = float(M @ M)
            if fault == "rho-squared":
                x = x * (rho + nu) / (rho**2 + nu)
            if fault == "norm-not-squared":
                x = x * (rho + nu) / (rho + np.sqrt(nu))
            ratios.append(linear_solve(np.outer(M, M) + rho * np.eye(d), x, M, u=DOUBLE))
    found = worst(ratios)
    return Finding(
        (found,),
        f"{len(ratios)} dense systems of dimension 1 to 30, |M|^2/rho from 1e-9 to 1e15: worst backward "
        f"error {found.value:.2f} times d u",
        figures={"worst": found.value, "systems": float(len(ratios))},
    )


@evidence(faults=("rho-not-squared", "sign-of-the-second-term"), scope="region")
def equation_six(*, fault: str | None = None) -> Finding:
    """Equation 6 as printed, and Sherman-Morrison with scalar, diagonal or dense A, solve the dense system.

    Backward error, for ``|M|^2 / rho`` up to 10; beyond, equation 6 cancels (SOFIM-cancellation).
    Faults: rho for rho^2 in the second term; the second term is added.
    """
    rng = np.random.default_rng(20240621)
    ratios = []
    for d in (1, 2, 7, 20):
        for s in (1e-8, 1e-3, 0.3, 3.0, 10.0):
            rho = float(10.0 ** rng.uniform(-2, 2))
            M = _vector(rng, d, norm=np.sqrt(s * rho))
            x = two_term_direction(M, rho=rho)
            second = M / rho - x
            if fault == "rho-not-squared":
                x = M / rho - second * rho
            if fault == "sign-of-the-second-term":
                x = M / rho + second
            ratios.append(linear_solve(np.outer(M, M) + rho * np.eye(d), x, M, u=DOUBLE))
            dense = np.outer(M, M) + rho * np.eye(d)
            ratios.append(linear_solve(dense, sherman_morrison_solve(rho, M, M, M), M, u=DOUBLE))
        ratios += _diagonal_and_dense(rng, d)
    found = worst(ratios)
    return Finding(
        (found,),
        f"{len(ratios)} dense systems of dimension 1 to 20, |M|^2/rho up to 10: worst backward error "
        f"{found.value:.2f} times d u",
        figures={"worst": found.value, "systems": float(len(ratios))},
    )


@evidence(faults=("bound-halved", "maximiser-at-rho"), scope="region")
def step_bound(*, fault: str | None = None) -> Finding:
    """The step has length at most ``eta / (2 sqrt(rho))``, attained at ``|M_hat| = sqrt(rho)``.

    A search over momenta, runs on adversarial gradients, and a grid for the maximiser and the
    descent.
    Faults: half the bound; the maximiser is expected at ``|M_hat| = rho``.
    """
    rng = np.random.default_rng(20240622)
    half = 0.25 if fault == "bound-halved" else 0.5

    def over_bound(x: Array) -> Array:
        M, root = x[:, :3] * 10.0 ** x[:, 3:4], 0.7
        return np.linalg.norm(direction(M, rho=root**2), axis=1) * root / half

    found = portfolio(
        over_bound, np.array([[0.7, 0, 0, 0], [1, 1, 1, 9], [0, 0, 0, 0]]), budget=1500, restarts=30, rng=rng
    )
    ratios: list[Ratio] = [
        at_most("length over bound, searched", found.value, 1.0, rounding=ORDER_ONE * DOUBLE)
    ]
    runs, steps, d, rho = 50, 40, 4, 0.3
    state = init((runs, d))
    for t in range(steps):
        g = rng.standard_normal((runs, d)) * 10.0 ** rng.uniform(-3, 3, (runs, 1)) * (-1) ** (t // 5)
        update, state = step(g, state, beta=0.9, rho=rho)
        length = np.linalg.norm(update, axis=1) * np.sqrt(rho) / half
        ratios.append(at_most(f"length over bound, step {t + 1}", length, 1.0, rounding=ORDER_ONE * DOUBLE))
    grid = 10.0 ** np.linspace(-4, 4, 4001)
    length = direction(grid[:, None] * np.sqrt(rho), rho=rho)[:, 0]
    top = grid[length.argmax()] * np.sqrt(rho)
    expected = rho if fault == "maximiser-at-rho" else np.sqrt(rho)
    spacing = float(np.log(grid[1] / grid[0]))
    beyond = length[grid > 1]
    return Finding(
        (
            *ratios,
            at_least("tightness of the attack", found.value, _TIGHT, rounding=0.0),
            vanishing("maximiser over sqrt(rho), in logarithms", np.log(top / expected), rounding=spacing),
            yes_no("redescending beyond sqrt(rho)", bool((np.diff(beyond) < 0).all())),
        ),
        f"{found.evaluations} searched momenta and {runs * steps} steps on adversarial gradients: length "
        f"over bound at most {tightest(ratios)}; longest at |M| = {top:.5f} for rho = {rho} (sqrt(rho) = "
        f"{np.sqrt(rho):.5f})",
        figures={"evaluations": float(found.evaluations + runs * steps), "maximiser": float(top)},
        tightness=tightest(ratios),
    )


@evidence(faults=("rho-scaled-by-c", "loss-scale-alone"), scope="region")
def scaling_group(*, fault: str | None = None) -> Finding:
    """``(f, eta, rho) -> (c f, c eta, c^2 rho)`` leaves the iterates alone: bit by bit for powers of two.

    Loss scale alone and linear reparametrisation are no invariances: the runs part visibly.
    Faults: rho is scaled by c; eta and rho are not scaled at all.
    """
    rng = np.random.default_rng(20240623)
    problems, d, steps, eta, rho = 20, 5, 30, 0.3, 0.5
    A = rng.standard_normal((problems, d, d))
    w0 = rng.standard_normal((problems, d))
    B = np.eye(d) + 0.5 * rng.standard_normal((problems, d, d)) / np.sqrt(d)

    def end(c: float, *, eta: float, rho: float, B: Array) -> Array:
        """Last iterate w = B z of gradient steps in z on ``c sum log cosh(A w)``."""
        z = np.asarray(np.linalg.solve(B, w0[..., None])[..., 0], dtype=np.float64)
        state = init(z)
        for _ in range(steps):
            residual = np.tanh(np.einsum("rij,rj->ri", A @ B, z))
            g = c * np.einsum("rij,ri->rj", A @ B, residual)
            update, state = step(g, state, beta=0.9, rho=rho)
            z = z - eta * update
        return np.einsum("rij,rj->ri", B, z)

    same = np.tile(np.eye(d), (problems, 1, 1))
    plain = end(1.0, eta=eta, rho=rho, B=same)
    size = np.linalg.norm(plain - w0, axis=1)
    ratios: list[Ratio] = []
    for c in (2.0**-6, 2.0**9):
        scaled = end(c, eta=c * eta, rho=(c if fault == "rho-scaled-by-c" else c * c) * rho, B=same)
        if fault == "loss-scale-alone":
            scaled = end(c, eta=eta, rho=rho, B=same)
        ratios.append(yes_no(f"identical iterates, c = {c:g}", bool((scaled == plain).all())))
    alone = np.linalg.norm(end(8.0, eta=eta, rho=rho, B=same) - plain, axis=1) / size
    turned = np.linalg.norm(end(1.0, eta=eta, rho=rho, B=B) - plain, axis=1) / size
    ratios.append(at_least("move under loss scale 8 alone", alone, _VISIBLE, rounding=0.0))
    ratios.append(at_least("move under reparametrisation", turned, _VISIBLE, rounding=0.0))
    return Finding(
        tuple(ratios),
        f"{problems} runs of {steps} steps on sums of log cosh: (c f, c eta, c^2 rho) identical in every "
        f"bit for c = 2^-6 and 2^9; loss scale 8 alone moves the end by {alone.min():.1%} or more, "
        f"reparametrisation by {turned.min():.1%} or more",
        figures={"loss_scale": float(alone.min()), "reparametrisation": float(turned.min())},
    )


def _diagonal_and_dense(rng: np.random.Generator, d: int) -> list[Ratio]:
    """Sherman-Morrison with a diagonal and with a dense A, far from singular."""
    u, b = rng.standard_normal((2, d))
    v = u * rng.uniform(0.5, 1.5, d)  # so that v^T A^-1 u is positive
    D = rng.uniform(1, 2, d)
    dense = np.diag(D) + 0.1 * np.outer(b, b) / (b @ b)
    return [
        linear_solve(full + np.outer(u, v), sherman_morrison_solve(A, u, v, b), b, u=DOUBLE)
        for A, full in ((D, np.diag(D)), (dense, dense))
    ]


def _vector(rng: np.random.Generator, d: int, *, norm: float) -> Array:
    x = rng.standard_normal(d)
    return x * (norm / np.linalg.norm(x))
