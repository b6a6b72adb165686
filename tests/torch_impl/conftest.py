"""Where the twins are tested: the CPU always, a GPU where there is one or where one is demanded."""

import os

import pytest
import torch


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        message = "needs a CUDA device"
        if os.environ.get("FISHERPROOF_REQUIRE_GPU") == "1":
            pytest.fail(f"{message}, and FISHERPROOF_REQUIRE_GPU=1 demands one")
        pytest.skip(message)
    return torch.device(request.param)


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """For checks that only mean something on a GPU."""
    if not torch.cuda.is_available():
        message = "needs a CUDA device"
        if os.environ.get("FISHERPROOF_REQUIRE_GPU") == "1":
            pytest.fail(f"{message}, and FISHERPROOF_REQUIRE_GPU=1 demands one")
        pytest.skip(message)
    return torch.device("cuda")
