"""Checks of the reference against 50 digits: test problems, noise and schedules.

As in `tests.reference.precision_checks`, whose conventions and helpers these are. Docstrings state an order,
which is held to `ORDER_ONE`.
"""

import numpy as np

from proofs_checks.budgets import iteration_budget
from proofs_checks.ratios import EXPLICIT_BUDGET, ORDER_ONE, Ratio
from reference import noise, problems, schedules
from tests.reference import precise, precise_rates
from tests.reference.cases import U64
from tests.reference.precise import exact, mp
from tests.reference.precision_checks import Rng, apart, checks, entries, shape, spread
from tests.reference.precision_checks_rates import relative, scale, whole

# problems


def size(X) -> float:
    return float(np.linalg.norm(np.reshape(X, -1)))


def values(problem, W, want, of_value: float, of_gradient: float) -> list[Ratio]:
    value, gradient = want
    return [
        apart(f"{problem.name}, value", problem.value(W), value, of_value),
        apart(f"{problem.name}, gradient", problem.gradient(W), gradient, of_gradient),
    ]


def constants(problem, want: dict, level: float) -> Ratio:
    """Relative; infinite ones and zeros exactly."""
    assert all(getattr(problem, name) == x for name, x in want.items() if not 0 < abs(x) < mp.inf)
    kept = {name: x for name, x in want.items() if 0 < abs(x) < mp.inf}
    return relative(problem.name, [getattr(problem, name) for name in kept], list(kept.values()), level)


