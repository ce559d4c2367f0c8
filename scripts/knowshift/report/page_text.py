"""The numbers that the text of the report's page names."""

from typing import Any

import pandas as pd

from knowshift.report.figures.theme import SET_TITLES
from knowshift.report.frames import SIGNIFICANT, TUNED, Frames, trained_here


def summarise(frames: Frames) -> dict[str, Any]:
    """Collect the values that the text of the page names.

    Returns:
        models: for each model, its name and its most telling numbers;
        facts: rows of the table of facts, one per topic;
        infeasible: the cells that could not be run;
        planned, run: numbers of cells that are trained here;
        elsewhere: for each model that was fine-tuned elsewhere, what the text says of it;
        papers: the models of this run that are among the paper's.
    """
    every, cells = frames["cells"], trained_here(frames)["cells"]
    missing = cells[cells["state"] == "infeasible"]
    return {
        "models": [
            _model(name, {key: table[table["model"] == name] for key, table in frames.items() if "model" in table})
            for name in every["model"].unique()
        ],
        "elsewhere": [_elsewhere(frames, cell) for cell in _records(every[every["method"] == TUNED])],
        "facts": frames["facts"].to_dict("records"),
        "infeasible": missing[["model", "run", "data", "size", "facts"]].to_dict("records"),
        "planned": len(cells),
        "run": len(cells) - len(missing),
        "papers": sorted(frames["published"]["of"].dropna().unique()),
    }


def _model(name: str, frames: Frames) -> dict[str, Any]:
    """Collect the numbers of one model, from the tables' rows about it; none is the largest of several on test."""
    scores = frames["scores"]
    before = scores[scores["method"] == "pre-trained"].set_index("set")["accuracy"]
    examples = scores[scores["method"] == "few-shot"].set_index("set")["accuracy"]
    claims = frames["claims"]
    return {
        "name": name,
        "before": {key: None if pd.isna(before.get(key)) else float(before[key]) for key in SET_TITLES},
        "few_shot": {key: None if pd.isna(examples.get(key)) else float(examples[key]) for key in SET_TITLES},
        "restored": _restored(frames["restorations"]),
        "fates": _fates(trained_here(frames)["flows"]),
        "zeros": _zeros(frames["concentration"]),
        "null": _null_line(frames["concentration"]),
        "claims": [
            {**claim, "parts": _records(claims[(claims["claim"] == claim["claim"]) & claims["part"].notna()])}
            for claim in _records(claims[claims["part"].isna()])
        ],
        "recommendation": _records(trained_here(frames)["recommendation"]),
    }


def _elsewhere(frames: Frames, cell: dict[str, Any]) -> dict[str, Any]:
    """Collect what the text says of a model that was fine-tuned elsewhere, on in-domain test facts."""
    mine = {
        key: table[(table["model"] == cell["model"]) & (table[column] == cell[column])]
        for key, column in (("fates", "data"), ("concentration", "run"), ("recommendation", "run"))
        for table in [frames[key]]
    }
    fates = mine["fates"][mine["fates"]["topic"].isna() & mine["fates"]["percent"].isna()]
    found = _records(fates[fates["set"] == "test"])
    fate = found[0] if found else dict.fromkeys(("kept", "lost", "kept_share", "learned_share"))
    unchanged = (mine["concentration"]["unchanged"] / mine["concentration"]["parameters"]).head(1)
    advice = _records(mine["recommendation"][mine["recommendation"]["set"] == "test"])
    return {
        "name": cell["data"],
        "of": cell["model"],
        "known": (fate["kept"] or 0) + (fate["lost"] or 0),
        "lost": fate["lost"] or 0,
        "kept_share": fate["kept_share"],
        "learned_share": fate["learned_share"],
        "unchanged": float(unchanged.iloc[0]) if len(unchanged) else None,
        "advice": advice[0] if advice else None,
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries, with None for missing values."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]


def _restored(restorations: pd.DataFrame) -> dict[str, Any]:
    """Count the restorations that were asked in-domain test questions, and those that gain or lose significantly."""
    tried = restorations[(restorations["set"] == "test") & (restorations["percent"] > 0)].dropna(subset=["gain"])
    significant = tried["p_corrected"] < SIGNIFICANT
    return {
        "tried": len(tried),
        "gained": int(((tried["gain"] > 0) & significant).sum()),
        "lost": int(((tried["gain"] < 0) & significant).sum()),
    }


def _fates(flows: pd.DataFrame) -> dict[str, float] | None:
    """Return which share of known facts was kept and of unknown facts learned, over all runs and in-domain test facts.

    Known and unknown are by mastery; facts that were partly known do not count. None if no fact was known, or none
    unknown.
    """
    flows = flows[(flows["set"] == "test") & flows["data"].notna()]
    known, unknown = (flows[flows["knowledge"] == name] for name in ("known", "unknown"))
    if not known["facts"].sum() or not unknown["facts"].sum():
        return None
    return {
        "kept": known[known["after"].astype(bool)]["facts"].sum() / known["facts"].sum(),
        "learned": unknown[unknown["after"].astype(bool)]["facts"].sum() / unknown["facts"].sum(),
    }


def _zeros(concentration: pd.DataFrame) -> dict[str, Any] | None:
    """Return how many parameters of the first region were exactly 0 before training, and which share did not change."""
    if concentration.empty:
        return None
    first = concentration.iloc[0]
    return {
        "region": first["region"],
        "parameters": int(first["parameters"]),
        "zeros": int(first["zero_before"]),
        "unchanged": float((concentration["unchanged"] / concentration["parameters"]).mean()),
    }


def _null_line(concentration: pd.DataFrame) -> dict[str, float] | None:
    """Return means over runs of what the most changed fifth of the first region holds, observed and by chance.

    Without a fifth, the nearest share of parameters is taken.
    """
    if concentration.empty:
        return None
    rows = concentration[concentration["region"] == concentration["region"].iloc[0]]
    percent = min(rows["percent"].unique(), key=lambda value: abs(value - 20))
    means = rows[rows["percent"] == percent].drop(columns=["model", "run", "region"]).mean()
    return {**{str(key): float(value) for key, value in means.items()}, "share": float(means["share_without_zeros"])}
