"""Faults of AdaFisher for the checks to find, planted into `proofs_checks.mutants.small_adafisher`."""

from proofs_checks.mutants import Mutant

__all__ = ["EQUIVALENT", "PLANTED"]

_F = "F_jk = s'_j h'_k + lam"
_UPDATE = "U_t = M_hat_t / F_t"
_MOMENTUM = "M_t = beta M_{t-1} + (1 - beta) G_t"
_CORRECTED = "M_hat_t = M_t / (1 - beta^t)"
_AVERAGE = "h_D <- gamma h_D + (1 - gamma) fresh, s_D likewise, from the first measurement"
_MINMAX = "x' = (x - min x) / (max x - min x)"
_ORDER = "h' = minmax(average of h_D)"
_MEASURE = "h_D = mean of h^2 over all rows, with a 1 for the bias; s_D = mean of s^2"
_DECAY = "W_t = W_{t-1} - lr (U_t + wd W_{t-1})"
_LAYER = "every layer has the factors of its kind"

_T = "proofs_checks.mutants.small_adafisher"
_T_MINMAX = "return (d - low) / (high - low) if high > low else torch.zeros_like(d)"
_T_USED = 'h, s = minmax(state["h_D"]), minmax(state["s_D"])'
_T_OUTER = "F = torch.outer(s, h)"
_T_MEASURE = "h_D, s_D = h.square().mean(0), s.square().mean(0)"
_T_WATCHED = "if output.requires_grad:"
_T_KEPT = "self.rows.setdefault(module, []).append((h, s.detach()))"
_T_FRESH = "state[key] = gamma * old + (1 - gamma) * new"
_T_FIRST = "old = state.get(key, new)"
_T_DUE = 'if (t - 1) % group["refresh"] == 0:'
_T_M = 'M = state["M"] = beta * state.get("M", torch.zeros_like(G)) + (1 - beta) * G'
_T_F = 'F = self.product(p, h, s) + group["lam"]'
_T_UPDATE = "update = M / (1 - beta**t) / F"
_T_MOVE = 'p.sub_(group["lr"] * (update + group["weight_decay"] * p))'
_T_NORM = 'return s * h if name == "weight" else torch.zeros_like(s)'
_T_IDLE = "if p.grad is None:"


def _planted(name: str, old: str, new: str, equation: str, description: str) -> Mutant:
    return Mutant(f"small-adafisher.{name}", _T, old, new, equation, description)


def _lines(*code: str) -> str:
    """Consecutive lines of the step."""
    return ("\n" + 16 * " ").join(code)


