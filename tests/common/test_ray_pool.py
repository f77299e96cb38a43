"""What runs on a node of a Ray cluster; tests/system/test_ray.py has a real one."""

import socket

import numpy as np
import pytest

from painterjax.common import ray_pool
from painterjax.common.errors import InputError


def test_a_node_with_other_versions_is_named():
    here = ray_pool._versions()
    assert here["numpy"] == np.__version__
    assert ray_pool._run_on_node(here, abs, -3) == 3
    message = f"{socket.gethostname()} has numpy {np.__version__}, this machine has 1.0: install"
    with pytest.raises(InputError, match=message):
        ray_pool._run_on_node({**here, "numpy": "1.0"}, abs, -3)
