"""The functions of `reference` that golden vectors pin, each with its equation, source and cases."""

from types import MappingProxyType, ModuleType

import numpy as np

from proofs_checks.decision import Array
from proofs_checks.golden import entry_bounds, exact, inputs, matrix_bounds
from proofs_checks.golden.case import Case, Function
from reference import adafisher, adahessian, adamw, fismo, muon, polar, sgd, shampoo, sofim

__all__ = ["FUNCTIONS", "stepped"]

#: Inputs that a step takes by position, in this order; the others are keywords.
POSITIONAL = ("G", "g", "D")


def stepped(module: ModuleType, case: Case) -> list[dict[str, Array]]:
    """Updates and states of a method along a case; the step number is not an output."""
    options = dict(case.hp)
    epsilon = {"epsilon": options.pop("epsilon")} if module is shampoo else {}
    first = next(case.steps[0][name] for name in POSITIONAL if name in case.steps[0])
    state = module.init(first.shape, **case.start, **epsilon)
    out = []
    for inputs_now in case.steps:
        given = [inputs_now[name] for name in POSITIONAL if name in inputs_now]
        others = {name: X for name, X in inputs_now.items() if name not in POSITIONAL}
        update, state = module.step(*given, state, **others, **options)
        out.append({"update": update, **_arrays(state)})
    return out


def _arrays(state: object) -> dict[str, Array]:
    """The arrays of a state by name; Shampoo's pair of factors is L and R."""
    if isinstance(state, shampoo.ShampooState):
        return dict(zip("LR", state.factors, strict=True))
    fields = state._asdict()  # type: ignore[attr-defined]
    return {name: X for name, X in fields.items() if isinstance(X, np.ndarray)}


def _newton_schulz(case: Case) -> list[dict[str, Array]]:
    options = {name: value for name, value in case.hp.items() if name != "polynomials"}
    rows = [tuple(row) for row in case.hp["polynomials"]]
    return [{"X": polar.newton_schulz(step["M"], rows, **options)} for step in case.steps]


_ALL = (
    Function(
        "fismo.step",
        "L = G Q^-1 G^T / n + damping I, P <- gamma P + (1 - gamma) L over its mean eigenvalue; "
        "R = G^T P^-1 G / m + damping I, Q likewise; A = P^(-1/2), C = Q^(-1/2); "
        "M <- beta M + (1 - beta) A G C; update = A Polar(M) C",
        "Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Algorithm 1",
        lambda case: stepped(fismo, case),
        matrix_bounds.fismo,
        exact.fismo,
        inputs.fismo(),
    ),
    Function(
        "sofim.step",
        "M <- beta M + (1 - beta) g; M_hat = M / (1 - beta^t); update = M_hat / (rho + |M_hat|^2)",
        "Sen et al., SOFIM (arXiv 2403.02833), algorithm and equation 6",
        lambda case: stepped(sofim, case),
        entry_bounds.sofim,
        exact.sofim,
        inputs.sofim(),
    ),
    Function(
        "muon.step",
        "V <- beta V + (1 - beta) G, B = G + beta (V - G) (ema); V <- beta V + G, B = G + beta V (sum); "
        "B = V without nesterov; update = a orthogonalize(B) + weight_decay W",
        'Jordan et al., "Muon" (2024); torch.optim.Muon',
        lambda case: stepped(muon, case),
        matrix_bounds.muon,
        exact.muon,
        inputs.muon(),
    ),
    Function(
        "adamw.step",
        "m <- beta1 m + (1 - beta1) G; v <- beta2 v + (1 - beta2) G^2; "
        "update = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + weight_decay W",
        'Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2',
        lambda case: stepped(adamw, case),
        entry_bounds.adamw,
        exact.adamw,
        inputs.adamw(),
    ),
    Function(
        "sgd.step",
        "G <- G + weight_decay W; classical: v <- momentum v + (1 - dampening) G, v = G at first, "
        "update = v or G + momentum v (nesterov); ema: v <- momentum v + (1 - momentum) G, "
        "update = v or momentum v + (1 - momentum) G",
        "Polyak (1964); Sutskever et al. (2013); torch.optim.SGD",
        lambda case: stepped(sgd, case),
        entry_bounds.sgd,
        exact.sgd,
        inputs.sgd(),
    ),
    Function(
        "shampoo.step",
        "L <- L + G G^T, R <- R + G^T G, from epsilon I; update = L^e G R^e + weight_decay W, e = exponent",
        'Gupta, Koren, Singer, "Shampoo" (2018), algorithm 1',
        lambda case: stepped(shampoo, case),
        matrix_bounds.shampoo,
        exact.shampoo,
        inputs.shampoo(),
    ),
    Function(
        "adahessian.step",
        "m <- beta1 m + (1 - beta1) G; v <- beta2 v + (1 - beta2) D^2; "
        "update = m / (1 - beta1^t) / ((v / (1 - beta2^t))^(power / 2) + epsilon) + weight_decay W",
        "Yao et al., AdaHessian (2021), algorithm 1",
        lambda case: stepped(adahessian, case),
        entry_bounds.adahessian,
        exact.adahessian,
        inputs.adahessian(),
    ),
    Function(
        "adafisher.step",
        "h_D, s_D <- gamma old + (1 - gamma) new, the first measurement itself or from ones; "
        "F_jk = minmax(s_D)_j minmax(h_D)_k + lam; M <- beta M + (1 - beta) G; "
        "update = M / (1 - beta^t) / F + weight_decay W",
        "Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1; as accounts report it",
        lambda case: stepped(adafisher, case),
        entry_bounds.adafisher,
        exact.adafisher,
        inputs.adafisher(),
    ),
    Function(
        "polar.polar_factor",
        "Q = U V^T over the singular values s > max(m, n) eps s_1 of M = U diag(s) V^T",
        'Higham, "Functions of Matrices" (2008), chapter 8',
        lambda case: [{"Q": polar.polar_factor(step["M"])} for step in case.steps],
        matrix_bounds.polar_factor,
        exact.polar_factor,
        inputs.polar_factor(),
    ),
    Function(
        "polar.spectral_lmo",
        "X = -radius Polar(G), the minimiser of <G, X> over |X|_2 <= radius",
        "Xu, Yan, Zhang, FISMO (arXiv 2601.21750), equation 1",
        lambda case: [{"X": polar.spectral_lmo(step["G"], **case.hp)} for step in case.steps],
        matrix_bounds.spectral_lmo,
        exact.spectral_lmo,
        inputs.spectral_lmo(),
    ),
    Function(
        "polar.newton_schulz",
        "X = M / max(|M|_F + shift, floor) if normalize, then X <- (c0 I + c1 Y + c2 Y^2 + ...) X, "
        "Y = X X^T, for each of `steps` polynomials, the last one repeated (steps null: once each)",
        'Jordan et al., "Muon" (2024); Kim and Oh (arXiv 2601.19156); Amsel et al. (arXiv 2505.16932)',
        _newton_schulz,
        matrix_bounds.newton_schulz,
        exact.newton_schulz,
        inputs.newton_schulz(),
    ),
)

#: Every function by its name.
FUNCTIONS = MappingProxyType({function.name: function for function in _ALL})
