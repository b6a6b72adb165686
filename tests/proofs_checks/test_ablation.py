"""Assumption ablation: verdicts, audits of the generators, and the rule that no pair is passed over."""

import math

import numpy as np
import pytest

from proofs_checks.adversarial.ablation import Study, ablate, joined, tries
from proofs_checks.adversarial.ablation_process import drift, extremes, run
from proofs_checks.adversarial.ablation_scalar import drive, family
from proofs_checks.adversarial.ablation_table import STUDIES, studied_pairs
from proofs_checks.adversarial.processes import aligned, rank_one_policies
from proofs_checks.adversarial.verdicts import factor_rounding, same
from proofs_checks.ledger import LedgerError, load_claims, load_exemptions, read_exemptions
from proofs_checks.ledger.ablation import lint_ablation, nothing_to_break
from reference import fismo, muon
from tests.proofs_checks.test_ledger import _claim

A, B = "TEST-A-one", "TEST-A-two"
ROUNDING = 2.0**-40


def _study(*, broken=2.0, inside=0.5, not_needed=frozenset(), spill=False, idle=False):
    """A claim ``left <= 1`` on two instances; `spill` violates both assumptions at once, `idle` none."""

    def draw(violated):
        outside = A in violated
        return tries(
            [inside, broken if outside else inside],
            [1.0, 1.0],
            rounding=ROUNDING,
            holds={A: not outside or idle, B: B not in violated and not (spill and outside)},
        )

    return Study("TEST-one", draw, {A: "so"}, not_needed)


def _failed(finding):
    return [ratio.name for ratio in finding.ratios if not ratio.passed]


def test_a_claim_that_breaks_without_its_assumption_needs_it():
    finding = ablate([_study()], fault=None)
    assert finding.holds
    (verdict,) = finding.ablations
    assert (verdict.broken, int(verdict.factor), verdict.tries) == (True, 2, 2)


@pytest.mark.parametrize("reached", [0.5, 1.0, 1.0 + ROUNDING])
def test_a_claim_that_holds_without_its_assumption_does_not_need_it(reached):
    finding = ablate([_study(broken=reached, not_needed=frozenset({A}))], fault=None)
    assert finding.holds
    (verdict,) = finding.ablations
    assert not verdict.broken
    largest = min(reached, 1.0)
    assert verdict.factor == largest


@pytest.mark.parametrize(
    ("study", "named"),
    [
        (_study(broken=0.5), "breaks"),
        (_study(broken=1.0 + 4 * ROUNDING), "breaks"),
        (_study(broken=math.nan), "breaks"),
        (_study(not_needed=frozenset({A})), "holds nevertheless"),
        (_study(broken=1.0 + 4 * ROUNDING, not_needed=frozenset({A})), "holds nevertheless"),
        (_study(broken=math.nan, not_needed=frozenset({A})), "holds nevertheless"),
        (_study(inside=1.5), "holds with every assumption"),
        (_study(inside=math.nan), "holds with every assumption"),
        (_study(spill=True), "satisfies the others"),
        (_study(idle=True), "every try violates it"),
    ],
)
def test_what_is_wrong_with_an_ablation_is_found(study, named):
    assert any(named in name for name in _failed(ablate([study], fault=None)))


@pytest.mark.parametrize(
    ("left", "right", "factor"),
    [(math.inf, 1.0, math.inf), (1.0, 0.0, math.inf), (0.123456, 0.1, 1.2345), (123456.0, 1.0, 123400.0)],
)
def test_factors_are_rounded_down(left, right, factor):
    study = Study(
        "TEST-one",
        lambda violated: tries(
            [left if violated else 0.0], [right], rounding=ROUNDING, holds={A: not violated}
        ),
        {A: "so"},
    )
    (verdict,) = ablate([study], fault=None).ablations
    assert verdict.broken
    assert verdict.factor == factor


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.claim)
def test_no_generator_passes_with_a_second_assumption_violated_or_with_none(study):
    assert any("violates it" in name for name in _failed(ablate([study], fault="nothing-violated")))
    if study.how.keys() - {next(iter(study.how))}:
        failed = _failed(ablate([study], fault="two-at-once"))
        assert sum("satisfies the others" in name for name in failed) == len(study.how)


def test_the_truth_of_every_assumption_of_a_studied_claim_is_checked():
    claims = load_claims()
    for study in STUDIES:
        if study.claim in claims:
            assert set(study.draw(frozenset()).holds) == set(claims[study.claim].assumptions), study.claim


# ---- the generators against the reference


@pytest.mark.parametrize("damping", ["algorithm", "theorem"])
@pytest.mark.parametrize("jacobi", [False, True])
def test_the_process_is_the_references_where_the_reference_accepts_it(damping, jacobi):
    C = rank_one_policies(3, 2)
    size = np.full(C.shape[1], 0.3)
    plan = {"size": size, "steps": 5, "gamma": 0.5, "mu": 0.1, "damping": damping}
    ours = run(C, **plan, jacobi=jacobi)
    theirs = aligned(C, **plan, order="jacobi" if jacobi else "gauss-seidel")
    for mine, reference in ((ours.P, theirs.P), (ours.Q, theirs.Q)):
        budget = factor_rounding(reference, steps=5) * float(np.linalg.norm(reference))
        assert same("factors", mine, reference, budget=budget).passed
    low, high = extremes(ours.P)
    assert (low <= high).all()
    assert (drift(ours.P) > 0).any()


