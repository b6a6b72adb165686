"""The README that is written beside golden vectors."""

from collections.abc import Iterable

from proofs_checks.golden.case import Function
from proofs_checks.golden.document import FORMAT, PRODUCER, VERSION

__all__ = ["TITLE", "readme"]

TITLE = "# Golden vectors of fisherproof"

_TEXT = f"""\
{TITLE}

Inputs and outputs of optimizer steps, for implementations in any language. One JSON file per function; format
version {VERSION}. Write what your implementation returns into `outputs`, put your name into `producer` and
your precision into `dtype`, and run

    fisherproof golden verify DIR

It recomputes every output from the inputs and says which function differs, by how many times its rounding
budget, and first where. Exit status: 0 if all agree, 1 if not, 2 if the files cannot be read.

## Fields

| field | content |
|---|---|
| `format` | "{FORMAT}" |
| `version` | {VERSION} |
| `function` | module and function of the reference, such as "muon.step" |
| `equation`, `source` | what is computed, and where it is published |
| `producer` | who made `outputs`: "{PRODUCER}" until you replace it |
| `dtype` | precision in which the outputs were computed: "float64" or "float32" |
| `cases` | runs, see below |

| field of a case | content |
|---|---|
| `name` | unique within the file; every case of the export must be there, others may be added |
| `hyper_parameters` | a number is `hex` and `decimal`; names, whole numbers and truth values are plain |
| `start` | state before the first step where it is not the usual one (momentum zero, factors identity) |
| `inputs` | one object per step; the state passes from step to step |
| `outputs` | one object per step: the update (`W_new = W - lr * update`) and the state after it |
| `budgets` | per precision and step, what an output may be off; derived by running error analysis |

An array has a `shape` and its entries row by row: `hex`, hexadecimal floating point as C's `%a` and Python's
`float.hex` write it, is what counts; `decimal` is for people and may be left out. `exact` are fractions
"p/q" where the value is rational (null where the fraction is long); `hex` is then the float64 number nearest
to it. Hyper-parameters count with the value of their `hex`. All inputs are float32 numbers;
hyper-parameters need not be, and their rounding is in the budget.

A budget has `norm` "entry" (one number per entry, in the order of the array) or "frobenius" (one number for
the Frobenius norm of the difference). A result is right if its error is at most the budget. The numbers
written here are for reference: verification derives them anew.

Options of FISMO: `damping` "algorithm" is mu times the mean eigenvalue of the old factor that is
updated, "theorem" mu times the mean eigenvalue of the inverse of the other factor, the one in the data
term. `order` "gauss-seidel": R sees the new P, "jacobi": the old one. `factor_scaling` "unit": in L and
R only, G is replaced by G sqrt(m n) / |G|_F. `orthogonalize` "polar" is the polar factor; "jordan" five
steps of the polynomial of the case "jordan, five steps, wide" of `polar.newton_schulz`; "polar-express"
the eight polynomials of its case "polar express, rows in turn" once each, all but the last with c_i /
1.01^(2 i + 1), and `shift` 0.01. Scales of Muon: "original" a = sqrt(max(1, m / n)), "match_rms_adamw" a
= 0.2 sqrt(max(m, n)), "none" a = 1.

A NaN or infinite output fails. A missing file or case fails. Changed inputs or hyper-parameters of a listed
case, numbers that cannot be read and other versions are errors.
"""


def readme(functions: Iterable[Function]) -> str:
    """The text, with the list of files."""
    lines = [
        f"| `{f.name}.json` | {len(f.cases)} | {f.equation.replace('|', chr(92) + '|')} |" for f in functions
    ]
    return "\n".join([_TEXT, "## Files", "", "| file | cases | equation |", "|---|---|---|", *lines, ""])
