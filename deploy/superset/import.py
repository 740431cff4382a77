#!/usr/bin/env python3
"""Imports the dashboards in assets/ into a running Superset through its API; again changes what is there.

usage: SUPERSET_PASSWORD=... [CLICKHOUSE_HOST=clickhouse:8123] import.py [http://localhost:8088 [admin]]
Needs Python 3.9 or newer and nothing else.
"""

import os
import sys

import client


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8088"
    user = sys.argv[2] if len(sys.argv) > 2 else "admin"
    password = os.environ.get("SUPERSET_PASSWORD") or sys.exit("set SUPERSET_PASSWORD")
    clickhouse = os.environ.get("CLICKHOUSE_HOST", client.CLICKHOUSE)
    client.Superset(url, user, password).import_assets(client.archive(clickhouse))
    print(f"imported: {url}/superset/dashboard/tidegauge-overview/")


if __name__ == "__main__":
    main()
