"""The stored certificates check, no edited one does, and a checker with a fault in it is found out."""

import ast
import copy
import importlib.util
import json
import sys
from fractions import Fraction

import pytest

from proofs_checks.certified.export import FOLDER, files, text
from proofs_checks.certified.stored import CHECKER, run_checker

SOURCE = CHECKER.read_text(encoding="utf-8")

STORED = {
    certificate["id"]: certificate
    for path in sorted(FOLDER.glob("*.json"))
    for certificate in json.loads(path.read_text(encoding="utf-8"))["certificates"]
}

#: Kinds with a small certificate of each, so that hundreds of edited ones check in seconds.
SMALL = {
    "polar": "polar factor, tall 5x3",
    "inverse-root": "inverse root, Hilbert 3x3",
    "eigenvalues": "eigenvalues, Pascal 5x5",
    "growth": "growth at b = 3",
    "range": "JORDAN-range value 1/100 1 0.68183 1.13436",
}

COUNTEREXAMPLES = [name for name, record in STORED.items() if record["kind"] == "counterexample"]


def load(source=SOURCE):
    """The checker as a module of its own, from any source."""
    spec = importlib.util.spec_from_loader("checker_under_test", loader=None)
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, "checker", "exec"), module.__dict__)
    return module


CHECK = load()

