#!/usr/bin/env python3
"""Runs every chart in a fresh Superset, through its API, against the same SQL on ClickHouse.

usage: check.py [--program target/demo/tidegauge]
Exits with 1 if a chart fails, is empty, or shows other figures than ClickHouse gives.
"""

import argparse
import datetime
import json
import sys
import urllib.error
import urllib.request

import yaml

import charts
import client
import history
import local

TRIES = 5  # of charts whose figures change while they are asked for


class Definitions:
    """The chart definitions by the UUIDs of their assets, and what they show of the past week."""

    def __init__(self, end_ms):
        times = [datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC) for ms in
                 (end_ms - history.HOURS * history.HOUR_MS, end_ms)]  # fmt: skip
        self.times = [time.strftime("%Y-%m-%dT%H:%M:%S") for time in times]
        self.charts = {}
        for name, chart in charts.read().items():
            asset = client.ASSETS / "charts" / f"{name.replace('-', '_')}.yaml"
            uuid = yaml.safe_load(asset.read_text(encoding="utf-8"))["uuid"]
            self.charts[uuid] = {"name": name, **chart}

    def sql(self, chart, model):
        start, end = (f"toDateTime64('{time.replace('T', ' ')}', 3, 'UTC')" for time in self.times)
        return charts.sql(chart, start, end, model)


def from_clickhouse(where, sql):
    url = f"http://{where.clickhouse}/?default_format=JSONCompact"
    request = urllib.request.Request(url, data=sql.encode())
    request.add_header("X-ClickHouse-User", "tidegauge_bi")
    request.add_header("X-ClickHouse-Key", where.password("TIDEGAUGE_BI"))
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"ClickHouse: {error.read().decode(errors='replace')}") from error
    names = [column["name"] for column in found["meta"]]
    times = [name for name, column in zip(names, found["meta"]) if "DateTime" in column["type"]]

    def value(name, cell):
        if name not in times or cell is None:
            return cell
        return datetime.datetime.fromisoformat(cell + "+00:00").timestamp() * 1000

    return [{name: value(name, cell) for name, cell in zip(names, row)} for row in found["data"]]


def from_superset(session, context, times, model):
    """The rows of a chart as its own page would ask for them with these filters chosen."""
    context = {**context, "force": True}
    # Else the newest job is shown, which is the demo's.
    chosen = [{"col": "job", "op": "IN", "val": ["history"]}]
    chosen += [{"col": "model", "op": "IN", "val": [model]}] if model else []
    span = " : ".join(times)
    for query in context["queries"]:
        query["time_range"] = span
        for condition in query["filters"]:
            if condition["op"] == "TEMPORAL_RANGE":
                condition["val"] = span
        query["filters"] += chosen
    found = session.post("/api/v1/chart/data", json.dumps(context).encode())
    return found["result"][0]["data"]


def rows(found):
    """In an order that does not hang on the database, all numbers as one type."""
    plain = [
        {name: float(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else str(v) if v is not None else v
         for name, v in row.items()} for row in found
    ]  # fmt: skip
    return sorted(plain, key=lambda row: json.dumps([row[name] if not isinstance(row[name], float) else
                                                     f"{row[name]:030.6f}" for name in sorted(row)]))  # fmt: skip


def within(value, before, after):
    """Equal, or between two readings of a figure that changes."""
    if isinstance(value, float) and isinstance(before, float) and isinstance(after, float):
        slack = 1e-9 * max(1.0, abs(value))
        return min(before, after) - slack <= value <= max(before, after) + slack
    return value in (before, after)


def differs(before, shown, after):
    """Where the shown rows are neither those of before nor between them and those of after; none: nowhere."""
    if not len(before) == len(shown) == len(after):
        return f"{len(shown)} rows, ClickHouse has {len(before)} to {len(after)}"
    for old, row, new in zip(before, shown, after):
        if not row.keys() == old.keys() == new.keys():
            return f"columns {sorted(row)}, ClickHouse has {sorted(old)}"
        for name, value in row.items():
            if not within(value, old[name], new[name]):
                return f"{name} is {value}, ClickHouse has {old[name]} to {new[name]}"
    return None


def check_chart(where, session, definitions, chart, context, model):
    """ok, or what is wrong."""
    sql = definitions.sql(chart, model)
    wrong = None
    for _ in range(TRIES):
        before = rows(from_clickhouse(where, sql))
        shown = rows(from_superset(session, json.loads(context), definitions.times, model))
        after = rows(from_clickhouse(where, sql))
        wrong = differs(before, shown, after)
        if wrong is None:
            return "is empty" if charts.is_empty(shown) and not model else None
    return wrong


def check_charts(where, session):
    """The names of charts that are not as they should be."""
    definitions = Definitions(where.end_ms)
    listed = session.get("/api/v1/chart/?q=(page_size:1000)")["result"]
    found = {}
    for each in listed:
        said = session.get(f"/api/v1/chart/{each['id']}")["result"]
        found[said["uuid"]] = said
    bad = []
    for uuid, chart in definitions.charts.items():
        for model in (None, "churn"):
            try:
                wrong = check_chart(where, session, definitions, chart, found[uuid]["query_context"], model)
            except (SystemExit, Exception) as error:  # noqa: BLE001: whatever it is, the others are looked at too
                wrong = f"error: {error}"
            if wrong:
                bad.append(chart["name"])
            print(f"{chart['name']:32} {'model churn' if model else 'all models':12} {wrong or 'ok'}", flush=True)
    return bad


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--program", default=local.ROOT / "target/demo/tidegauge", help="tidegauge")
    asked = options.parse_args()
    with local.everything(program=asked.program) as (where, session):
        bad = check_charts(where, session)
    if bad:
        sys.exit(f"not as they should be: {', '.join(bad)}")
    print("all charts are as they should be")


if __name__ == "__main__":
    main()
