"""Regions that a user writes end in bounded time and size, whatever they are."""

import time

import pytest
from pydantic import ValidationError

from knowshift.configuration.restoration import NamedRegion, RegionChoice, RegionPattern
from knowshift.configuration.section import Section
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.time_limit import at_most
from knowshift.weights.regions import check_pattern, layers_of, names_in_region


class Patterns(Section):
    """One named region."""

    pattern: RegionPattern


@pytest.mark.parametrize("pattern", [r"(\w+\.?)+=", r"(.+)+=", r".*.*.*.*.*.*.*.*="])
def test_a_catastrophic_regular_expression_is_refused_in_bounded_time(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("knowshift.runtime.time_limit.SECONDS", 0.2)
    before = time.process_time()
    for section, key in ((Patterns, "pattern"), (RegionChoice, "region")):
        with pytest.raises(ValidationError, match="takes too long"):
            section(**{key: pattern})
    assert time.process_time() - before < 5


def test_a_regular_expression_is_bounded_on_the_names_of_the_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("knowshift.runtime.time_limit.SECONDS", 0.2)
    pattern = r"(b+)+$"
    check_pattern(pattern)  # no usual name has so many of them
    with pytest.raises(KnowshiftError, match="takes too long"):
        names_in_region(["b" * 60 + "."], pattern)


@pytest.mark.parametrize("pattern", ["(", "(" * 5000, "a{99999999999}", "(?<=a+)b", "x" * 1001, ""])
def test_what_is_no_regular_expression_is_said(pattern: str) -> None:
    if pattern:
        with pytest.raises(ValidationError, match="regular expression"):
            Patterns(pattern=pattern)
    with pytest.raises(ValidationError):
        RegionChoice(region=pattern)


@pytest.mark.parametrize("region", ["0-99999999999", "9" * 5000, "0," * 40 + "0", "٣", "3-0", "x" * 65, "a\nb", "1-"])
def test_a_region_of_a_configuration_is_bounded(region: str) -> None:
    with pytest.raises(ValidationError):
        NamedRegion(region=region)


def test_layers_are_read_as_they_were() -> None:
    assert layers_of("0,5,7-9") == {0, 5, 7, 8, 9} and layers_of("0-9999") == set(range(10_000))
    assert NamedRegion(region=3).region == "3" and NamedRegion(region="values").region == "values"
    names = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"]
    assert names_in_region(names, "1") == names[1:2] and names_in_region(names, r"up_proj\.\w{6}$") == names[:2]


def test_a_time_limit_leaves_what_ends_in_time_and_can_be_used_again() -> None:
    for _ in range(3):
        with at_most("too long", 5):
            assert sum(range(1000)) == 499_500
        with pytest.raises(KnowshiftError, match=r"^too long \(stopped after 0\.05 s\)$"), at_most("too long", 0.05):
            while True:
                pass
