"""Finds numbers that decide a test without a name: ``python -m tests.lint.bare_numbers PATH...``.

A tolerance is a claim about rounding; it belongs in a derived budget or a named constant with a derivation.
Forbidden, with no way to exempt a line:

- a float literal anywhere inside a comparison;
- an int literal other than 0 and 1 in the arithmetic of an order comparison (``<  <=  >  >=``);
- a literal as a tolerance keyword (``atol=``, ``rel=``, ``places=`` ...), alone or in its arithmetic, unless
  it is 0, which asks for equality;
- a literal positional tolerance of ``isclose``, ``allclose``, ``assert_allclose``, ``approx`` and their kin,
  and these functions without any tolerance, which then use a built-in number;
- a literal other than 0 and 1 as the budget or threshold of a ``Ratio``, ``equivariance`` or ``inequality``.

Prints ``file:line: message`` for each finding; exit status 1 if there are any, 2 for a path that is missing.
"""

import argparse
import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["check_paths", "check_source", "main"]

ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)

#: Integers that mean "none" and "unit" and may stand in an order comparison.
PLAIN = (0, 1)

#: Budgets of fixtures and of results that are not numbers: the ratio is then the error itself, or infinite.
PLAIN_BUDGETS = ("0", "1", "0.0", "1.0")

#: Keywords whose value is a tolerance.
TOLERANCES = frozenset(
    {
        "abs",
        "abs_tol",
        "abs_tolerance",
        "atol",
        "decimal",
        "delta",
        "ftol",
        "gtol",
        "maxulp",
        "nulp",
        "places",
        "rel",
        "rel_tol",
        "rel_tolerance",
        "rtol",
        "significant",
        "tol",
        "tolerance",
        "xtol",
    }
)

#: Our own rules that take a budget as it comes: its positions and its keywords.
BUDGETS: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "Ratio": ((2, 3), ("budget", "threshold")),
    "equivariance": ((), ("budget",)),
    "inequality": ((), ("rounding",)),
}

#: Functions that compare up to a tolerance, and the position of their first tolerance.
TOLERANT = {
    "allclose": 2,
    "approx": 1,
    "assertAlmostEqual": 2,
    "assertNotAlmostEqual": 2,
    "assert_allclose": 2,
    "assert_almost_equal": 2,
    "assert_approx_equal": 2,
    "assert_array_almost_equal": 2,
    "assert_array_almost_equal_nulp": 2,
    "assert_array_max_ulp": 2,
    "assert_close": 2,
    "isclose": 2,
}

#: Functions that hand a number through, so that a literal in their arguments is part of the arithmetic.
TRANSPARENT = frozenset(
    {
        "Decimal",
        "Fraction",
        "abs",
        "array",
        "asarray",
        "float",
        "float32",
        "float64",
        "int",
        "max",
        "maximum",
        "min",
        "minimum",
        "pow",
        "round",
        "sqrt",
        "sum",
        "tensor",
    }
)

#: Expressions into whose parts the search for arithmetic descends.
EXPRESSIONS = (
    ast.Compare,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.IfExp,
    ast.NamedExpr,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Starred,
)

Finding = tuple[int, str]


def check_source(source: str) -> list[Finding]:
    """Findings in Python source: line and message, in order of lines."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [(error.lineno or 1, f"does not parse: {error.msg}")]
    found: set[Finding] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            found.update(_comparison(node))
        elif isinstance(node, ast.Call):
            found.update(_call(node))
    return sorted(found)


def check_paths(paths: Sequence[Path]) -> Iterator[str]:
    """Findings in files, and in all ``*.py`` below folders, as ``file:line: message``."""
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for line, message in check_source(file.read_text(encoding="utf-8")):
                yield f"{file}:{line}: {message}"


def _comparison(node: ast.Compare) -> Iterator[Finding]:
    for literal in _numbers(node):
        if isinstance(literal.value, float | complex):
            yield literal.lineno, f"float literal {_text(literal)} inside a comparison"
    if any(isinstance(operator, ORDER) for operator in node.ops):
        for literal in _arithmetic(node):
            if isinstance(literal.value, int) and literal.value not in PLAIN:
                yield literal.lineno, f"int literal {_text(literal)} in an order comparison"


def _call(node: ast.Call) -> Iterator[Finding]:
    name = _name(node.func)
    for keyword in node.keywords:
        if keyword.arg in TOLERANCES and _is_tolerance(keyword.value):
            yield keyword.value.lineno, f"literal tolerance {keyword.arg}={ast.unparse(keyword.value)}"
    if name in BUDGETS:
        positions, keywords = BUDGETS[name]
        budgets = [argument for at, argument in enumerate(node.args) if at in positions]
        budgets += [keyword.value for keyword in node.keywords if keyword.arg in keywords]
        for budget in budgets:
            if _is_number(budget) and ast.unparse(budget) not in PLAIN_BUDGETS:
                yield budget.lineno, f"literal budget {ast.unparse(budget)} of {name}"
    if name in TOLERANT:
        positional = node.args[TOLERANT[name] :]
        for argument in positional:
            if _is_tolerance(argument):
                yield argument.lineno, f"literal tolerance {ast.unparse(argument)} of {name}"
        if not positional and not any(keyword.arg in TOLERANCES | {None} for keyword in node.keywords):
            yield node.lineno, f"{name} without a tolerance uses a built-in one"


def _is_tolerance(value: ast.expr) -> bool:
    """Whether a tolerance is a bare number or has one in its arithmetic; zero is none."""
    if _is_number(value):
        return any(literal.value for literal in _numbers(value))
    return any(isinstance(n.value, float) or n.value not in PLAIN for n in _arithmetic(value))


def _is_number(value: ast.expr) -> bool:
    """Whether an expression consists of number literals and arithmetic only."""
    if isinstance(value, ast.UnaryOp):
        return _is_number(value.operand)
    if isinstance(value, ast.BinOp):
        return _is_number(value.left) and _is_number(value.right)
    if isinstance(value, ast.Call) and _name(value.func) in TRANSPARENT:
        return bool(value.args) and all(_is_number(argument) for argument in value.args)
    return isinstance(value, ast.Constant) and _counts(value)


def _arithmetic(node: ast.AST) -> Iterator[ast.Constant]:
    """Number literals whose value enters that of an expression: not indices, nor arguments of functions."""
    if isinstance(node, ast.Constant):
        if _counts(node):
            yield node
    elif isinstance(node, ast.Call):
        if _name(node.func) in TRANSPARENT:
            for argument in node.args:
                yield from _arithmetic(argument)
    elif isinstance(node, EXPRESSIONS):
        for child in ast.iter_child_nodes(node):
            yield from _arithmetic(child)


def _numbers(node: ast.AST) -> Iterator[ast.Constant]:
    """Every number literal below a node."""
    return (child for child in ast.walk(node) if isinstance(child, ast.Constant) and _counts(child))


def _counts(literal: ast.Constant) -> bool:
    return isinstance(literal.value, int | float | complex) and not isinstance(literal.value, bool)


def _name(function: ast.expr) -> str:
    """Last part of a called name: ``allclose`` of ``np.allclose``."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(literal: ast.Constant) -> str:
    return ast.unparse(literal)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the paths on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.lint.bare_numbers", description="Finds bare numbers."
    )
    parser.add_argument("paths", nargs="+", type=Path, help="Python files, or folders of them")
    paths = parser.parse_args(arguments).paths
    for path in paths:
        if not path.exists():
            parser.error(f"{path} does not exist")
    findings = list(check_paths(paths))
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
