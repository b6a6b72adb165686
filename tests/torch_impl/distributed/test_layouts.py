"""However a model is spread over processes, a step is that of one process with the joined batch."""

import pytest

from tests.torch_impl.distributed.layouts import LAYOUTS, build
from tests.torch_impl.distributed.steps import KINDS, failures, steps_apart

STEPS = range(3)


def beside_one_process(layout, kind):
    return steps_apart(kind, build(layout), STEPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("layout", "size"), [(layout, size) for layout, (sizes, _) in LAYOUTS.items() for size in sizes]
)
def test_a_step_is_that_of_one_process_with_the_joined_batch(world, layout, size, kind):
    for ratios in world(size).run(beside_one_process, layout, kind):
        assert ratios
        assert not failures(ratios)