def data(rng: Rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A parameter, terms (N, m, n) and one number for each."""
    (m, n), N = shape(rng, 3), whole(rng, 4)
    return rng.standard_normal((m, n)), rng.standard_normal((N, m, n)), rng.standard_normal(N)


def over(terms) -> np.ndarray:
    return sum(terms) / len(terms)


@checks("problems.geman_mcclure", "problems.sum_of_cosines")
def sums_of_ridge_functions(rng: Rng) -> list[Ratio]:
    """An inner product of length d is off by d u times the norms; the functions' slopes are bounded."""
    W, A, y = data(rng)
    N, d = len(A), W.size
    level, top = (N + d) * U64, precise_rates.squared_norm(exact(A))
    length = np.array([size(X) for X in A])
    reach = size(W) * length + np.abs(y)
    robust, cosines = problems.geman_mcclure(A, y), problems.sum_of_cosines(A, y, y)
    value, terms = precise_rates.geman_mcclure(exact(W), exact(A), exact(y))
    slope = 3 * mp.sqrt(3) / 8
    squares = [precise.norm(X) ** 2 for X in exact(A)]
    each = level * reach * length
    weight = np.abs(y)
    weighted = exact(A) * np.array([mp.sqrt(x) for x in exact(weight)])[:, None, None]
    bound = sum(a * precise.norm(X) for a, X in zip(exact(weight), exact(A), strict=True))
    L = precise_rates.squared_norm(weighted)
    return [
        *values(robust, W, (value, over(terms)), float(level * reach.mean()), float(each.mean())),
        *(
            apart("term", robust.sample_gradients(W, np.array([i]))[0], term, float(each[i]))
            for i, term in enumerate(terms)
        ),
        constants(
            robust,
            {
                "L": 2 * top / N,
                "f_star": 0,
                "gradient_bound": slope * mp.sqrt(top / N),
                "convexity": -top / N / 2,
                "variance_bound": slope**2 * over(squares),
                "sample_bound": slope * mp.sqrt(max(squares)),
            },
            N + d,
        ),
        *values(
            cosines,
            W,
            precise_rates.sum_of_cosines(exact(W), exact(A), exact(y), exact(y)),
            float(level * (weight * (1 + reach)).sum()),
            float(level * (weight * (1 + reach) * length).sum()),
        ),
        constants(
            cosines,
            {
                "L": L,
                "f_star": -sum(exact(weight)),
                "gradient_bound": bound,
                "convexity": -L,
                "sample_bound": bound,
            },
            N + d,
        ),
    ]


@checks("problems.cosine_bowl", "problems.quadratic", "problems.skewed_scalar", "problems.with_noise")
def bowls(rng: Rng) -> list[Ratio]:
    W = rng.standard_normal(shape(rng, 3))
    d, a, c = W.size, scale(rng), scale(rng)
    bowl = problems.cosine_bowl(W, a=a, c=c)
    ends = {"L": 1 + mp.mpf(a) * mp.mpf(c) ** 2, "f_star": 0, "gradient_bound": mp.inf}
    heights = float((W**2 / 2 + a * c * np.abs(W)).sum())
    steep = (1 + a * c**2) * size(W)
    want = precise_rates.cosine_bowl(exact(W), a, c)
    spectrum, U = rng.random(d), np.linalg.qr(rng.standard_normal((d, d)))[0]
    smooth = problems.quadratic(W, spectrum, U)
    L, least = float(spectrum.max()), float(spectrum.min())
    exactly = precise_rates.quadratic(exact(W), exact(spectrum), exact(U))
    odds, sigma = 1 + scale(rng), scale(rng)
    scalar = problems.skewed_scalar(odds=odds)
    w = rng.standard_normal((1, 1))
    noisy = problems.with_noise(problems.geman_mcclure(W[None], np.ones(1)), noise.rademacher(W, sigma=sigma))
    total = 3 * mp.sqrt(3) / 8 * precise.norm(exact(W)) + mp.mpf(sigma)
    return [
        *values(bowl, W, want, d * U64 * heights, U64 * steep),
        constants(bowl, ends, 1.0),
        Ratio("convexity", float(abs(bowl.convexity - (2 - ends["L"]))), U64 * bowl.L, ORDER_ONE),
        *values(smooth, W, exactly, d * U64 * L * size(W) ** 2, d * U64 * L * size(W)),
        constants(smooth, {"L": L, "convexity": least, "f_star": 0, "gradient_bound": mp.inf}, 1.0),
        *values(scalar, w, (exact(w)[0, 0] ** 2 / 2, exact(w)), U64 * size(w) ** 2, U64 * size(w)),
        constants(scalar, {"L": 1, "convexity": 1, "variance_bound": mp.mpf(odds)}, 1.0),
        constants(noisy, {"variance_bound": mp.mpf(sigma) ** 2, "sample_bound": total}, d),
    ]


@checks("problems.matrix_factorization")
def factorization(rng: Rng) -> list[Ratio]:
    Z, k, radius = spread(rng, *shape(rng)), whole(rng, 3), scale(rng)
    (m, n), problem = Z.shape, problems.matrix_factorization(Z, rank=k, radius=radius)
    W = rng.standard_normal((m + n, k))
    s, level = precise.singular_values(exact(Z)), (m * n + k) * U64
    reach = size(W) ** 2 + size(Z)
    square = mp.mpf(radius) ** 2
    bound = mp.mpf(radius) * (square / 2 + s[0])
    want = precise_rates.matrix_factorization(exact(W), exact(Z))
    ends = {"L": 3 * square / 2 + s[0], "gradient_bound": bound, "convexity": -(square / 2 + s[0])}
    rest = sum((x * x for x in s[k:]), mp.mpf(0)) / 2
    return [
        *values(problem, W, want, level * reach**2, level * reach * size(W)),
        constants(problem, ends | {"sample_bound": bound}, max(m, n)),
        apart("f_star", np.float64(problem.f_star), rest, max(m, n) * U64 * size(Z) ** 2),
    ]


@checks("problems.logistic", "problems.softmax")
def regressions(rng: Rng) -> list[Ratio]:
    """With a ridge by Newton's method; without one both labels for every sample, or no minimum."""
    found, (N, d), ridge = [], shape(rng, 2), 0.1 + rng.random()
    X, labels, classes = rng.standard_normal((N, d)), rng.integers(0, 2, N), whole(rng, 2) + 1
    twice, y = np.vstack([X, X]), np.repeat([1.0, -1.0], N)
    signs = 2.0 * labels - 1.0
    for features, target, lam in ((X, signs, ridge), (twice, y, 0.0)):
        problem = problems.logistic(features, target, ridge=lam)

        def binary(w, features=features, target=target, lam=lam):
            return precise_rates.logistic(w, exact(features), exact(target), lam)

        found += regression(rng, problem, features, lam, binary, 4)
    for lam in (ridge, 0.0):
        problem = problems.softmax(X, labels, classes=classes, ridge=lam, minimize=bool(lam))

        def multinomial(W, lam=lam):
            return precise_rates.softmax(W, exact(X), labels, lam)

        found += regression(rng, problem, X, lam, multinomial, 2)
    return found


def regression(rng: Rng, problem, X, ridge, function, curvature) -> list[Ratio]:
    """Value, gradient, terms and constants; a margin is off by d u times the norms, slopes are at most 1."""
    N, (d, C) = len(X), problem.shape
    W = rng.standard_normal((d, C))
    value, terms = function(exact(W))
    length = np.array([size(x) for x in X])
    level, spent = (N + d * C) * U64, ridge * size(W) ** 2
    each = level * ((1 + size(W) * length) * length + ridge * size(W))
    top = precise_rates.squared_norm(exact(X))
    squares = [precise.norm(x) ** 2 for x in exact(X)]
    share = mp.mpf(4) / curvature  # 1 for two labels of one margin, 2 for a softmax
    free = {"gradient_bound": mp.sqrt(share * top / N), "sample_bound": mp.sqrt(share * max(squares))}
    ends = {"L": top / (curvature * N) + mp.mpf(ridge), "variance_bound": share * over(squares)}
    ends |= {"convexity": mp.mpf(ridge)} | (dict.fromkeys(free, mp.inf) if ridge else free)
    found = [
        *values(
            problem,
            W,
            (value, over(terms)),
            level * (1 + size(W) * length.mean()) + level * spent,
            each.mean(),
        ),
        *(
            apart("term", problem.sample_gradients(W, np.array([i]))[0], term, float(each[i]))
            for i, term in enumerate(terms)
        ),
        constants(problem, ends, N + d),
    ]
    if problem.f_star_exact:
        least = precise_rates.minimum(function, exact(np.zeros((d, C))))
        found.append(apart("f_star", np.float64(problem.f_star), least, level * (1 + size(X))))
    return found


# noise: the same draws, scaled again


@checks("noise.gaussian", "noise.rademacher", "noise.skewed_two_point", "noise.student_t")
def scaled_draws(rng: Rng) -> list[Ratio]:
    """Standardised draws come from the same seed; counts are centred, which cancels by design."""
    sizes, sigma, B, seed = shape(rng, 3), scale(rng), whole(rng, 5), whole(rng, 10**6)
    odds, degrees = 1 + scale(rng), 2 + scale(rng)
    entry = mp.mpf(sigma) / mp.sqrt(sizes[0] * sizes[1])
    normal = exact(np.random.default_rng(seed).standard_normal(sizes)) / mp.sqrt(B)
    heads = exact(np.random.default_rng(seed).binomial(B, 0.5, sizes))
    high = exact(np.random.default_rng(seed).binomial(B, 1 / (1 + odds), sizes))
    same = np.random.default_rng(seed)
    tails = [exact(same.standard_t(degrees, sizes)) for _ in range(B)]
    spread_t = B * mp.sqrt(mp.mpf(degrees) / (mp.mpf(degrees) - 2))
    centred = (mp.mpf(odds) + 1) * high / B
    root = mp.sqrt(mp.mpf(odds))
    rows = [
        (noise.gaussian(sizes, sigma=sigma), normal, np.abs(normal), mp.inf),
        (noise.rademacher(sizes, sigma=sigma), (2 * heads - B) / B, 2 * heads / B + 1, mp.mpf(sigma)),
        (
            noise.skewed_two_point(sizes, sigma=sigma, odds=odds),
            (centred - 1) / root,
            (centred + 1) / root,
            root * mp.mpf(sigma),
        ),
        (
            noise.student_t(sizes, sigma=sigma, degrees=degrees),
            sum(tails) / spread_t,
            B * sum(np.abs(x) for x in tails) / spread_t * degrees / (degrees - 2),
            mp.inf,
        ),
    ]
    found = []
    for model, want, terms, bound in rows:
        got = model.sample(np.random.default_rng(seed), batch=B)
        budget = U64 * (terms * entry).astype(float)
        found.append(entries(model.name, got, want * entry, budget))
        assert model.sigma == sigma
        if bound < mp.inf:
            found.append(constants(model, {"bound": bound}, 1.0))
        else:
            assert model.bound == np.inf
    return found


# schedules


@checks("schedules.scalar", "schedules.apply")
def whole_schedules(rng: Rng) -> list[Ratio]:
    M, x = spread(rng, *shape(rng, 3)), rng.uniform(0.01, 1.0, 2)
    names = list(schedules.SCHEDULES)
    chosen = [names[rng.integers(len(names))], "jordan", "weighted-halley-6", "halley-9"]
    return [ratio for name in chosen for ratio in one_schedule(schedules.SCHEDULES[name], M, x)]


def one_schedule(schedule, M, x) -> list[Ratio]:
    rows, start = schedule.polynomials, {"shift": schedule.shift, "floor": schedule.floor}
    if not schedule.denominators:
        each = [iteration_budget(np.array([[v]]), rows, u=U64, normalize=False).total for v in x]
        points = [precise.scalar_map(v, rows) for v in x]
        budget = iteration_budget(M, rows, u=U64, **start).total
        image = precise.newton_schulz(exact(M), rows, **start)
        explicit = {"threshold": EXPLICIT_BUDGET}
        return [
            entries(schedule.name, schedules.scalar(x, schedule), points, each, **explicit),
            apart(schedule.name, schedules.apply(M, schedule), image, budget, **explicit),
        ]
    tall = exact(M if M.shape[0] > M.shape[1] else M.T)
    X = precise.newton_schulz(tall, rows, steps=0, **start)
    image = precise_rates.rational(X, rows, schedule.denominators)
    points = [precise_rates.rational(exact([[v]]), rows, schedule.denominators)[0, 0] for v in x]
    rounding = schedule.steps * max(M.shape) * U64 / float(precise.singular_values(X)[-1])
    got = schedules.apply(M, schedule)
    return [
        relative(schedule.name, schedules.scalar(x, schedule), points, schedule.steps),
        apart(schedule.name, got if M.shape[0] > M.shape[1] else got.T, image, rounding),
    ]


@checks("schedules.chebyshev_cubic", "schedules.halley_weights")
def closed_forms(rng: Rng) -> list[Ratio]:
    """The third root of ``1 - l^2`` magnifies the rounding of l where l is near 1."""
    lower, steps = float(10.0 ** rng.uniform(-8, -1)), whole(rng, 5)
    upper = 1 + rng.random()
    cubic = precise_rates.chebyshev_cubic(lower, upper)
    rows, ends = precise_rates.halley_weights(lower, steps)
    got = schedules.halley_weights(lower, steps=steps)
    level = [steps / max(float(1 - l), U64) ** (1 / 3) for l in ends]
    return [
        relative("cubic", schedules.chebyshev_cubic(lower, upper), cubic, 1.0),
        *(relative("weights", x, want, k) for x, want, k in zip(got, rows, level, strict=True)),
    ]
