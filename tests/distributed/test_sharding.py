"""Sums over processes: how much memory they take."""

import jax
import numpy as np

from painterjax.distributed import sharding


def test_a_process_of_several_devices_adds_one_copy_of_its_array(monkeypatch):
    shares, make_array = [], jax.make_array_from_process_local_data

    def watched(sharded, share):
        shares.append(share)
        return make_array(sharded, share)

    monkeypatch.setattr(jax, "process_count", lambda: 2)  # The other has no devices here.
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    monkeypatch.setattr(jax, "make_array_from_process_local_data", watched)
    count_KxJ = np.arange(6, dtype=np.int32).reshape(2, 3)
    sum_KxJ = sharding.sum_of_processes(count_KxJ)
    assert [share.nbytes for share in shares] == [count_KxJ.nbytes]
    assert sum_KxJ.dtype == np.int32
    np.testing.assert_array_equal(sum_KxJ, count_KxJ)
