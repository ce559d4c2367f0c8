"""A device is leased to one job at a time."""

from pathlib import Path

import pytest
import torch

from knowshift.runtime.device_lease import lease_device, lease_first, lock_folder
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


def test_locks_are_kept_where_nobody_else_can_be_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert lock_folder() == tmp_path / "knowshift"
    assert lock_folder().stat().st_mode & 0o777 == 0o700
    lock_folder().rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "knowshift").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KnowshiftError, match="not a folder of yours"):
        lock_folder()
    (tmp_path / "knowshift").unlink()
    (tmp_path / "knowshift").write_text("")
    with pytest.raises(KnowshiftError, match="remove it"):
        lock_folder()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert lock_folder().parent == tmp_path
    (lock_folder() / "knowshift-device-gpu-a.lock").mkdir()
    with pytest.raises(KnowshiftError, match="cannot be taken"):
        lease_first(["gpu-a"], lock_folder())


@pytest.mark.parametrize(("there", "wanted"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2"), (2, "cuda:999")])
def test_a_gpu_that_is_not_there_is_said(there: int, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(KnowshiftError, match="cuda:0 to cuda:1" if there else "no GPU here"), lease_device(wanted):
        pass
    with lease_device("cpu") as device:
        assert device.type == "cpu"
