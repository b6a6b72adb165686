"""What a careless author might have made of each function of `torch_impl.adafisher`.

Each entry takes the sound function and returns a faulty one, as in `tests.proofs_checks.test_twins`.
"""

import torch

__all__ = ["FAULTS"]


def forced(**options):
    """The function, with some options whatever it is asked for."""
    return lambda f: lambda *a, **k: f(*a, **(k | options))


def result(at, change):
    """The function, with a change to one of its results."""
    return lambda f: lambda *a, **k: tuple(change(x) if at == i else x for i, x in enumerate(f(*a, **k)))


def doubled(x):
    return 2 * x


def backwards(x):
    return x.flip(-1)


def without_last(x):
    return torch.cat([x[..., :-1], 0 * x[..., -1:]], dim=-1)


def transposed(f):
    """A two-dimensional convolution with its spatial axes taken for each other, options and all."""

    def factors(x, s, **options):
        swapped = {k: v[::-1] if isinstance(v, tuple) else v for k, v in options.items()}
        return f(x.mT, s.mT, **swapped)

    return factors


def uncorrected(f):
    """Without the bias correction, but with the count it should have."""

    def step(G, state, **options):
        update, new = f(G, state._replace(t=10**6), **options)
        return update, new._replace(t=state.t + 1)

    return step


CONVOLUTION = {
    "patch backwards": result(0, backwards),
    "sum over the samples": result(0, doubled),
    "constant input of the bias missing": result(0, without_last),
    "output channels backwards": result(1, backwards),
    "gradient not squared": result(1, torch.sqrt),
    "groups in one": lambda f: (
        lambda x, s, **k: tuple(y.flip(-2) if k.get("groups", 1) > 1 else y for y in f(x, s, **k))
    ),
}

FAULTS = {
    "adafisher.average": {
        "gamma_on ignored": forced(gamma_on="old"),
        "gamma ignored": forced(gamma=0.8),
        "off by a billionth": lambda f: lambda old, new, **k: f(old, new, **k) + 2.0**-30 * old,
    },
    "adafisher.conv2d_factors": CONVOLUTION | {"rows for columns": transposed},
    "adafisher.convolution_factors": CONVOLUTION,
    "adafisher.denominator": {
        "damping ignored": forced(lam=1e-3),
        "root": lambda f: lambda h, s, **k: f(h, s, **k).sqrt(),
        "inputs backwards": lambda f: lambda h, s, **k: f(h.flip(-1), s, **k),
    },
    "adafisher.embedding_factors": {
        "counts": lambda f: lambda i, s, **k: (f(i, s, **k)[0] * i.numel(), f(i, s, **k)[1]),
        "one for every entry that occurs": result(0, torch.ceil),
        "gradient not squared": result(1, torch.sqrt),
    },
    "adafisher.init": {
        "factors of zeros": lambda f: lambda W, **k: f(W, **k)._replace(h_D=0 * f(W, **k).h_D),
        "counts from one": lambda f: lambda W, **k: f(W, **k)._replace(t=1),
        "counts a measurement": lambda f: lambda W, **k: f(W, **k)._replace(refreshes=1),
    },
    "adafisher.linear_factors": {
        "inputs backwards": result(0, backwards),
        "constant input of the bias missing": result(0, without_last),
        "sum over the tokens": result(1, doubled),
    },
    "adafisher.minmax_normalize": {
        "epsilon ignored": forced(epsilon=0.0),
        "epsilon always relative": forced(relative=True),
        "axes ignored": forced(axes=1),
        "least not taken off": lambda f: lambda d, **k: f(d, **k) + d,
    },
    "adafisher.normalization_block": {
        "the shift's": forced(parameter="shift"),
        "cross terms dropped": lambda f: lambda h, s, **k: f(h, s, **k) * torch.eye(h.shape[-1]),
    },
    "adafisher.normalization_factors": {
        "the submission's": forced(form="submission"),
        "gradient not squared": result(2, torch.sqrt),
        "shift as scale": lambda f: lambda h, s, **k: f(h, s, **k)._replace(shift=f(h, s, **k).scale),
    },
    "adafisher.released_average": {
        "gamma ignored": forced(gamma=0.8),
        "axes ignored": forced(axes=1),
        "weights that sum to 1": lambda f: lambda old, new, **k: f(old, new, **k) / (0.11 * k["gamma"]),
        "infinity not replaced": lambda f: lambda old, new, **k: f(old, new, **k) + 0 * new,
    },
    "adafisher.step": {
        "gamma_on ignored": forced(gamma_on="old"),
        "order ignored": forced(normalise="after"),
        "start ignored": forced(initial="first"),
        "averaging ignored": forced(averaging="paper"),
        "epsilon ignored": forced(epsilon=0.0),
        "epsilon always relative": forced(relative=True),
        "decay missing": forced(weight_decay=0.0),
        "measures always": forced(refresh=True),
        "groups normalised apart": forced(factor_axes=1),
        "damping ignored": forced(lam=1e-3),
        "gamma ignored": forced(gamma=0.8),
        "momentum missing": forced(beta=0.0),
        "bias correction dropped": uncorrected,
        "ascent": result(0, torch.neg),
        "off by a billionth": result(0, lambda update: update * (1 + 2.0**-30)),
    },
}
