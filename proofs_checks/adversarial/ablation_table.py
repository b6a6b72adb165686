"""All assumption ablations: which pairs of claim and assumption have a generator."""

from proofs_checks.adversarial import (
    ablation_adafisher,
    ablation_factors,
    ablation_muon,
    ablation_polar,
    ablation_rates,
    ablation_sofim,
    ablation_testing,
)
from proofs_checks.adversarial.ablation import Study

__all__ = ["STUDIES", "studied_pairs"]

#: Every study, by topic.
STUDIES: tuple[Study, ...] = (
    *ablation_factors.STUDIES,
    *ablation_rates.STUDIES,
    *ablation_muon.STUDIES,
    *ablation_polar.STUDIES,
    *ablation_sofim.STUDIES,
    *ablation_adafisher.STUDIES,
    *ablation_testing.STUDIES,
)


def studied_pairs() -> list[tuple[str, str]]:
    """Pairs (claim, assumption) for which a generator violates the assumption alone, in order of studies."""
    return [(study.claim, assumption) for study in STUDIES for assumption in study.how]
