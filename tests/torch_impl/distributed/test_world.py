"""What the other tests of this folder stand on: a failure in one process is the failure of the test."""

import os

import pytest
import torch
import torch.distributed as dist

from tests.torch_impl.distributed.world import World, WorldError


def rank_and_sum():
    total = torch.ones(())
    dist.all_reduce(total)
    return dist.get_rank(), int(total)


def fail_in_one(rank):
    if dist.get_rank() == rank:
        raise ValueError(f"planted in {rank}")
    dist.barrier()


def die_in_one(rank):
    if dist.get_rank() == rank:
        os._exit(1)
    dist.barrier()


def leave_one_alone():
    if dist.get_rank() == 0:
        dist.barrier()


def not_sendable():
    return lambda: None


def test_every_process_answers_in_the_order_of_ranks(world):
    assert world(2).run(rank_and_sum) == [(0, 2), (1, 2)]


def test_an_exception_in_one_process_is_told_with_its_traceback(world):
    with pytest.raises(WorldError, match=r"(?s)process 1 of 2: .*fail_in_one.*planted in 1"):
        world(2).run(fail_in_one, 1)
    assert world(2).run(rank_and_sum) == [(0, 2), (1, 2)], "the world did not start again"


def test_a_process_that_dies_is_told(world):
    with pytest.raises(WorldError, match="process 1 of 2: it died"):
        world(2).run(die_in_one, 1)


def test_an_answer_that_cannot_be_sent_is_told(world):
    with pytest.raises(WorldError, match=r"(?s)process 0, 1 of 2: .*pickle"):
        world(2).run(not_sendable)


def test_a_collective_that_nobody_joins_gives_up():
    impatient = World(2, patience=1.0)
    with pytest.raises(WorldError, match=r"(?s)process 0 of 2: .*barrier"):
        impatient.run(leave_one_alone)
    assert not impatient._processes
