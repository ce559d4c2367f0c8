"""The table of model types in docs/models.md, which tests compare with what types do."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/models.md"


def listed_types() -> dict[str, tuple[str, str]]:
    """Read the table: by model type, the fastest engine that runs it, and whether examples are packed or padded."""
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            rows[cells[0].strip("`")] = (cells[1], cells[2])
    return rows
