"""Published orthogonalisation schedules as data: which maps the singular values go through, step by step.

The coefficients are the ones that run: a safety factor is already in them. Sets whose construction was not
recovered are kept too, and say so in their note.
"""

from collections.abc import Sequence

from reference._polynomials import (
    JORDAN_QUINTIC,
    POLAR_EXPRESS,
    Polynomial,
    kim_oh_polynomial,
    polar_express_coefficients,
    scalar_map,
    with_safety,
)
from reference._schedule import (
    Schedule,
    apply,
    chebyshev_cubic,
    halley_weights,
    odd_polynomial,
    scalar,
    with_steps,
)

__all__ = [
    "SCHEDULES",
    "Schedule",
    "apply",
    "chebyshev_cubic",
    "halley_weights",
    "odd_polynomial",
    "scalar",
    "with_steps",
]

#: The interval on which sets without a stated one are judged: the one Polar Express recommends.
_INTERVAL = (1e-3, 1.0)

#: What "The Polar Express" recommends: safety factor and the addition to the Frobenius norm.
_SAFETY, _SHIFT = 1.01, 1e-2

_AMSEL = "Amsel, Persson, Musco, Gower, The Polar Express (arXiv 2505.16932)"
_KIM_OH = "Kim and Oh (arXiv 2601.19156), Taylor polynomial of degree k in x^2"
_CANS = "Grishina, Smirnov, Rakhuba, CANS (arXiv 2506.10935)"
_CIRCULATING = "coefficient set in circulation"


def _polar_express() -> list[Schedule]:
    """Appendix G, cut to T steps: plain, with safety on all but the last, and as its listing runs."""
    found = []
    for steps in (5, 6, 7, 8):
        rows = POLAR_EXPRESS[:steps]
        found += [
            Schedule(f"polar-express-{steps}", rows, _INTERVAL, f"{_AMSEL}, Appendix G", shift=_SHIFT),
            Schedule(
                f"polar-express-safe-{steps}",
                with_safety(rows, _SAFETY),
                _INTERVAL,
                f"{_AMSEL}, Appendix G",
                safety=_SAFETY,
                shift=_SHIFT,
                note="safety on all but the last of these steps",
            ),
        ]
    for steps in (5, 6):
        found.append(
            Schedule(
                f"polar-express-cut-{steps}",
                with_safety(POLAR_EXPRESS, _SAFETY)[:steps],
                _INTERVAL,
                f"{_AMSEL}, Appendix G",
                safety=_SAFETY,
                shift=_SHIFT,
                note="the first of eight prepared rows: safety on every step, the last one too",
            )
        )
    cubic = polar_express_coefficients(*_INTERVAL, steps=8, degree=3)
    found.append(
        Schedule("polar-express-cubic-8", cubic, _INTERVAL, f"{_AMSEL}, degree 3, closed form", shift=_SHIFT)
    )
    return found


