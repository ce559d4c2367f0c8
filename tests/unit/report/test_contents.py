"""The one list of what the report holds agrees with functions, captions and the page."""

import ast
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

from knowshift.report import contents
from knowshift.report.figures import catalogue as figures
from knowshift.report.tables import catalogue as tables

RESOURCES = Path(__file__).parents[3] / "resources"


def public_functions(modules: dict[str, ModuleType]) -> set[tuple[str, str]]:
    """The module and the name of every public function that some modules define."""
    return {
        (module, name)
        for module, content in modules.items()
        for name, function in inspect.getmembers(content, inspect.isfunction)
        if function.__module__ == content.__name__ and not name.startswith("_")
    }


def names(entries: Iterable) -> list[str]:
    return [entry.name for entry in entries]


@pytest.mark.parametrize(
    ("entries", "modules"), [(contents.FIGURES, figures.MODULES), (contents.TABLES, tables.MODULES)]
)
def test_every_entry_has_a_function_and_every_function_an_entry(entries: tuple, modules: dict) -> None:
    assert {(entry.module, entry.name) for entry in entries} == public_functions(modules)
    assert len(set(names(entries))) == len(entries)
    assert all(modules[name].__name__.endswith(f".{name}") for name in modules)


def test_every_figure_has_a_caption_and_every_caption_a_figure() -> None:
    assert set(names(contents.FIGURES)) == {path.stem for path in (RESOURCES / "captions").glob("*.rst")}


@pytest.mark.parametrize(("macro", "entries"), [("figure", contents.FIGURES), ("table", contents.TABLES)])
def test_the_page_shows_all_in_the_order_of_the_list(macro: str, entries: tuple) -> None:
    shown = [
        (section.name, name)
        for section in contents.SECTIONS
        for name in re.findall(
            rf"(?:call|\{{\{{) {macro}\(\"(\w+)\"",
            (RESOURCES / f"report/parts/{section.name}.html.jinja").read_text(),
        )
    ]
    assert shown == [(entry.section, entry.name) for entry in entries]


def test_every_part_of_the_page_is_a_section() -> None:
    parts = {path.name.removesuffix(".html.jinja") for path in (RESOURCES / "report/parts").iterdir()}
    assert parts - {"macros", "summary"} == set(names(contents.SECTIONS))


def test_rules_can_read_the_list_without_loading_a_library() -> None:
    tree = ast.parse(Path(contents.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [getattr(node, "module", None) for node in imports] == ["typing"]
