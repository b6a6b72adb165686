"""Faults of Muon for the conformance checks to find, planted into `proofs_checks.mutants.small_muon`."""

from proofs_checks.mutants import Mutant

__all__ = ["PLANTED"]

_MOMENTUM = "V_t = beta V_{t-1} + (1 - beta) G_t"
_NESTEROV = "B_t = G_t + beta (V_t - G_t)"
_ITERATION = "X = B/|B|_F, then five times X <- (a I + b X X^T + c (X X^T)^2) X"
_SCALE = "a = sqrt(max(1, m/n))"
_DECAY = "W_t = (1 - lr wd) W_{t-1} - lr U_t"

_T = "proofs_checks.mutants.small_muon"


def _planted(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"torch-muon.{name}", _T, old, new, equation, description)


_T_BUFFER = "V.mul_(momentum).add_(G, alpha=1 - momentum)"
_T_AHEAD = "B = G + momentum * (V - G) if nesterov else V"
_T_LOOP = "for _ in range(steps):"
_T_START = "X = X / X.norm().clamp_min(EPS)"
_T_STEP = "X = a * X + (b * Y + c * Y @ Y) @ X"
_T_SCALE = "scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5"
_T_DECAY = 'p.mul_(1 - group["lr"] * group["weight_decay"])'
_T_MOVE = 'p.add_(U, alpha=-group["lr"] * scale)'

#: Faults of the small Muon; `proofs_checks.mutants.mutated(m)` and its `Muon`.
PLANTED = (
    _planted(
        "buffer-normalised",
        _T_START,
        "X = X.div_(X.norm().clamp_min(EPS))",
        _MOMENTUM,
        "the iteration divides the momentum buffer in place",
    ),
    _planted("momentum-missing", _T_BUFFER, "V.copy_(G)", _MOMENTUM, "no momentum"),
    _planted(
        "momentum-swapped",
        _T_BUFFER,
        "V.mul_(1 - momentum).add_(G, alpha=momentum)",
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _planted(
        "momentum-undamped",
        _T_BUFFER,
        "V.add_(G, alpha=1 - momentum)",
        _MOMENTUM,
        "old momentum has weight 1, not beta",
    ),
    _planted("nesterov-missing", _T_AHEAD, "B = V", _NESTEROV, "no Nesterov momentum"),
    _planted(
        "nesterov-double",
        _T_AHEAD,
        "B = G + momentum * V if nesterov else V",
        _NESTEROV,
        "G_t + beta V_t, the form that belongs to the sum",
    ),
    _planted("four-steps", _T_LOOP, "for _ in range(steps - 1):", _ITERATION, "one iteration less"),
    _planted(
        "spectral-norm",
        _T_START,
        "X = X / torch.linalg.matrix_norm(X.float(), 2).clamp_min(EPS).to(X.dtype)",
        _ITERATION,
        "divided by the spectral norm",
    ),
    _planted(
        "wrong-gram",
        "Y = X @ X.T",
        "Y = X.T @ X if X.shape[0] == X.shape[1] else X @ X.T",
        _ITERATION,
        "X^T X in the place of X X^T",
    ),
    _planted("cubic-dropped", _T_STEP, "X = a * X + c * Y @ Y @ X", _ITERATION, "the cubic term is missing"),
    _planted(
        "scale-inverted",
        _T_SCALE,
        _T_SCALE.replace("p.shape[0] / p.shape[1]", "p.shape[1] / p.shape[0]"),
        _SCALE,
        "n/m in the place of m/n",
    ),
    _planted("scale-missing", _T_SCALE, "scale = 1.0", _SCALE, "no shape factor"),
    _planted("decay-missing", _T_DECAY, "p.mul_(1.0)", _DECAY, "no weight decay"),
    _planted(
        "decay-without-lr",
        _T_DECAY,
        'p.mul_(1 - group["weight_decay"])',
        _DECAY,
        "decay not multiplied by lr",
    ),
    _planted(
        "decay-after",
        f"{_T_DECAY}\n                {_T_MOVE}",
        f"{_T_MOVE}\n                {_T_DECAY}",
        _DECAY,
        "decay applied after the step",
    ),
    _planted(
        "decay-coupled",
        _T_BUFFER,
        'V.mul_(momentum).add_(G + group["weight_decay"] * p, alpha=1 - momentum)',
        _DECAY,
        "decay added to the gradient as well",
    ),
    _planted("sign", _T_MOVE, _T_MOVE.replace("-group", "group"), "U = a NS(B)", "ascends"),
)
