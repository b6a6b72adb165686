"""A GPU for the tests that need one: skipped where there is none, failed where one is demanded."""

import os

import pytest
import torch

__all__ = ["demand_cuda"]


def demand_cuda() -> torch.device:
    """The GPU; without one the test is skipped, or fails where FISHERPROOF_REQUIRE_GPU is 1."""
    if not torch.cuda.is_available():
        message = "needs a CUDA device"
        if os.environ.get("FISHERPROOF_REQUIRE_GPU") == "1":
            pytest.fail(f"{message}, and FISHERPROOF_REQUIRE_GPU=1 demands one")
        pytest.skip(message)
    return torch.device("cuda")