def _circulating() -> list[Schedule]:
    """Sets in use whose construction was not recovered; judged on an interval of ours."""
    ours = "interval ours"
    return [
        Schedule(
            "quintic-5",
            (
                (4.0848, -6.8946, 2.9270),
                (3.9505, -6.3029, 2.6377),
                (3.7418, -5.5913, 2.3037),
                (2.8769, -3.1427, 1.2046),
                (2.8366, -3.0525, 1.2012),
            ),
            _INTERVAL,
            f"{_CIRCULATING}: 'quintic' of NVIDIA Emerging-Optimizers, after modded-nanogpt",
            note=f"found by search, second hand; {ours}",
        ),
        Schedule(
            "quintic-8",
            (
                (7.2086, -15.5131, 9.0178),
                (3.9623, -2.5813, 0.4542),
                (3.9466, -2.5765, 0.4544),
                (3.8991, -2.5671, 0.4566),
                (3.7186, -2.5308, 0.4653),
                (3.1390, -2.3073, 0.4733),
                (2.1715, -1.5246, 0.3885),
                (1.8648, -1.2224, 0.3577),
            ),
            _INTERVAL,
            f"{_CIRCULATING}: 'polar_express' of Megatron-LM before November 2025",
            note=f"not the paper's rows; second hand, construction unknown; {ours}",
        ),
        Schedule(
            "nanogpt-5",
            (
                (8.156554524902461, -22.48329292557795, 15.878769915207462),
                (4.042929935166739, -2.808917465908714, 0.5000178451051316),
                (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
                (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
                (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
            ),
            _INTERVAL,
            f"{_CIRCULATING}: modded-nanogpt and nanochat, 'safety 2e-2, cushion 2'",
            safety=1.02,
            note=f"second hand; not what the recursion of Appendix G gives for safety 1.02; {ours}",
        ),
        Schedule(
            "gram-newton-schulz-5",
            tuple(tuple(c / 1.05 ** (2 * i + 1) for i, c in enumerate(p)) for p in POLAR_EXPRESS[:5]),
            _INTERVAL,
            f"{_CIRCULATING}: Polar Express rows with safety 1.05, gram-newton-schulz",
            safety=1.05,
            note="second hand; safety on all five steps",
        ),
        Schedule(
            "aol-4",
            (
                (4.0098, -7.0585, 2.4635),
                (3.4585, -5.5479, 2.5959),
                (2.7573, -3.2939, 1.4254),
                (2.7215, -3.0494, 1.3169),
            ),
            _INTERVAL,
            f"{_CIRCULATING}: 'aol' of NVIDIA Emerging-Optimizers, after flash-newton-schulz",
            note=f"second hand; meant for a start rescaled column by column, judged on {_INTERVAL}; {ours}",
        ),
        Schedule(
            "cubic-5",
            (
                (3.3656576, -3.3420992),
                (2.5744352, -1.4957376),
                (2.5368962, -1.4312570),
                (2.4418906, -1.2764040),
                (2.2230472, -0.9630650),
            ),
            _INTERVAL,
            f"{_CIRCULATING}: 'cubic5' of NVIDIA Emerging-Optimizers, after arXiv 2606.00371",
            note=f"second hand; {ours}",
        ),
        Schedule(
            "deepseek-v4",
            (JORDAN_QUINTIC,) * 8 + ((2.0, -1.5, 0.5),) * 2,
            _INTERVAL,
            f"{_CIRCULATING}: 'deepseekv4' of NVIDIA Emerging-Optimizers, after the DeepSeek-V4 report",
            note=f"second hand; {ours}",
        ),
    ]


def _cans_cubics(lower: float, *, steps: int) -> tuple[Polynomial, ...]:
    """Best cubics on successive intervals ``[l, u]``, ``l' = p(l)``, ``u' = 2 - l'``."""
    l, u, rows = lower, 1.0, []
    for _ in range(steps):
        rows.append(chebyshev_cubic(l, u))
        l = float(scalar_map(l, rows[-1:]))
        u = 2 - l
    return tuple(rows)


def _halley(name: str, lower: float, weights: Sequence[tuple[float, float, float]], note: str) -> Schedule:
    return Schedule(
        name,
        tuple((a, b) for a, b, _ in weights),
        (lower, 1.0),
        "Nakatsukasa, Bai, Gygi (2010), SIAM J. Matrix Anal. Appl. 31(5)",
        denominators=tuple(c for *_, c in weights),
        note=note,
    )


def _all() -> list[Schedule]:
    ours = "steps and interval ours"
    taylor = [
        Schedule(f"taylor-{k}", (kim_oh_polynomial(k),) * 5, _INTERVAL, _KIM_OH, floor=1.0, note=ours)
        for k in (1, 2, 3)
    ]
    newton = Schedule(
        "newton-schulz",
        (kim_oh_polynomial(1),) * 22,
        _INTERVAL,
        "Higham, Functions of Matrices (2008), section 8.3: cubic Newton-Schulz",
        note=f"to convergence; {ours}",
    )
    return [
        Schedule(
            "jordan", (JORDAN_QUINTIC,) * 5, _INTERVAL, "Jordan et al., Muon (2024)", note="interval ours"
        ),
        newton,
        *taylor,
        *_polar_express(),
        Schedule("cans-cubic-8", _cans_cubics(1e-3, steps=8), _INTERVAL, f"{_CANS}, degree 3", note=ours),
        Schedule(
            "cans-quintic-5",
            polar_express_coefficients(*_INTERVAL, steps=5, cushion=0.0),
            _INTERVAL,
            f"{_CANS}, degree 5",
            note=f"best quintics on successive intervals, recomputed by exchange; {ours}",
        ),
        _halley("halley-9", 1e-3, ((3.0, 1.0, 3.0),) * 9, f"unweighted; {ours}"),
        _halley("weighted-halley-4", 1e-3, halley_weights(1e-3, steps=4), "steps and interval ours"),
        _halley("weighted-halley-6", 1e-16, halley_weights(1e-16, steps=6), "condition 1e16 in six steps"),
        *_circulating(),
    ]


#: Every schedule by name.
SCHEDULES: dict[str, Schedule] = {schedule.name: schedule for schedule in _all()}
