"""The page: complete, self-contained, safe to open, readable without colour."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import proofs_checks.report.html
from proofs_checks.evidence import Kind, Scope, Tier
from proofs_checks.ratios import EXPLICIT_BUDGET, ORDER_ONE
from proofs_checks.report import write_report
from proofs_checks.report.html import gauge_position
from proofs_checks.report.numbers import count, duration, moment, number, plain_number, rounded_down
from proofs_checks.report.svg import draw
from proofs_checks.report.typography import prose, spell
from proofs_checks.results import (
    AblationResult,
    ClaimResult,
    Environment,
    EvidenceResult,
    Headline,
    RatioResult,
    Status,
    TwinResult,
    VerifyResults,
)

HOSTILE = '<script>alert("x")</script>'
VOID = {"meta", "input", "br", "link", "img", "hr", "wbr"}


def ratio(value: float, *, passed: bool = True) -> RatioResult:
    return RatioResult(name="recursion", error=value, budget=1.0, value=value, threshold=1.0, passed=passed)


def finding(**changes: object) -> EvidenceResult:
    plain = {
        "path": "symbolic.kim_oh:theorem2",
        "kind": Kind.SYMBOLIC,
        "scope": Scope.WHOLE,
        "tier": Tier.FAST,
        "refutes": False,
        "holds": True,
        "summary": "expanded for k = 1, 2, 3; remainder 0. Trusted: the SVD exists; Birkhoff-Hopf",
        "ratios": [ratio(0.25)],
        "faults": ["exponent off by one"],
        "seconds": 0.01,
    }
    return EvidenceResult.model_validate(plain | changes)


def claim(id: str, status: Status, **changes: object) -> ClaimResult:
    plain = {
        "id": id,
        "section": "Polar factor",
        "statement": f"Statement of {id}.",
        "source": "derived",
        "kind": "identity",
        "aim": "symbolic",
        "reconstructed": False,
        "recorded": status,
        "derived": status,
        "agrees": True,
        "evidence": [] if status is Status.UNTESTED else [finding()],
        "blocked": "a training run on two machines" if status is Status.UNTESTED else None,
    }
    return ClaimResult.model_validate(plain | changes)


COUNTEREXAMPLE = {"M": [["1/2", "0"], ["0", "0x1.8p+1"]], "gap": 0.111, "nested": {"k": 2}}


def everything() -> list[ClaimResult]:
    """One claim of every status, and every optional feature at least once."""
    exact = finding(
        refutes=True, kind=Kind.CERTIFIED, summary="gap 0.111 at x = 1/2", counterexample=COUNTEREXAMPLE
    )
    broken = finding(holds=False, ratios=[ratio(math.nan, passed=False)], summary="remainder x^2")
    return [
        claim("KO-theorem2", Status.PROVED, reconstructed=True),
        claim("PE-rate", Status.CERTIFIED, evidence=[finding(scope=Scope.REGION, tightness=0.99996)]),
        claim(
            "PE-optimal",
            Status.SUPPORTED,
            evidence=[finding(ratios=[ratio(0.1)] * 5)],
            pending=["symbolic.x:y"],
        ),
        claim("KO-double-exponent", Status.REFUTED, evidence=[exact], replaced_by="KO-theorem2"),
        claim("FISMO-RATE-vacuity", Status.VACUOUS),
        claim("FISMO-FUTURE", Status.UNTESTED, provenance=["2nd"]),
        claim(
            "KO-identity",
            Status.FAILING,
            agrees=False,
            evidence=[broken],
            reason="it does not hold: remainder x^2",
        ),
    ]


def results(
    claims: list[ClaimResult], twins: list[TwinResult] | None = None, **changes: object
) -> VerifyResults:
    plain = {
        "fisherproof": "0.1.0",
        "headline": Headline.of(claims),
        "tier": Tier.FAST,
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 41.2,
        "environment": Environment(
            python="3.11", platform="Linux", processor="", cores=2, packages={"numpy": "2.4", "torch": "2.13"}
        ),
        "counts": {status: sum(c.derived is status for c in claims) for status in Status},
        "claims": claims,
        "twins": [twin("float64"), twin("bfloat16")] if twins is None else twins,
    }
    return VerifyResults.model_validate(plain | changes)


def twin(dtype: str, *, value: float = 0.01) -> TwinResult:
    worst = ratio(value, passed=value <= 1)
    return TwinResult(
        name="polar.polar_factor",
        dtype=dtype,
        device="cpu",
        inputs=9,
        worst=worst,
        worst_input="rank one, 4x6",
    )


class Page(HTMLParser):
    """What the tests ask about a page: elements with attributes, nesting errors, visible text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.errors: list[str] = []
        self.unlabelled: list[dict[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.errors += [f"{tag} is never closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "input" and "label" not in self._open:
            self.unlabelled.append(dict(self.elements[-1][1]))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.errors.append(f"</{tag}> at {self.getpos()} closes something else")

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def written(run: VerifyResults, folder: Path) -> str:
    return write_report(run, folder).read_text(encoding="utf-8")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out where they are not the subject: they take most of the time."""
    monkeypatch.setattr(proofs_checks.report.html, "draw_all", lambda results: [])


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(results(everything()), tmp_path_factory.mktemp("report") / "made" / "on demand")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_well_formed(page: Page):
    assert page.errors == []


def test_every_claim_is_an_anchor_once_and_no_id_is_used_twice(page: Page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for entry in everything():
        assert entry.id in ids


def test_every_link_into_the_page_has_a_target(page: Page):
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    targets = {attributes["href"] for attributes in page.all("a")}
    assert {target.removeprefix("#") for target in targets} <= ids


def test_nothing_is_loaded_from_anywhere(html: str, page: Page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert attributes.get(name, "#").startswith("#"), f"<{tag} {name}={attributes[name]!r}>"
    style = "".join(re.findall(r"<style>(.*?)</style>", html, flags=re.DOTALL))
    assert "@import" not in style
    assert "url(" not in style
    assert not page.all("link")


def test_every_verdict_is_said_in_words(page: Page):
    for status in Status:
        assert page.text.count(status.value) > 1, status


def test_the_first_lines_say_what_is_not_known(page: Page):
    first = " ".join(page.text.partition("Findings worth knowing")[0].split())
    assert "7 claims about Fisher-structured optimizers" in first
    assert "1 untested claim" in first
    assert "1 trusted number that no evidence verifies" in first
    assert "1 refuted claim with a finite counterexample" in first
    assert "2 textbook facts that proofs take on trust" in first
    assert "1 statement whose published constants could not be read" in first
    assert "This run does not agree with the ledger" in first
    assert "2 January 2026, 03:04 UTC" in first


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({}, {}),
        ({"status": Status.UNTESTED}, {"untested": 1}),
        ({"status": Status.UNTESTED, "provenance": ["src"]}, {"untested": 1}),
        ({"status": Status.UNTESTED, "provenance": ["2nd"]}, {"untested": 1, "trusted_numbers": 1}),
        ({"status": Status.UNTESTED, "provenance": ["drv", "rec"]}, {"untested": 1, "trusted_numbers": 1}),
        ({"status": Status.UNTESTED, "provenance": ["2nd"], "pending": ["symbolic.x:y"]}, {}),
        ({"provenance": ["2nd"]}, {}),
        ({"status": Status.FAILING, "provenance": ["2nd"]}, {"trusted_numbers": 1}),
        ({"status": Status.REFUTED}, {"refuted": 1}),
        ({"status": Status.REFUTED, "instance": {"x": "1/2"}}, {"refuted": 1, "counterexamples": 1}),
        ({"status": Status.REFUTED, "instance": {"x": [1, {"y": math.inf}]}}, {"refuted": 1}),
        ({"status": Status.REFUTED, "instance": {"x": "nan"}}, {"refuted": 1}),
        ({"instance": {"x": "1/2"}}, {}),
    ],
)
def test_the_headline_counts_what_is_trusted_untested_and_refuted(changes, counted):
    fields = dict(changes)
    instance = fields.pop("instance", None)
    if instance:
        fields["evidence"] = [finding(refutes=True, counterexample=instance)]
    nothing = {"trusted_numbers": 0, "untested": 0, "refuted": 0, "counterexamples": 0}
    headline = Headline.of([claim("X-one", fields.pop("status", Status.PROVED), **fields)])
    assert headline.model_dump() == nothing | counted


def test_a_headline_that_does_not_follow_from_the_claims_is_refused():
    run = results(everything())
    flattered = run.headline.model_copy(update={"untested": 0})
    with pytest.raises(ValueError, match="headline"):
        VerifyResults.model_validate(run.model_dump() | {"headline": flattered.model_dump()})


@pytest.mark.usefixtures("no_figures")
def test_an_assumption_is_shown_with_what_became_of_the_claim_without_it(tmp_path: Path):
    without = [
        AblationResult(
            claim="KO-bound", assumption="KO-A-smooth", broken=True, factor=3.5, tries=7, how="a kink"
        ),
        AblationResult(
            claim="KO-bound", assumption="KO-A-taylor", broken=False, factor=0.25, tries=1, how="others"
        ),
    ]
    entries = [
        claim("KO-bound", Status.PROVED),
        claim("X-ablation", Status.SUPPORTED, evidence=[finding(ablations=without)]),
        claim("KO-theorem3", Status.PROVED),
    ]
    text = " ".join(Page(written(results(entries), tmp_path)).text.split())
    assert "needed: without it the bound is exceeded 3.5-fold (7 tries: a kink)" in text
    assert "not needed in the tested range, at most 0.25 of the bound (1 try: others)" in text
    assert "the claim itself is untested" in text


@pytest.mark.usefixtures("no_figures")
def test_the_command_names_the_tier_that_the_evidence_needs(tmp_path: Path):
    slow = claim("X-slow", Status.PROVED, evidence=[finding(), finding(tier=Tier.FULL)])
    waiting = claim("X-waiting", Status.PROVED, pending=["symbolic.x:y"])
    text = Page(written(results([slow, waiting]), tmp_path)).text
    assert "fisherproof verify --claims X-slow --tier full" in text
    assert "fisherproof verify --claims X-waiting --tier nightly" in text


def test_what_is_taken_on_trust_is_listed_with_the_claims_that_rest_on_it(page: Page):
    listed = page.text.partition("Taken on trust")[2].partition("Reconstructed constants")[0]
    for words in ("the SVD exists", "Birkhoff-Hopf", "KO-theorem2", "PE-rate"):
        assert words in listed


def test_a_disagreement_says_which_and_why(page: Page):
    needs = page.text.partition("Needs attention")[2].partition("Findings worth knowing")[0]
    assert "KO-identity" in needs
    assert "it does not hold: remainder" in needs


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_agrees_says_so(tmp_path: Path):
    text = Page(written(results(everything()[:3]), tmp_path)).text
    assert "agrees with the ledger" in text
    assert "Needs attention" not in text


@pytest.mark.usefixtures("no_figures")
def test_a_claim_outside_the_run_is_named_but_not_linked(tmp_path: Path):
    refuted = next(entry for entry in everything() if entry.derived is Status.REFUTED)
    page = Page(written(results([refuted]), tmp_path))
    assert "#KO-theorem2" not in {attributes["href"] for attributes in page.all("a")}
    assert "KO-theorem2" in page.text
    assert "φ(x)" in page.text  # the statement comes from the ledger


def test_a_refutation_shows_its_instance_and_what_holds_instead(page: Page):
    refutation = page.text.partition("Refuted as stated")[2].partition("Reconstructed constants")[0]
    for words in ("gap 0.111 at x = 1/2", "0x1.8p+1", "(3)", "KO-theorem2", "Statement of KO-theorem2."):
        assert words in refutation


def test_an_untested_claim_says_what_blocks_it(page: Page):
    assert page.text.count("a training run on two machines") > 1


def test_each_claim_with_evidence_names_the_command_that_reproduces_it(page: Page):
    for entry in everything():
        if entry.evidence:
            assert f"fisherproof verify --claims {entry.id}" in page.text


def test_figures_have_a_title_a_caption_and_a_description(page: Page):
    drawings = page.all("svg")
    assert len(drawings) == len(page.all("figcaption")) == 6
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set(drawing["aria-labelledby"].split()) <= ids


def test_figures_take_their_colours_from_the_page(html: str):
    drawings = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    colours = re.findall(r"#[0-9a-f]{6}\b", "".join(drawings))
    assert colours == []


def test_controls_have_labels(page: Page):
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("input")
    assert page.unlabelled == []


@pytest.mark.usefixtures("no_figures")
def test_hostile_text_is_shown_and_never_run(tmp_path: Path):
    evidence = finding(
        refutes=True,
        kind=Kind.CERTIFIED,
        summary=HOSTILE,
        counterexample={HOSTILE: [[HOSTILE, HOSTILE]]},
        faults=[HOSTILE],
        ratios=[ratio(0.5).model_copy(update={"name": HOSTILE})],
        figures={HOSTILE: 1.0},
    )
    entry = claim(
        "X-hostile",
        Status.REFUTED,
        statement=f"`{HOSTILE}` x_{{{HOSTILE}}}",
        source=HOSTILE,
        section=HOSTILE,
        evidence=[evidence],
        replaced_by="X-other",
        agrees=False,
        reason=HOSTILE,
    )
    other = claim("X-other", Status.UNTESTED, blocked=HOSTILE)
    run = results([entry, other], problems=[HOSTILE], warnings=[HOSTILE], started=HOSTILE)
    html = written(run, tmp_path)
    assert HOSTILE not in html
    page = Page(html)
    assert page.errors == []
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text


def test_figures_that_are_not_numbers_are_shown_as_such(tmp_path: Path):
    bad = [ratio(math.nan, passed=False), ratio(math.inf, passed=False)]
    evidence = finding(
        holds=False, ratios=bad, figures={"worst": math.nan, "limit": -math.inf}, tightness=math.nan
    )
    entry = claim("X-bad", Status.FAILING, agrees=False, evidence=[evidence])
    read_back = VerifyResults.model_validate_json(
        results([entry], [twin("float32", value=math.inf)]).model_dump_json()
    )
    page = Page(written(read_back, tmp_path))
    assert page.errors == []
    assert "not a number of 1, fails" in page.text
    assert "∞ of 1, fails" in page.text


def test_a_run_of_nothing_is_a_page(tmp_path: Path):
    page = Page(written(results([], []), tmp_path))
    assert page.errors == []
    assert "No function was compared in this run." in page.text


@pytest.mark.usefixtures("no_figures")
def test_an_old_report_is_replaced(tmp_path: Path):
    first = written(results(everything()[:1]), tmp_path)
    assert written(results(everything()[1:2]), tmp_path) != first


def test_the_same_run_gives_the_same_page(tmp_path: Path, html: str):
    assert written(results(everything()), tmp_path) == html


@pytest.mark.parametrize(
    ("x", "plain", "typeset"),
    [
        (0.0, "0", "0"),
        (12288.0, "12288", "12288"),
        (484.876, "485", "485"),
        (0.25, "0.25", "0.25"),
        (3.14159e-7, "3.14e-7", "3.14 × 10⁻⁷"),
        (1e16, "1e16", "10¹⁶"),
        (-2.5e9, "-2.5e9", "-2.5 × 10⁹"),
        (math.inf, "∞", "∞"),
        (-math.inf, "−∞", "−∞"),
        (math.nan, "not a number", "not a number"),
    ],
)
def test_numbers_are_written_for_people(x: float, plain: str, typeset: str):
    assert (plain_number(x), number(x)) == (plain, typeset)


@pytest.mark.parametrize(("x", "text"), [(0.99996, "0.9999"), (1.0, "1"), (math.nan, "not a number")])
def test_a_bound_that_is_nearly_attained_is_not_called_attained(x: float, text: str):
    assert rounded_down(x) == text


@pytest.mark.parametrize(("n", "text"), [(0, "no claims"), (1, "1 claim"), (2, "2 claims")])
def test_counts_are_words(n: int, text: str):
    assert count(n, "claim") == text


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "0.25 s"), (37.04, "37.0 s"), (245.0, "4 min 05 s")])
def test_durations_have_units(seconds: float, text: str):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [("2026-01-02T03:04:05+00:00", "2 January 2026, 03:04 UTC"), ("long ago", "long ago")],
)
def test_moments_are_dates_and_times(text: str, words: str):
    assert moment(text) == words


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("‖P_t⁻¹‖₂ ≤ K_P", "‖P<sub>t</sub>⁻¹‖₂ ≤ K<sub>P</sub>"),
        ("δ₀^((k+1)^q)", "δ₀<sup>(k+1)<sup>q</sup></sup>"),
        ("P^-1/2 S^-T x^2/2", "P<sup>-1/2</sup> S<sup>-T</sup> x<sup>2</sup>/2"),
        ("min_{t<T}", "min<sub>t&lt;T</sub>"),
        ("factor_scaling and max_steps", "factor_scaling and max_steps"),
        ("`a_b` & c", "<code>a_b</code> &amp; c"),
        ("x^(unbalanced", "x^(unbalanced"),
    ],
)
def test_indices_are_lowered_and_powers_raised(text: str, html: str):
    assert str(prose(text)) == html


def test_counterexamples_keep_every_bit():
    assert "0x1.8p+1" in spell("0x1.8p+1")
    assert "(3)" in spell("0x1.8p+1")
    assert spell(["1/2", 3, None]) == "(1/2, 3, null)"
    assert spell([[1, 2], [3, 4]]).count("<tr>") == 2


@pytest.mark.parametrize(
    ("share", "percent"), [(0.0, 0), (1e-300, 0), (1.0, 85.7), (math.inf, 100), (math.nan, 100)]
)
def test_a_gauge_is_empty_at_zero_and_full_where_there_is_no_number(share: float, percent: float):
    for threshold in (EXPLICIT_BUDGET, ORDER_ONE):
        assert gauge_position(share * threshold, threshold) == percent


def test_figures_do_not_share_ids():
    first, second = (draw(name, "t", alt="a", paint=_curve).svg for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", svg)) <= own


def _curve(axes) -> str:
    axes.plot([1, 2], [3, 4], "o-")
    return "caption"
