"""Muon against torch, and against optax where its conventions are the same."""

import numpy as np
import pytest

from proofs_checks.reproduction.comparators import (
    MUON_FLOOR,
    gradients,
    muon_in_double,
    muon_terms,
    same_path,
)
from reference import muon
from reference.polar import JORDAN_QUINTIC, newton_schulz
from tests.peers.extra import optax_path
from tests.reference.cases import check


def path(W, G, *, lr, decay, orthogonalize, **options):
    """Our Muon: parameters after each step."""
    state, found = muon.init(W), []
    for g in G:
        update, state = muon.step(g, state, orthogonalize=orthogonalize, weight_decay=decay, W=W, **options)
        W = W - lr * update
        found.append(W)
    return np.array(found)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5), (1, 6), (6, 1)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_torch_takes_the_same_path_with_its_iteration_in_double(shape, nesterov, scale, decay):
    W, G = gradients(shape, seed=6)
    lr, beta = 0.02, 0.9
    theirs = muon_in_double(
        W, G, lr=lr, momentum=beta, nesterov=nesterov, adjust_lr_fn=scale, weight_decay=decay
    )
    ours = path(
        W,
        G,
        lr=lr,
        decay=decay,
        beta=beta,
        nesterov=nesterov,
        scale=scale,
        orthogonalize=lambda M: newton_schulz(M, JORDAN_QUINTIC, floor=MUON_FLOOR),
    )
    terms = muon_terms(W, G, lr=lr, beta=beta, scale=float(max(shape)), decay=lr * decay)
    check(same_path("Muon", theirs, ours, terms))


@pytest.mark.parametrize("shape", [(7, 4), (5, 5)])
def test_optax_takes_the_same_path_without_look_ahead(shape):
    """optax corrects the bias of the momentum, which only changes its length, and adds 1e-8 to the norm.

    Its parameters are (inputs, outputs) and its factor ``sqrt(max(1, columns / rows))``; ours and torch's are
    (outputs, inputs) and the transpose of it. They agree on squares; on tall matrices optax has 1.
    """
    W, G = gradients(shape, seed=7)
    lr, beta, shift = 0.02, 0.9, 1e-8
    theirs = optax_path(
        "contrib.muon", W, G, learning_rate=lr, beta=beta, eps=shift, nesterov=False, weight_decay=0.1
    )
    steps = iter(range(1, len(G) + 1))

    def orthogonalize(M):
        """At the length of the corrected average, since the addition to the norm is absolute."""
        return newton_schulz(M / (1 - beta ** next(steps)), JORDAN_QUINTIC, shift=shift)

    ours = path(W, G, lr=lr, decay=0.1, beta=beta, nesterov=False, scale="none", orthogonalize=orthogonalize)
    terms = muon_terms(W, G, lr=lr, beta=beta, scale=float(max(shape)), decay=lr * 0.1)
    check(same_path("Muon", theirs, ours, terms))


def test_optax_looks_ahead_with_other_weights():
    """A known difference: optax corrects the bias of both terms before it adds them, after Dozat's Adam.

    ``beta V / (1 - beta^(t+1)) + (1 - beta) G / (1 - beta^t)`` in place of torch's and our
    ``beta V + (1 - beta) G``: not a multiple of it, so another direction, from the second step on.
    """
    W, G = gradients((5, 5), seed=7)
    lr, beta, shift = 0.02, 0.9, 1e-8
    theirs = optax_path("contrib.muon", W, G, learning_rate=lr, beta=beta, eps=shift, nesterov=True)
    V, w, corrected = np.zeros_like(W), W, []
    for t, g in enumerate(G, start=1):
        V = beta * V + (1 - beta) * g
        ahead = beta * V / (1 - beta ** (t + 1)) + (1 - beta) * g / (1 - beta**t)
        w = w - lr * newton_schulz(ahead, JORDAN_QUINTIC, steps=5, shift=shift)
        corrected.append(w)
    terms = muon_terms(W, G, lr=lr, beta=beta, scale=1.0, decay=0.0)
    check(same_path("corrected look-ahead", theirs, np.array(corrected), terms))
    plain = path(
        W, G, lr=lr, decay=0.0, beta=beta, scale="none",
        orthogonalize=lambda M: newton_schulz(M, JORDAN_QUINTIC, shift=shift),
    )  # fmt: skip
    assert not same_path("our look-ahead", theirs, plain, terms).passed
