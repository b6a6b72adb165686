"""Where the twins are tested: the CPU always, a GPU where there is one or where one is demanded."""

import pytest
import torch

from tests.gpu import demand_cuda


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return demand_cuda() if request.param == "cuda" else torch.device(request.param)


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    """For checks that only mean something on a GPU."""
    return demand_cuda()
