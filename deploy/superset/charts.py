"""The chart definitions, and the SQL that each must come to, written without Superset's templates."""

import math
import pathlib
import re
import tomllib

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "dashboards/charts"


def read():
    """Each chart by the name of its file, in their order on the dashboards."""
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))}


def sql(chart, start, end, model=None, grain="1h", job="history"):
    """`start` and `end` are expressions of ClickHouse."""
    words = {
        "db": "tidegauge_bi",
        "time": f"window_start >= {start} AND window_start < {end}",
        "job": f"job = '{job}'",
        "model": f"model = '{model}'" if model else "1",
        "version": "1",
        "segment": "segment = 'all'",
        "grain": f"grain = '{grain}'",
    }
    filled = chart["sql"]
    if chart["kind"] == "band":
        # As Superset's own drawing of bands names the line and its limits.
        filled = filled.replace("' lower'", "'__yhat_lower'").replace("' upper'", "'__yhat_upper'")
        filled = re.sub(r"\[\('', (\w+)\)", r"[('', \1), ('__yhat', \1)", filled)
    for name, condition in words.items():
        filled = filled.replace(f"{{{name}}}", condition)
    return filled


def is_empty(rows):
    """Whether there is nothing to draw."""
    figures = [value for row in rows for name, value in row.items() if name not in ("time", "series", "bucket")]
    return not any(value is not None and not (isinstance(value, float) and math.isnan(value)) for value in figures)
