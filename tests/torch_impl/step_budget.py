"""Rounding budget of one FISMO step, and the states it is asked about."""

import itertools
import math

import numpy as np

import reference.fismo
import reference.kronecker
from proofs_checks.ratios import unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import array, backward_stable, condition, norm, tensor
from torch_impl import fismo

__all__ = ["EVERY_OPTION", "StepBudget", "draw_state", "in_float64"]

EVERY_OPTION = list(itertools.product(["algorithm", "theorem"], ["gauss-seidel", "jacobi"], ["none", "unit"]))


def draw_state(rng, m, n, dtype, device="cpu"):
    """A state as it stands after some steps: conditioned factors, momentum of full rank."""
    factors = (tensor(cases.spd(rng, d), dtype, device) for d in (m, n))
    return fismo.FismoState(*factors, tensor(cases.matrix(rng, m, n), dtype, device))


def in_float64(state):
    return reference.fismo.FismoState(*(array(x) for x in state))


class StepBudget:
    """How far rounding may move one step, from its exact intermediate values.

    First order, Frobenius norms, every factorisation in float64, every stored matrix and product in `dtype`
    (u); X' is the new value of X. An inverse root moves by ``|X^-1|^(3/2) / 2`` times the factor, the polar
    factor by 2 over the smallest singular value times the momentum.
    """

    @classmethod
    def of(cls, G, before, after):
        """Of a step of the twin with the default options."""
        before, after = in_float64(before), in_float64(after)
        return cls(array(G), before, after, dtype=G.dtype, beta=0.9, gamma=0.95, mu=1e-2)

    def __init__(self, G, before, after, *, dtype, beta, gamma, mu):
        m, n = G.shape
        u = unit_roundoff(dtype)
        P, Q, P1, Q1, M1 = before.P, before.Q, after.P, after.Q, after.M
        size = max(norm(G), math.sqrt(m * n))  # `factor_scaling` may replace G by one of norm sqrt(m n)

        def factor(old, new, inner, shift):
            """Of a factor of side d: its statistic, its average, its normalisation."""
            d, k = len(old), len(inner)
            inverse = float(np.trace(np.linalg.inv(inner)))
            terms = (size**2 + mu * math.sqrt(d)) * inverse / k + mu * max(float(np.trace(old)), d)
            statistic = (3 * k + 12) * u + backward_stable(k, condition(inner)) + shift
            averaged = gamma * norm(old) * 4 * u + (1.0 - gamma) * terms * (statistic + 4 * u)
            trace = float(gamma * d + (1.0 - gamma) * mu * d) if gamma + mu else 1.0
            return (d / trace) * (1.0 + math.sqrt(d)) * averaged + (d + 6) * u * norm(new)

        self.P = factor(P, P1, Q, 0.0)
        inverse_shift = norm(np.linalg.inv(P1), 2) * self.P  # Gauss-Seidel hands the error of P' on to Q'
        self.Q = factor(Q, Q1, P1 if condition(P1) > condition(P) else P, inverse_shift)
        A, C = (reference.kronecker.inverse_sqrt(X) for X in (P1, Q1))
        a, c = norm(A, 2), norm(C, 2)
        root = [
            0.5 * norm(A, 2) ** 3 * self.P + (u + backward_stable(m, condition(P1))) * norm(A),
            0.5 * norm(C, 2) ** 3 * self.Q + (u + backward_stable(n, condition(Q1))) * norm(C),
        ]
        g = norm(G)
        products = (m + n + 6) * u
        whitened = root[0] * g * c + a * g * root[1] + products * norm(A) * g * norm(C)
        self.M = (1.0 - beta) * whitened + 4 * u * (beta * norm(before.M) + norm(M1))
        s = np.linalg.svd(M1, compute_uv=False)
        polar = 2.0 * self.M / s[-1] + math.sqrt(len(s)) * (u + backward_stable(max(m, n), s[0] / s[-1]))
        rank = math.sqrt(len(s))
        self.update = a * c * polar + rank * (root[0] * c + a * root[1] + products * norm(A) * norm(C))
