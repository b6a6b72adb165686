"""SOFIM-cost and FISMO-COST: state and operations per step, counted in `torch_impl`; times only recorded."""

from collections import Counter
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from torch_impl import FISMO, SOFIM

__all__ = ["Count", "counted", "fismo_costs", "sofim_costs"]

#: Numbers that a step of SOFIM reads, over those that SGD with momentum reads, at most.
_TWICE = 2.0

#: Operators that cost more than a pass over their arguments.
_FACTORISATIONS = ("_linalg_eigh", "_linalg_svd", "linalg_cholesky_ex", "linalg_solve_triangular")


class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what tensor operators read, and the products and factorisations among them.

    Attributes
    ----------
    read : int
        Numbers in the tensor arguments of all operators.
    products : int
        Multiplications in batched matrix products.
    factorisations : Counter of (name, side)
        Largest side of the argument of each factorisation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read, self.products = 0, 0
        self.factorisations: Counter[tuple[str, int]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count the operator, then run it."""
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        self.read += sum(x.numel() for x in tensors)
        name = func.overloadpacket.__name__
        if name in ("bmm", "mm"):
            self.products += tensors[0].numel() * tensors[1].shape[-1]
        if name in _FACTORISATIONS:
            self.factorisations[name, max(tensors[0].shape[-2:])] += 1
        return func(*args, **(kwargs or {}))


def counted(make: Callable[[list[nn.Parameter]], Optimizer], *shapes: tuple[int, ...]) -> tuple[Count, int]:
    """Counts of the second step of an optimizer over parameters of given shapes, and numbers in its state."""
    optimizer = _prepared(make, *shapes)
    optimizer.step()
    with Count() as count:
        optimizer.step()
    state = sum(x.numel() for x in tree_leaves(dict(optimizer.state)) if isinstance(x, Tensor))
    return count, state


def _prepared(make: Callable[[list[nn.Parameter]], Optimizer], *shapes: tuple[int, ...]) -> Optimizer:
    generator = torch.Generator().manual_seed(9)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator)
    return make(parameters)


def _sgd(parameters: list[nn.Parameter]) -> Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, foreach=False)


def _milliseconds(make: Callable[[list[nn.Parameter]], Optimizer], *shapes: tuple[int, ...]) -> float:
    """Median time of a step; for the record only, since it depends on the machine."""
    optimizer = _prepared(make, *shapes)
    times = []
    for _ in range(9):
        start = perf_counter()
        optimizer.step()
        times.append(1e3 * (perf_counter() - start))
    return median(times)


@evidence(faults=("state-of-Adam", "dense-inverse"), scope="region", tier="full")
def sofim_costs(*, fault: str | None = None) -> Finding:
    """SOFIM keeps d numbers and one count per parameter, and reads a fixed multiple of d per step.

    SGD with momentum keeps d. Numbers read are affine in d exactly, with no product or factorisation. Times
    are in the figures, not in the verdict.
    Faults: the state of Adam, twice as large; a dense product in the place of the closed form.
    """

    def make(parameters: list[nn.Parameter]) -> Optimizer:
        return torch.optim.Adam(parameters) if fault == "state-of-Adam" else SOFIM(parameters, lr=0.1)

    sizes = (64, 128, 192)
    counts, states = zip(*(counted(make, (d,)) for d in sizes), strict=True)
    reads = [count.read for count in counts]
    if fault == "dense-inverse":
        for k, d in enumerate(sizes):
            with Count() as dense:
                torch.eye(d) @ torch.eye(d)
            reads[k] += dense.products
    sgd_counts, sgd_states = zip(*(counted(_sgd, (d,)) for d in sizes), strict=True)
    slope = (reads[1] - reads[0]) / (sizes[1] - sizes[0])
    sgd_slope = (sgd_counts[1].read - sgd_counts[0].read) / (sizes[1] - sizes[0])
    time = _milliseconds(lambda p: SOFIM(p, lr=0.1), (1000, 1000)) / _milliseconds(_sgd, (1000, 1000))
    tensors = counted(make, (8, 8), (5,))[1]
    ratios: list[Ratio] = [
        yes_no("state: d numbers and one count", states == tuple(d + 1 for d in sizes)),
        yes_no("state of two parameters: d numbers and two counts", tensors == 64 + 5 + 2),
        yes_no("state of SGD with momentum: d numbers", sgd_states == sizes),
        yes_no("numbers read are affine in d", reads[2] - reads[1] == reads[1] - reads[0]),
        yes_no("at most twice the numbers that SGD reads", slope <= _TWICE * sgd_slope),
        yes_no(
            "no matrix product, no factorisation", not any(c.products or c.factorisations for c in counts)
        ),
    ]
    return Finding(
        tuple(ratios),
        f"state d + 1 numbers (SGD with momentum d), {slope:g} d numbers read per step (SGD "
        f"{sgd_slope:g} d), no product or factorisation",
        figures={
            "numbers read over d": slope,
            "numbers read over d, SGD": sgd_slope,
            "time over SGD's": time,
        },
    )


@evidence(faults=("kept-inverse-roots", "another-eigenproblem"), scope="region", tier="full")
def fismo_costs(*, fault: str | None = None) -> Finding:
    """FISMO keeps ``m^2 + n^2 + m n`` numbers and a count; a step takes two eigenproblems and a polar factor.

    Beside those of sides m and n it takes two Cholesky factorisations with a triangular solve each, and
    matrix products whose number of multiplications grows exactly eightfold when both sides double.
    Faults: inverse roots are kept between steps; one eigenproblem more is expected.
    """
    refresh = 2 if fault == "kept-inverse-roots" else 1
    ratios: list[Ratio] = []
    products = {}
    for m, n in ((8, 12), (16, 24), (24, 8)):
        count, state = counted(lambda parameters: FISMO(parameters, refresh=refresh), (m, n))
        products[m, n] = count.products
        eigenproblems = Counter({("_linalg_eigh", m): 1, ("_linalg_eigh", n): 1})
        if fault == "another-eigenproblem":
            eigenproblems["_linalg_eigh", m] += 1
        others = Counter(
            {("linalg_cholesky_ex", m): 1, ("linalg_cholesky_ex", n): 1, ("_linalg_svd", max(m, n)): 1}
        )
        found = Counter(
            {key: k for key, k in count.factorisations.items() if key[0] != "linalg_solve_triangular"}
        )
        ratios += [
            yes_no(f"{m}x{n}: state m^2 + n^2 + m n and a count", state == m * m + n * n + m * n + 1),
            yes_no(f"{m}x{n}: factorisations", found == eigenproblems + others),
        ]
    ratios.append(yes_no("products grow with the cube of the side", products[16, 24] == 8 * products[8, 12]))
    memory = {
        f"{m}x{n}": (m * m + n * n + m * n) / (m * n) for m, n in ((768, 768), (768, 3072), (4096, 16384))
    }
    return Finding(
        tuple(ratios),
        "two eigenproblems, two Cholesky factorisations and one SVD per step, products cubic in the side; "
        "state over the parameter's size "
        + ", ".join(f"{value:g} ({name})" for name, value in memory.items())
        + ", Adam's is 2, Muon's 1",
        figures={f"state over size, {name}": value for name, value in memory.items()}
        | {f"multiplications in products, {m}x{n}": float(k) for (m, n), k in products.items()},
    )
