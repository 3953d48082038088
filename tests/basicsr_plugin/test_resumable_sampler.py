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


class TestElasticRestart:
    """A run that goes on with another number of processes or another batch size."""

    @staticmethod
    def samplers(ranks, batch_size, **resumed):
        return [
            ResumableSampler(range(24), ranks, rank, batch_size=batch_size, seed=5, **resumed) for rank in range(ranks)
        ]

    @staticmethod
    def take(samplers, epoch, iterations):
        """Samples that all ranks show in some iterations of an epoch, or in all."""
        shown = []
        for sampler in samplers:
            sampler.set_epoch(epoch)
            indices = list(sampler)
            shown += indices if iterations is None else indices[: iterations * sampler.batch_size]
        return shown

    @pytest.mark.parametrize("epoch", [0, 3])
    @pytest.mark.parametrize(
        ("before", "after"), [((2, 2), (4, 1)), ((4, 1), (2, 2)), ((1, 4), (3, 2)), ((2, 3), (1, 2)), ((3, 1), (3, 2))]
    )
    def test_every_sample_of_the_interrupted_epoch_comes_once(self, before, after, epoch):
        old = self.samplers(*before)
        per_epoch = len(old[0]) // before[1]
        iteration = epoch * per_epoch + 2
        shown = self.take(old, epoch, 2)
        new = self.samplers(
            *after, start_epoch=epoch, start_iteration=iteration, interrupted=old[0].position(epoch, iteration)
        )
        rest = self.take(new, epoch, None)
        assert sorted({*shown, *rest}) == list(range(24))
        assert set(shown).isdisjoint(rest)
        assert len({len(list(sampler)) for sampler in new}) == 1, "ranks would wait for each other"
        fills = len(rest) - (24 - len(shown))
        assert 0 <= fills < after[0] * after[1]
        assert sorted(self.take(new, epoch + 1, None)) == list(range(24))

    def test_a_run_may_change_its_size_in_every_part_of_an_epoch(self):
        epoch, iteration, shown = 2, 2 * 12 + 3, []
        sizes = [(2, 1), (1, 4), (3, 1), (2, 2)]
        samplers = self.samplers(*sizes[0])
        shown += self.take(samplers, epoch, 3)
        for size in sizes[1:]:
            interrupted = samplers[0].position(epoch, iteration)
            samplers = self.samplers(*size, start_epoch=epoch, start_iteration=iteration, interrupted=interrupted)
            last = size == sizes[-1]
            shown += self.take(samplers, epoch, None if last else 1)
            iteration += 1
        assert sorted(shown[:24]) == list(range(24))
        assert len(shown) < 24 + 4

    def test_positions_add_up_over_interruptions_of_one_size(self):
        sampler = self.samplers(2, 2)[0]
        first = sampler.position(1, 8)
        assert first == {"samples": 24, "ratio": 1, "parts": [[2, 2, 2]]}
        again = self.samplers(2, 2, start_epoch=1, start_iteration=8, interrupted=first)[0]
        assert again.position(1, 11)["parts"] == [[2, 2, 5]]
        assert again.position(3, 20)["parts"] == [[2, 2, 2]]

    def test_an_epoch_that_was_over_is_empty_and_the_next_one_whole(self):
        samplers = self.samplers(1, 4)
        samplers = self.samplers(2, 1, start_epoch=0, start_iteration=6, interrupted=samplers[0].position(0, 6))
        assert self.take(samplers, 0, None) == []
        assert sorted(self.take(samplers, 1, None)) == list(range(24))

    def test_another_data_set_begins_the_epoch_anew_and_says_so(self):
        position = self.samplers(1, 4)[0].position(0, 3)
        with pytest.warns(UserWarning, match="the data set or the batch size has changed"):
            sampler = ResumableSampler(range(20), 1, 0, batch_size=4, start_iteration=3, interrupted=position)
        sampler.set_epoch(0)
        assert sorted(sampler) == list(range(20))


@pytest.mark.parametrize("seed", [2**32, 2**63, 2**64 - 1])
def test_seeds_of_any_size_shuffle_and_their_high_bits_count(seed):
    orders = [list(ResumableSampler(range(50), 1, 0, seed=one)) for one in (seed, seed, seed % 2**32, seed - 1)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]
