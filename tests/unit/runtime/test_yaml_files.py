"""A YAML file that cannot be meant ends in one line that says what is wrong and where."""

from pathlib import Path

import pytest

from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.yaml_files import read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a: 1\nb: {c: 2, c: 3}\n", "c is given twice, in lines 2 and 2"),
        (b"a: 1\na: 1\n", "a is given twice, in lines 1 and 2"),
        (b"a: [1, 2\n", "not valid YAML [(]line 2"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a: \x00", "null characters"),
        (b"[" * 20_000, "nested too deeply"),
        (b"a: &a [*a]\n", "alias of itself"),
        (BOMB.encode(), "values once its aliases"),
        (b"a: " + b"9" * 5000, "a number of 5,000 characters"),
        (b"a: " + b"1:" * 3000 + b"1", "a number of 6,001 characters"),
        (b"a: 1:30", "1:30, which YAML reads as a number to the base 60"),
        (b"a: 1:30.5", "to the base 60"),
        (b"a: [010]", "010, which YAML reads"),
        (b'a: "\\ud83d\\ude00"', "lone surrogate"),
        (b'a: "\\UFFFFFFFF"', "not valid YAML"),
        (b"a: !!bool x", "not valid YAML"),
        (b"a: !!timestamp x", "not valid YAML"),
        (b"#" * 200_001, "larger than"),
        (b"a: 2026-99-99", "not valid YAML"),
        (b"a: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(KnowshiftError, match=says) as caught:
        read_yaml(path, "")
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_meant_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufeffa: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n", encoding="utf-8")
    assert read_yaml(path, "") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}
    path.write_text("a: '1:30'\nb: '010'\nc: [0, 0.5, -0.0, 0x1f, 1e-3, 1_000]\n")
    assert read_yaml(path, "") == {"a": "1:30", "b": "010", "c": [0, 0.5, 0, 31, "1e-3", 1000]}
    path.write_text("")
    assert read_yaml(path, "") is None
    with pytest.raises(KnowshiftError, match="does not exist"):
        read_yaml(tmp_path / "absent", " does not exist")
    with pytest.raises(KnowshiftError, match="is a folder"):
        read_yaml(tmp_path, "")