#: What the program reports as a failed certificate.
ERRORS = (CHECK.Refused, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def refused(certificate, checker=CHECK):
    """Why the checker does not accept a certificate, or None if it does."""
    try:
        checker.check(certificate)
    except (checker.Refused, *ERRORS) as error:
        return f"{type(error).__name__}: {error}"
    return None


def edited(name, field, change):
    """A copy of a stored certificate with one field changed."""
    record = copy.deepcopy(STORED[name])
    record[field] = change(record[field])
    return record


def at(change, *place):
    """Change one entry of nested lists."""

    def apply(data):
        inner = data
        for index in place[:-1]:
            inner = inner[index]
        inner[place[-1]] = change(inner[place[-1]])
        return data

    return apply


def moved(by):
    """A rational, moved."""
    return lambda text: str(Fraction(text) + Fraction(by))


def times(factor):
    """A rational or hexadecimal number, multiplied."""
    return lambda text: str(
        (Fraction(float.fromhex(text)) if "0x" in text else Fraction(text)) * Fraction(factor)
    )


TINY = Fraction(1, 10**15)

#: Every field of every kind, edited so that the statement is false, not shown, too wide or none at all.
EDITS = [
    ("polar", "M", at(moved(TINY), 4, 2)),
    ("polar", "M", lambda M: M[:-1]),
    ("polar", "K", at(moved(TINY), 1, 1)),
    ("polar", "K", at(moved(TINY), 0, 1)),
    ("polar", "Q", at(moved(TINY), 2, 0)),
    ("polar", "Q", lambda Q: [[times(-1)(x) for x in row] for row in Q]),
    ("polar", "k", times(2)),
    ("polar", "k", times(-1)),
    ("polar", "k", times(Fraction(1, 10**30))),
    ("polar", "k", lambda k: "0"),
    ("polar", "radius", times(Fraction(1, 10**6))),
    ("polar", "radius", lambda r: "0"),
    ("polar", "radius", lambda r: "1/1000"),
    ("inverse-root", "P", at(moved(TINY), 2, 2)),
    ("inverse-root", "P", at(moved(TINY), 0, 2)),
    ("inverse-root", "K", at(moved(TINY), 1, 1)),
    ("inverse-root", "K", lambda K: [[times(-1)(x) for x in row] for row in K]),
    ("inverse-root", "X", at(moved(TINY), 0, 0)),
    ("inverse-root", "X", lambda X: [[times(-1)(x) for x in row] for row in X]),
    ("inverse-root", "k", times(2)),
    ("inverse-root", "k", times(Fraction(1, 10**20))),
    ("inverse-root", "radius", times(Fraction(1, 10**6))),
    ("inverse-root", "radius", lambda r: "1/1000"),
    ("eigenvalues", "A", at(moved(1), 0, 0)),
    ("eigenvalues", "A", at(moved(TINY), 0, 1)),
    ("eigenvalues", "lower", moved(Fraction(1, 10**9))),
    ("eigenvalues", "lower", moved(-1)),
    ("eigenvalues", "upper", moved(Fraction(-1, 10**9))),
    ("eigenvalues", "upper", moved(1)),
    ("eigenvalues", "low", lambda v: v[::-1]),
    ("eigenvalues", "low", lambda v: ["0"] * len(v)),
    ("eigenvalues", "high", lambda v: v[::-1]),
    ("growth", "b", lambda b: "2"),
    ("growth", "b", lambda b: "10"),
    ("growth", "level", lambda level: "58000"),
    ("growth", "level", lambda level: "1"),
    ("growth", "mu", times(Fraction(1, 2))),
    ("growth", "mu", times(2)),
    ("growth", "mu", times(-1)),
    ("growth", "gradients", at(times(2), 7, 0, 0)),
    ("growth", "gradients", lambda G: G[:-1]),
    ("growth", "gradients", lambda G: []),
    ("growth", "vector", lambda v: v[::-1]),
    ("growth", "vector", lambda v: ["0"] * len(v)),
    ("range", "statement", lambda s: s.replace("0.68183", "0.68184")),
    ("range", "statement", lambda s: s.replace("JORDAN-range", "JORDAN-slope")),
    ("range", "statement", lambda s: ""),
    ("range", "images", lambda i: i[:-1]),
    ("range", "images", at(lambda ends: [ends[0], ends[0]], 1)),
    ("range", "images", at(times(Fraction(999, 1000)), 0, 1)),
    ("range", "images", at(times(Fraction(1001, 1000)), 0, 0)),
    ("range", "boxes", lambda b: b[:-1]),
    ("range", "boxes", lambda b: [b[0][:-1], *b[1:]]),
    ("range", "boxes", lambda b: [b[0][1:], *b[1:]]),
    ("range", "boxes", lambda b: [[*b[0], 0], *b[1:]]),
    ("range", "boxes", lambda b: [[0], *b[1:]]),
    ("range", "boxes", lambda b: [[], *b[1:]]),
    ("range", "boxes", at(lambda d: -1, 2, 0)),
    ("range", "boxes", at(lambda d: True, 2, 0)),
    ("range", "boxes", at(lambda d: "4", 2, 0)),
    ("range", "attained", lambda x: x[::-1]),
    ("range", "attained", lambda x: [x[0], x[0]]),
    ("range", "attained", lambda x: [x[1], x[1]]),
    ("range", "attained", lambda x: ["-" + x[0], x[1]]),
    ("range", "attained", lambda x: []),
    ("range", "attained", lambda x: ["1.0687737511", x[1]]),  # the same value, outside the interval
    ("range", "boxes", lambda b: [[*b[0], 40], *b[1:]]),  # a box beyond the end
]

#: A field of every counterexample and a value with which the instance refutes nothing.
HARMLESS = [
    ("FISMO-T4.1-in-algorithm", "a", [["1", "1"], ["1", "1"]]),
    ("FISMO-T4.1-in-algorithm", "a", [["7/2", "1/2"], ["1/2", "-1/2"]]),
    ("FISMO-T4.1-in-algorithm", "mu", "0"),
    ("FISMO-T4.1-in-algorithm", "f", ["1", "1"]),
    ("FISMO-T4.1-in-algorithm", "f", ["3", "1"]),
    ("FISMO-T4.2-fisher-ball", "g", ["2", "1"]),
    ("FISMO-T4.2-fisher-ball", "r", ["-2", "1"]),
    ("FISMO-TRADE-ns", "sigma", "1/2"),
    ("FISMO-TRADE-ns", "sigma", "3/2"),
    ("FISMO-ABS-squared", "C", "1001"),
    ("FISMO-ABS-squared", "C", "-1"),
    ("FISMO-ABS-squared", "k", "1004"),
    ("FISMO-ABS-squared", "k", "2011/2"),
    ("FISMO-NOTE-1overT", "K", "1300"),
    ("FISMO-NOTE-1overT", "k", "33"),
    ("KO-double-exponent", "x", "1"),
    ("KO-double-exponent", "x", "-3/5"),
    ("PE-exponent", "l", "9/100"),
    ("PE-exponent", "l", "91/100"),
    ("PE-exponent", "a", "1.5"),
    ("PE-exponent", "b", "-0.5"),
    ("PE-exponent", "x", ["0.9000001", "0.950438", "1.1"]),
    ("PE-exponent", "x", ["0.9000001", "0.950438"]),
    ("PE-slope-floor", "x", "1"),
    ("PE-slope-floor", "x", "2"),
    ("SOFIM-minus-one", "M", "1/1000"),
    ("SOFIM-minus-one", "M", "110000000.000000000001"),
    ("SOFIM-minus-one", "rho", "-1/2"),
    ("SOFIM-curvature", "g", ["1", "0"]),
    ("SOFIM-curvature", "rho", "0"),
    ("SOFIM-curvature", "hessians", [["2", "2"], ["1/10", "30"]]),
    ("SOFIM-curvature", "hessians", []),
    ("ADAF-P3.3", "x", "0"),
    ("ADAF-P3.3", "alpha", "2"),
    ("ADAF-P3.3", "alpha", "1/1000"),
    ("ADAF-P3.3", "lam", "1"),
    ("ADAF-P3.4", "x", "0"),
    ("ADAF-P3.4", "beta", "9/10"),
    ("ADAF-P3.4", "K", "2"),
    ("ADAF-P3.4", "q", "16"),
    ("ADAF-regret", "x", "1/2"),
    ("ADAF-regret", "alpha", "1/1000"),
    ("ADAF-regret", "lam", "1"),
    ("ADAF-regret", "K", "2"),
    ("ADAF-regret", "q", "8"),
    ("ADAF-inverse-error", "d", ["1", "1"]),
    ("ADAF-inverse-error", "d", ["2", "1"]),
    ("ADAF-inverse-error", "lam", "1"),
    ("ADAF-inverse-error", "epsilon", "-1/1000"),
    ("ADAF-inverse-error", "C", "1000000"),
]


def _instance(claim):
    return f"counterexample to {claim}"


def _tripled(data):
    return [[times(3)(x) for x in row] for row in data]


def _thirds(data):
    return [[times(Fraction(1, 3))(x) for x in row] for row in data]


_ROOT = STORED[SMALL["inverse-root"]]

#: Edits that need a particular certificate, or two fields at once.
SPECIAL = [
    edited("polar factor, Cauchy 7x5", "radius", times(Fraction(1, 2))),
    edited("inverse root, Hilbert 8x8", "radius", times(Fraction(1, 2))),
    edited(SMALL["inverse-root"], "P", at(moved(Fraction(1, 2**220)), 0, 2)),
    {**STORED[SMALL["range"]], "claim": "JORDAN-slope"},
    {**STORED[SMALL["polar"]], "M": [], "K": [], "Q": []},
    {**STORED["counterexample to FISMO-T4.1-in-algorithm"], "a": [["1", "1"], ["1", "1"]], "f": ["1", "1"]},
    {**_ROOT, "K": _tripled(_ROOT["K"]), "X": _thirds(_ROOT["X"]), "k": times(3)(_ROOT["k"])},
]

BAD = [edited(SMALL[kind], field, change) for kind, field, change in EDITS] + [
    edited(_instance(claim), field, lambda _, value=value: value) for claim, field, value in HARMLESS
]
BAD += SPECIAL
GOOD = [STORED[name] for name in (*SMALL.values(), *COUNTEREXAMPLES, "JORDAN-slope slope 0 1 -160 484.8764")]


@pytest.mark.claim(
    "JORDAN-range", "JORDAN-slope", "POLAR-enclosure", "FISMO-D.2-needed", "KO-double-exponent"
)
def test_run_alone_it_checks_everything_stored_and_says_so_line_by_line():
    status, lines = run_checker([])
    assert status == 0, lines
    assert len(lines) == len(STORED) + 1
    assert all(line.startswith("checked ") for line in lines[:-1])
    assert lines[-1] == f"{len(STORED)} certificates, 0 failed"


def test_it_imports_nothing_but_the_standard_library():
    tree = ast.parse(SOURCE)
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert not {"importlib", "subprocess", "os", "ctypes"} & names


def test_what_is_stored_is_what_the_export_writes():
    for name, content in files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == content, name
    growth = (FOLDER / "growth.json").read_text(encoding="utf-8")
    assert text(json.loads(growth)["certificates"]) == growth


@pytest.mark.parametrize("kind", sorted(CHECK.KINDS))
def test_every_kind_has_a_small_certificate_that_checks(kind):
    assert STORED[SMALL[kind]]["kind"] == kind
    assert refused(STORED[SMALL[kind]]) is None


def test_every_refutation_that_the_checker_knows_is_stored_and_checks():
    assert {STORED[name]["claim"] for name in COUNTEREXAMPLES} == set(CHECK.REFUTED)
    assert [refused(STORED[name]) for name in COUNTEREXAMPLES] == [None] * len(COUNTEREXAMPLES)


@pytest.mark.parametrize("index", range(len(BAD)))
def test_an_edited_certificate_is_refused(index):
    assert refused(BAD[index]) is not None, BAD[index]


def test_every_field_is_edited_somewhere():
    edited_fields = {(SMALL[kind], field) for kind, field, _ in EDITS}
    edited_fields |= {(_instance(claim), field) for claim, field, _ in HARMLESS}
    for name in (*SMALL.values(), *COUNTEREXAMPLES):
        fields = set(STORED[name]) - {"id", "claim", "kind"}
        assert {field for owner, field in edited_fields if owner == name} == fields


@pytest.mark.parametrize("name", [*SMALL.values(), *COUNTEREXAMPLES])
def test_claim_kind_and_names_of_fields_are_not_free(name):
    record = STORED[name]
    others = {other["claim"] for other in STORED.values() if other["kind"] == record["kind"]} - {
        record["claim"]
    }
    for claim in {*others, "FISMO-RATE-T6", "", None}:
        accepted = refused({**record, "claim": claim}) is None
        assert not accepted, f"{name} passes for {claim}"
    for kind in {*CHECK.KINDS, "counterexample", "proof", None} - {record["kind"]}:
        assert refused({**record, "kind": kind}) is not None
    for field in set(record) - {"id"}:
        assert refused({key: value for key, value in record.items() if key != field}) is not None
    assert "fields must be" in refused({**record, "note": "1"})


@pytest.mark.parametrize(
    "value", [0.5, 1, None, True, "", "1/0", "1e5", "nan", "inf", "0x1p", "--1", {}, "1.", "١"]
)
def test_what_is_not_a_number_is_named(value):
    assert "is not a number" in refused({**STORED[_instance("KO-double-exponent")], "x": value})


def test_numbers_are_read_exactly():
    tenth = 0.1
    read = CHECK.numbers(["-3/4", "0.68183", "-12", "0x1.8p-1", tenth.hex()])
    assert read == [Fraction(-3, 4), Fraction(68183, 100000), Fraction(-12), Fraction(3, 4), Fraction(tenth)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "JSONDecodeError"),
        ("{", "JSONDecodeError"),
        ("[]", "AttributeError"),
        ('{"schema": 1}', "KeyError: 'certificates'"),
        ('{"schema": 2, "certificates": []}', "schema must be 1"),
        ('{"schema": 1, "certificates": []}', "no certificates"),
        ('{"schema": 1, "schema": 1, "certificates": []}', "a field is given twice"),
        ('{"schema": 1, "certificates": [1]}', "TypeError"),
        ('{"schema": 1, "certificates": [{"id": "x"}]}', "no 'None' about 'None' is known"),
    ],
)
def test_a_malformed_file_is_a_named_error(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_text(content, encoding="utf-8")
    status, lines = run_checker([path])
    assert status == 1
    assert lines[0].startswith("FAILED ")
    assert message in lines[0]


def test_nothing_to_check_is_an_error(tmp_path):
    alone = tmp_path / "checker.py"
    alone.write_text(SOURCE, encoding="utf-8")
    assert run_checker([], checker=alone) == (1, ["FAILED: no certificates, 0 failed"])
    status, lines = run_checker([tmp_path / "missing.json"])
    assert status == 1
    assert "FileNotFoundError" in lines[0]


def test_one_bad_certificate_among_good_ones_fails_the_run_by_name(tmp_path):
    good, bad = STORED[_instance("ADAF-P3.3")], {**STORED[_instance("ADAF-P3.3")], "id": "edited", "lam": "1"}
    path = tmp_path / "mixed.json"
    path.write_text(text([good, bad]), encoding="utf-8")
    status, lines = run_checker([path])
    assert status == 1
    assert lines[0].startswith("checked counterexample to ADAF-P3.3")
    assert lines[1] == "FAILED edited: Refused: the instance does not show it"
    path.write_text(text([good, good]), encoding="utf-8")
    status, lines = run_checker([path])
    assert status == 1
    assert "two certificates have this name" in lines[1]


#: Faults planted in the checker: the kind of certificate that shows it, what is replaced, and by what.
PLANTED = {
    "errors are not raised": ("polar", "if condition is not True:", "if False:"),
    "radius not compared": ("polar", "error <= radius <= NARROW, ", "radius <= NARROW, "),
    "wide polar radius": ("polar", "need(error <= radius <= NARROW,", "need(error <= radius,"),
    "wide root radius": ("inverse-root", "error <= radius <= NARROW * norm(X)", "error <= radius"),
    "one inverse forgotten": (
        "polar",
        "K, k) / k + norm(plus(product(Q, K)",
        "K, k) + norm(plus(product(Q, K)",
    ),
    "isometry not compared": ("polar", "+ norm(plus(product(Q, K), F(-1), M)) / k", ""),
    "root not compared": ("inverse-root", "+ norm(plus(product(X, K), F(-1), eye(len(K)))) / k", ""),
    "definiteness not checked": (
        "inverse-root",
        "need(len(K) > 0 and k > 0 and definite,",
        "need(len(K) > 0 and k > 0,",
    ),
    "any pivot": ("inverse-root", "all(pivot > 0 for pivot", "all(pivot != 0 for pivot"),
    "symmetry not checked": ("eigenvalues", "turned(A) == A and all(", "all("),
    "symmetry of N not checked": ("inverse-root", "turned(N) == N and defect < k", "defect < k"),
    "distant root": ("inverse-root", "turned(N) == N and defect < k", "turned(N) == N"),
    "defect is zero": ("polar", "defect = norm(plus(N, F(-1), product(K, K))) / k", "defect = F(0)"),
    "lower bound not checked": ("eigenvalues", "need(positive_definite(plus(A, -lower, one)) and ", "need("),
    "upper bound not checked": ("eigenvalues", " and positive_definite(above)", ""),
    "loose bounds": ("eigenvalues", 'need(tight, "the bounds', 'need(True, "the bounds'),
    "one loose bound": ("eigenvalues", "quotient(A, low) - lower <= slack and ", ""),
    "boxes need not end": ("range", "need(at == upper,", "need(at <= upper,"),
    "boxes may overshoot": ("range", "need(at == upper,", "need(at >= upper,"),
    "boxes not looked at": ("range", "        need(inside, f", "        need(True, f"),
    "one test suffices always": (
        "range",
        "inside = value.within(least, most) or tangent",
        "inside = True or tangent",
    ),
    "end of the wrong sign": ("range", "(change.low >= 0 or change.high <= 0)", "(True)"),
    "range need not be attained": (
        "range",
        "low.within(least, least + slack) and high.within(most - slack, most)",
        "True",
    ),
    "one end need not be attained": ("range", " and high.within(most - slack, most)", ""),
    "points outside": ("range", "need(all(bounds[0] <= x <= bounds[1] for x in attained),", "need(True,"),
    "stages may be missing": (
        "range",
        "intervals[1:], boxes, strict=True",
        "intervals[1:], boxes, strict=False",
    ),
    "only the upper bound": ("range", "least * ONE <= self.low and ", ""),
    "interval too narrow": ("range", "-(-max(ends) >> BITS)", "-(-min(ends) >> BITS)"),
    "coefficient off": ("range", 'F("2.0315")', 'F("2.0325")'),
    "slope without a factor": ("range", "z * (z * (5 * c) + 3 * b) + a", "z * (z * (5 * c) + b) + a"),
    "gradients of any size": (
        "growth",
        "need(mu > 0 and sum(x * x for row in G for x in row) <= b * m * n * mu,",
        "need(True,",
    ),
    "any level": ("growth", "need((b, level) in {(F(3), F(94)), (F(10), F(10**7))},", "need(True,"),
    "level not compared": ("growth", ".high < ONE for X", ".high > 0 for X"),
    "damping forgotten": ("growth", "n * mu, eye(m)", "F(0), eye(m)"),
    "instances not looked at": (
        "counterexample",
        "need(kind in KINDS or all(x > 0 for x in shown),",
        "need(True,",
    ),
    "zero counts as more": ("counterexample", "all(x > 0 for x in shown)", "all(x >= 0 for x in shown)"),
    "any of the conditions": ("counterexample", "all(x > 0 for x in shown)", "any(x > 0 for x in shown)"),
    "statement of another claim": (
        "range",
        'need(str(fields.get("statement", claim)).split()[:1] == [claim],',
        "need(True,",
    ),
    "drift not checked": ("counterexample", "need(drift <= 1 - z and k.denominator == 1,", "need(True,"),
    "momentum moves": ("counterexample", "(beta == 1, K, q,", "(K, q,"),
    "alpha of any size": ("counterexample", "(lam, alpha, 1 - alpha,", "(lam, alpha,"),
    "alternation not checked": ("counterexample", "-e[0] * e[1], -e[1] * e[2], ", ""),
    "points in any order": ("counterexample", "return l, *gaps, ", "return l, "),
    "theorem not checked": ("counterexample", "sum(f) == len(f), holds, moves", "sum(f) == len(f), moves"),
    "algorithm not checked": ("counterexample", "sum(f) == len(f), holds, moves", "sum(f) == len(f), holds"),
    "trace not checked": ("counterexample", "sum(f) == len(f), holds, moves", "holds, moves"),
    "floats not exact": ("counterexample", "(F(m), F(r)) == (M, rho), ", ""),
    "Newton not compared": ("counterexample", ", not any(proportional(step, s) for s in newton)", ""),
    "sign of the weights": ("counterexample", "*(x for row in a for x in row), ", ""),
    "sign of the roots": ("counterexample", "return *g, *r, sum", "return sum"),
    "sign of epsilon": ("counterexample", "return lam, epsilon, C, (d[0]", "return lam, C, (d[0]"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_planted_in_the_checker_lets_an_edited_certificate_pass(fault):
    kind, old, new = PLANTED[fault]
    assert SOURCE.count(old) == 1, f"{old!r} stands {SOURCE.count(old)} times in the checker"
    checker = load(SOURCE.replace(old, new))
    good, bad = ([record for record in records if record["kind"] == kind] for records in (GOOD, BAD))
    noticed = any(refused(record, checker) is None for record in bad)
    noticed = noticed or any(refused(record, checker) is not None for record in good)
    assert noticed, "nothing here notices the fault"


#: Faults in the running of it: what the program must say of a file that holds one bad certificate, or none.
PLANTED_IN_MAIN = {
    "failures not counted": ("                failed += 1\n                print", "                print"),
    "status always 0": ("return 0 if names and not failed else 1", "return 0"),
    "nothing passes": ("return 0 if names and not failed else 1", "return 0 if not failed else 1"),
    "empty files pass": (" and len(certificates) > 0", ""),
    "schema not read": ('need(content.get("schema") == SCHEMA,', "need(True,"),
    "names may repeat": ("need(name not in names,", "need(True,"),
    "fields may repeat": ("need(len(dict(pairs)) == len(pairs),", "need(True,"),
}


@pytest.mark.parametrize("fault", PLANTED_IN_MAIN)
def test_a_fault_planted_in_the_program_changes_an_exit_status(tmp_path, fault):
    old, new = PLANTED_IN_MAIN[fault]
    assert SOURCE.count(old) == 1
    program = tmp_path / "checker.py"
    program.write_text(SOURCE.replace(old, new), encoding="utf-8")
    good, bad = STORED[_instance("ADAF-P3.3")], {**STORED[_instance("ADAF-P3.3")], "lam": "1"}
    one = text([good])
    contents = (
        text([bad]),
        text([good, good]),
        text([]),
        one.replace('"schema": 1', '"schema": 2'),
        one.replace('"claim"', '"claim": "x", "claim"'),
    )
    wrong = []
    for k, content in enumerate(contents):
        path = tmp_path / f"{k}.json"
        path.write_text(content, encoding="utf-8")
        files = [path]
        if not json.loads(content)["certificates"]:
            other = tmp_path / "good.json"
            other.write_text(one, encoding="utf-8")
            files = [path, other]
        wrong.append(run_checker(files, checker=program)[0] == 0)
    wrong.append(run_checker([], checker=program)[0] == 0)
    assert any(wrong), "no exit status shows the fault"
