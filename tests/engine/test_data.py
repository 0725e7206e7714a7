from itertools import islice

import pytest

from avjepa.engine.data import ClipBatchSampler
from avjepa.errors import ConfigError


def take(sampler: ClipBatchSampler, batches: int) -> list:
    return list(islice(iter(sampler), batches))


def test_every_epoch_holds_every_clip_once():
    stream = [draw for batch in take(ClipBatchSampler(10, 2, 0, 0, 1), 15) for draw in batch]
    for epoch in range(3):
        assert sorted(index for index, _ in stream[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert [i for i, _ in stream[:10]] != [i for i, _ in stream[10:20]]
    assert len({seed for _, seed in stream}) == 30


@pytest.mark.parametrize("first", [1, 4, 13])
def test_starting_anywhere_continues_the_stream(first):
    whole = take(ClipBatchSampler(7, 3, 5, 0, 1), 20)
    later = ClipBatchSampler(7, 3, 5, 0, 1)
    later.first_iteration = first
    assert take(later, 20 - first) == whole[first:]


def test_ranks_share_out_the_joined_batch():
    joined = take(ClipBatchSampler(11, 6, 3, 0, 1), 5)
    ranks = [take(ClipBatchSampler(11, 2, 3, rank, 3), 5) for rank in range(3)]
    assert [[draw for rank in ranks for draw in rank[i]] for i in range(5)] == joined


def test_seeds_differ():
    assert take(ClipBatchSampler(50, 4, 0, 0, 1), 3) != take(ClipBatchSampler(50, 4, 1, 0, 1), 3)


def test_nothing_to_train_on():
    with pytest.raises(ConfigError, match="0 clips"):
        ClipBatchSampler(0, 2, 0, 0, 1)
