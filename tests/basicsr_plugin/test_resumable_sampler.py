"""The sampler that continues within an epoch."""

from __future__ import annotations

import pytest

from basicsr_plugin.data.resumable_sampler import ResumableSampler


class Epochs(list):
    accepts_epoch = True


def order(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize(("length", "replicas", "ratio"), [(10, 1, 1), (7, 2, 3), (5, 3, 1), (1, 2, 4)])
def test_order_is_basicsrs_for_seed_0(length, replicas, ratio):
    from basicsr.data.data_sampler import EnlargedSampler

    for rank in range(replicas):
        ours = ResumableSampler(range(length), replicas, rank, ratio)
        theirs = EnlargedSampler(range(length), replicas, rank, ratio)
        for epoch in (0, 1, 5):
            theirs.set_epoch(epoch)
            assert order(ours, epoch) == list(theirs)
        assert len(ours) == len(theirs)


def test_last_batch_of_an_epoch_is_filled_up_from_its_start():
    plain = order(ResumableSampler(range(10), 1, 0), 3)
    filled = order(ResumableSampler(range(10), 1, 0, batch_size=4), 3)
    assert filled == plain + plain[:2]
    assert len(order(ResumableSampler(range(2), 1, 0, batch_size=7), 0)) == 7


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_a_resumed_run_sees_what_the_undisturbed_one_would_have(batch_size):
    sampler = ResumableSampler(range(10), 2, 1, 2, batch_size=batch_size)
    whole = [index for epoch in range(4) for index in order(sampler, epoch)]
    per_epoch = len(sampler) // batch_size
    for iteration in range(1, 3 * per_epoch + 1):
        epoch = (iteration - 1) // per_epoch
        resumed = ResumableSampler(
            range(10), 2, 1, 2, batch_size=batch_size, start_epoch=epoch, start_iteration=iteration
        )
        rest = [index for later in range(epoch, 4) for index in order(resumed, later)]
        assert rest == whole[iteration * batch_size :]


def test_seeds_give_different_orders():
    orders = {
        tuple(order(ResumableSampler(range(50), 1, 0, seed=seed), epoch)) for seed in range(5) for epoch in range(5)
    }
    assert len(orders) == 25


def test_ranks_share_the_samples():
    shares = [order(ResumableSampler(range(10), 2, rank, seed=7), 2) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(10))


def test_data_sets_that_accept_epochs_get_them():
    assert sorted(order(ResumableSampler(Epochs(range(3)), 1, 0), 4)) == [(4, 0), (4, 1), (4, 2)]


def test_a_changed_data_set_restarts_the_epoch_with_a_warning():
    with pytest.warns(UserWarning, match="iteration 50 is not in epoch 2 of 5 iterations"):
        sampler = ResumableSampler(range(10), 1, 0, batch_size=2, start_epoch=2, start_iteration=50)
    assert len(order(sampler, 2)) == 10


def test_empty_data_sets_are_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        ResumableSampler([], 1, 0)