def test_a_scaled_process_uses_gradients_of_unit_entries():
    C = rank_one_policies(2, 2)
    plan = {"size": np.full(C.shape[1], 0.01), "steps": 1, "gamma": 0.5, "mu": 0.1}
    ours = run(C, **plan, unit=True)
    theirs = fismo.update_factors(
        ours.G[0], ours.P[0], ours.Q[0], gamma=0.5, mu=0.1, damping="algorithm",
        order="gauss-seidel", factor_scaling="unit",
    )  # fmt: skip
    assert same("P", ours.P[1], theirs[0], budget=factor_rounding(theirs[0]) * 10).passed


@pytest.mark.parametrize("kind", ["smooth", "lower", "variance", "unbiased", "noise"])
def test_a_scalar_run_is_that_of_fismo_and_of_muon(kind):
    instance = family(kind, frozenset(), T=30, eta=0.01, beta=0.7)
    path = drive(instance)
    noise = path.momenta - instance.beta * np.vstack([np.zeros_like(path.momenta[:1]), path.momenta[:-1]])
    G = noise / (1 - instance.beta)
    state, V = fismo.init((G.shape[1], 1, 1)), muon.init((G.shape[1], 1, 1))
    for t in range(instance.T):
        update, state = fismo.step(G[t][:, None, None], state, beta=0.7, gamma=0.5, mu=1.0)
        step, V = muon.step(
            G[t][:, None, None], V, beta=0.7, nesterov=False, scale="none", orthogonalize="polar"
        )
        moved = np.abs(path.momenta[t]) > ROUNDING  # a momentum of zero up to rounding has no sign
        assert (update[moved, 0, 0] == path.directions[t][moved]).all()
        assert (step[moved, 0, 0] == path.directions[t][moved]).all()


def test_batches_of_tries_are_joined():
    one = tries([1.0], [2.0], rounding=0.0, holds={A: True})
    both = joined([one, tries([3.0, 4.0], [5.0, 6.0], rounding=0.0, holds={A: [True, False]})])
    assert both.left[:, 0].astype(int).tolist() == [1, 3, 4]
    assert both.holds[A].tolist() == [True, True, False]


# ---- no pair is passed over


def test_every_pair_has_a_generator_or_a_reason():
    assert list(lint_ablation(load_claims(), studied_pairs(), load_exemptions())) == []


def test_the_ledger_says_of_each_assumption_why_it_is_not_violated_alone():
    for (id, assumption), reason in load_exemptions().items():
        assert assumption in load_claims()[id].assumptions
        assert reason.strip()


def _rate(**fields):
    return _claim(**({"kind": "rate", "assumptions": [A], "evidence": ["symbolic.m:f"]} | fields))


@pytest.mark.parametrize(
    ("claim", "studied", "exempt", "named"),
    [
        (_rate(), [("TEST-one", A)], {}, None),
        (_rate(), [], {("TEST-one", A): "why"}, None),
        (_rate(kind="identity"), [], {}, None),
        (_rate(evidence=[], blocked="why"), [], {}, None),
        (_rate(replaced_by="TEST-two"), [], {}, None),
        (_rate(), [], {}, "no generator violates TEST-A-one alone"),
        (_rate(kind="inequality"), [], {}, "no generator"),
        (_rate(), [("TEST-one", A)], {("TEST-one", A): "why"}, "but a generator does it"),
        (_rate(), [("TEST-one", A), ("TEST-one", A)], {}, "defined twice"),
        (_rate(), [("TEST-one", A), ("TEST-one", B)], {}, "does not rest"),
        (_rate(), [("TEST-one", A), ("TEST-gone", A)], {}, "TEST-gone"),
    ],
)
def test_a_pair_without_generator_and_reason_is_found(claim, studied, exempt, named):
    problems = list(lint_ablation({claim.id: claim}, studied, exempt))
    assert len(problems) == (named is not None)
    assert all(named in problem for problem in problems)


def test_a_claim_with_nothing_to_break_says_why():
    assert nothing_to_break(_rate()) is None
    for claim, word in (
        (_rate(kind="identity"), "identity"),
        (_rate(evidence=[], blocked="why"), "untested"),
        (_rate(replaced_by="TEST-two"), "refuted"),
    ):
        assert word in (nothing_to_break(claim) or "")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[exempt]]\nclaim = 'TEST-on'\nassumptions = ['TEST-A-one']\nreason = 'r'\n", "nearest: TEST-one"),
        ("[[exempt]]\nclaim = 'TEST-one'\nassumptions = ['TEST-A-two']\nreason = 'r'\n", "does not rest"),
        ("[[exempt]]\nclaim = 'TEST-one'\nassumptions = []\nreason = 'r'\n", "field assumptions"),
        ("[[exempt]]\nclaim = 'TEST-one'\nassumptions = ['TEST-A-one']\n", "field reason"),
        (
            "[[exempt]]\nclaim = 'TEST-one'\nassumptions = ['TEST-A-one', 'TEST-A-one']\nreason = 'r'\n",
            "named twice",
        ),
        ("[[excuse]]\n", "unknown table 'excuse'"),
        ("[[exempt\n", "not valid TOML"),
    ],
)
def test_a_malformed_exemption_is_named(tmp_path, text, named):
    (tmp_path / "ablation.toml").write_text(text)
    with pytest.raises(LedgerError, match=r"ablation\.toml") as caught:
        read_exemptions(tmp_path, {"TEST-one": _rate()})
    assert named in str(caught.value)