#: Faults of the small AdaFisher; `proofs_checks.mutants.mutated(m)` and its `AdaFisher`.
PLANTED = (
    _planted("root", _T_UPDATE, _T_UPDATE.replace("/ F", "/ F.sqrt()"), _UPDATE, "a square root on F"),
    _planted("sign", _T_MOVE, _T_MOVE.replace("(update", "(-update"), _UPDATE, "ascends"),
    _planted("transposed", _T_OUTER, "F = torch.outer(h, s)", _F, "F is inputs x outputs"),
    _planted(
        "lam-inside",
        _T_F,
        'F = self.product(p, h + group["lam"] ** 0.5, s + group["lam"] ** 0.5)',
        _F,
        "the root of lam added to each factor",
    ),
    _planted("lam-doubled", _T_F, _T_F.replace("+ group", "+ 2 * group"), _F, "lam counted twice"),
    _planted("minmax-missing", _T_MINMAX, "return d", _MINMAX, "no normalisation"),
    _planted(
        "minimum-kept",
        _T_MINMAX,
        "return d / high if high > 0 else d",
        _MINMAX,
        "divided by the maximum, the minimum not subtracted",
    ),
    _planted(
        "epsilon-absolute",
        _T_MINMAX,
        "return (d - low) / (high - low + 1e-6)",
        _MINMAX,
        "1e-6 added to the range",
    ),
    _planted(
        "constant-one",
        _T_MINMAX,
        _T_MINMAX.replace("zeros_like", "ones_like"),
        _MINMAX,
        "a constant factor becomes 1",
    ),
    _planted(
        "bias-left-out",
        _T_USED,
        f"{_T_USED}\n"
        "                module = self.places[p][0]\n"
        "                if isinstance(module, nn.Linear) and module.bias is not None:\n"
        '                    h = torch.cat([minmax(state["h_D"][:-1]), h.new_zeros(1)])',
        _MEASURE,
        "the bias takes no part in the normalisation",
    ),
    _planted(
        "inputs-summed",
        _T_MEASURE,
        _T_MEASURE.replace("h.square().mean(0)", "h.square().sum(0)"),
        _MEASURE,
        "h_D summed over the rows, next to a 1 for the bias",
    ),
    _planted(
        "rows-summed",
        _T_MEASURE,
        f"{_T_MEASURE}\n        s_D = len(s) * s_D",
        _MEASURE,
        "s_D summed over the rows: a batch counts for more the larger it is",
    ),
    _planted(
        "absolute-values",
        _T_MEASURE,
        _T_MEASURE.replace("square", "abs"),
        _MEASURE,
        "mean absolute values in the place of mean squares",
    ),
    _planted(
        "last-call",
        _T_KEPT,
        "self.rows.update({module: [(h, s.detach())]})",
        _MEASURE,
        "only the call whose gradient comes last is measured",
    ),
    _planted(
        "gamma-on-new",
        _T_FRESH,
        "state[key] = (1 - gamma) * old + gamma * new",
        _AVERAGE,
        "gamma weighs the new factor",
    ),
    _planted("average-missing", _T_FRESH, "state[key] = new", _AVERAGE, "only the newest measurement"),
    _planted(
        "from-ones",
        _T_FIRST,
        "old = state.get(key, torch.ones_like(new))",
        _AVERAGE,
        "the average starts from ones",
    ),
    _planted("refresh-ignored", _T_DUE, "if t:", "measured every K steps", "measured at every step"),
    _planted(
        "normalised-twice",
        _T_FIRST,
        "new = minmax(new)\n                        old = state.get(key, new)",
        _ORDER,
        "every measurement normalised as well as their average",
    ),
    _planted(
        "evaluation-counted",
        _T_WATCHED,
        "if not output.requires_grad:\n"
        "            seen = self.seen(module, inputs[0]), torch.zeros_like(output)\n"
        "            self.rows.setdefault(module, []).append(seen)\n"
        f"        {_T_WATCHED}",
        _MEASURE,
        "inputs of calls without gradients count",
    ),
    _planted(
        "rows-kept",
        "self.rows.clear()",
        "self.rows = {module: rows[-3:] for module, rows in self.rows.items()}",
        _MEASURE,
        "rows of the steps before are measured again",
    ),
    _planted(
        "layer-skipped",
        _T_IDLE,
        "if p.grad is None or isinstance(self.places[p][0], nn.Embedding):",
        _LAYER,
        "embeddings are never stepped",
    ),
    _planted(
        "momentum-missing", _T_M, 'M = state["M"] = (1 - beta) * G', _MOMENTUM, "the old momentum is dropped"
    ),
    _planted(
        "momentum-swapped",
        _T_M,
        'M = state["M"] = (1 - beta) * state.get("M", torch.zeros_like(G)) + beta * G',
        _MOMENTUM,
        "beta weighs the new gradient",
    ),
    _planted(
        "momentum-of-steps",
        _lines(_T_M, _T_USED, _T_F, _T_UPDATE),
        _lines(_T_USED, _T_F, f"{_T_M} / F", "update = M / (1 - beta**t)"),
        _UPDATE,
        "momentum after preconditioning",
    ),
    _planted("bias-correction-missing", _T_UPDATE, "update = M / F", _CORRECTED, "no bias correction"),
    _planted(
        "decay-coupled",
        "G, state = p.grad, self.state[p]",
        'G, state = p.grad + group["weight_decay"] * p, self.state[p]\n'
        '                group = {**group, "weight_decay": 0.0}',
        _DECAY,
        "decay added to the gradient",
    ),
    _planted("decay-missing", _T_MOVE, 'p.sub_(group["lr"] * update)', _DECAY, "no weight decay"),
    _planted("norm-shift", _T_NORM, "return s * h", _LAYER, "the shift has the F of the scale"),
)

#: Changes that leave every step as it is, with the reason: the checks must not report them.
EQUIVALENT = (
    _planted(
        "gradients-doubled",
        _T_MEASURE,
        _T_MEASURE.replace("s.square()", "(2 * s).square()"),
        _MEASURE,
        "s of another loss scale: min-max removes it",
    ),
    _planted(
        "sums-divided",
        _T_MEASURE,
        _T_MEASURE.replace("h.square().mean(0)", "(h * h).sum(0) / len(h)"),
        _MEASURE,
        "the mean written as a sum over a count",
    ),
)
