"""A device is leased to one job at a time."""

from pathlib import Path

import pytest

from knowshift.runtime.device_lease import lease_first
from knowshift.runtime.errors import KnowshiftError


def test_two_jobs_never_hold_one_device(tmp_path: Path) -> None:
    first, one = lease_first(["gpu-a", "gpu-b"], tmp_path)
    second, two = lease_first(["gpu-a", "gpu-b"], tmp_path)
    assert (one, two) == (0, 1)
    with pytest.raises(KnowshiftError, match="all 2 GPUs"):
        lease_first(["gpu-a", "gpu-b"], tmp_path)
    first.release()
    third, again = lease_first(["gpu-a", "gpu-b"], tmp_path)
    assert again == 0
    second.release()
    third.release()
