#!/usr/bin/env python3
"""Creates the dashboards in cards/ in a fresh Metabase through its REST API.

usage: METABASE_USER=you@example.org METABASE_PASSWORD=... TIDEGAUGE_BI_PASSWORD=... setup.py [http://localhost:3001]
CLICKHOUSE_HOST and CLICKHOUSE_PORT say where Metabase finds ClickHouse (clickhouse, 8123).
Needs Python 3.9 or newer and nothing else. Dashboards of the same name in the collection are archived first.
"""

import json
import os
import pathlib
import sys
import urllib.error
import urllib.request

CARDS = pathlib.Path(__file__).resolve().parent / "cards"
DATABASE = "Tidegauge"


def setting(name):
    return os.environ.get(name) or sys.exit(f"set {name}")


class Metabase:
    """One session."""

    def __init__(self, url):
        self.url = url.rstrip("/")
        self.session = None

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        if self.session:
            request.add_header("X-Metabase-Session", self.session)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}")
        except urllib.error.URLError as error:
            sys.exit(f"{self.url}: {error.reason}; is Metabase there?")

    def log_in(self, user, password):
        """The first user of a fresh Metabase is made with its setup token."""
        properties = self.ask("GET", "/api/session/properties")
        if properties.get("setup-token") and not properties.get("has-user-setup"):
            made = self.ask("POST", "/api/setup", {
                "token": properties["setup-token"],
                "user": {"email": user, "password": password, "first_name": "Tide", "last_name": "Gauge"},
                "prefs": {"site_name": "Tidegauge", "allow_tracking": False},
            })
            self.session = made["id"]
        else:
            self.session = self.ask("POST", "/api/session", {"username": user, "password": password})["id"]
        self.ask("PUT", "/api/setting/report-timezone", {"value": "UTC"})


def listed(answer):
    """Lists come bare or under `data`."""
    return answer["data"] if isinstance(answer, dict) else answer


def database(metabase):
    for known in listed(metabase.ask("GET", "/api/database")):
        if known["name"] == DATABASE:
            return known["id"]
    made = metabase.ask("POST", "/api/database", {
        "engine": "clickhouse", "name": DATABASE,
        "details": {
            "host": os.environ.get("CLICKHOUSE_HOST", "clickhouse"),
            "port": int(os.environ.get("CLICKHOUSE_PORT", "8123")),
            "user": "tidegauge_bi", "password": setting("TIDEGAUGE_BI_PASSWORD"),
            "dbname": "tidegauge_bi", "ssl": False,
        },
    })
    return made["id"]


def card(metabase, of, database_id):
    return metabase.ask("POST", "/api/card", {
        "name": of["name"], "description": of["description"], "display": of["display"],
        "visualization_settings": of["visualization_settings"],
        "dataset_query": {
            "type": "native", "database": database_id,
            "native": {"query": of["query"], "template-tags": of["template_tags"]},
        },
    })["id"]


def dashboard(metabase, of, database_id):
    for known in listed(metabase.ask("GET", "/api/dashboard")):
        if known["name"] == of["name"]:
            metabase.ask("PUT", f"/api/dashboard/{known['id']}", {"archived": True})
    made = metabase.ask("POST", "/api/dashboard", {
        "name": of["name"], "description": of["description"], "parameters": of["parameters"],
    })["id"]
    # What has a negative id is made; cards name their tab by it.
    tabs = {name: -number for number, name in enumerate(of["tabs"], 1)}
    placed = []
    for number, each in enumerate(of["cards"], 1):
        card_id = card(metabase, each, database_id)
        placed.append({
            "id": -number, "card_id": card_id, "dashboard_tab_id": tabs.get(each["tab"]),
            "row": each["row"], "col": each["col"], "size_x": each["size_x"], "size_y": each["size_y"],
            "visualization_settings": {},
            "parameter_mappings": [
                {"parameter_id": name, "card_id": card_id, "target": ["variable", ["template-tag", name]]}
                for name in each["template_tags"]
            ],
        })
    metabase.ask("PUT", f"/api/dashboard/{made}", {
        "parameters": of["parameters"], "dashcards": placed,
        "tabs": [{"id": number, "name": name} for name, number in tabs.items()],
    })
    return made


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:3001"
    metabase = Metabase(url)
    metabase.log_in(setting("METABASE_USER"), setting("METABASE_PASSWORD"))
    database_id = database(metabase)
    for path in sorted(CARDS.glob("*.json")):
        of = json.loads(path.read_text())
        print(f"{of['name']}: {url}/dashboard/{dashboard(metabase, of, database_id)}")


if __name__ == "__main__":
    main()
