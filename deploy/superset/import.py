#!/usr/bin/env python3
"""Imports the dashboards in assets/ into a running Superset through its API; again changes what is there.

usage: SUPERSET_PASSWORD=... import.py [http://localhost:8088 [admin]]
Needs Python 3.9 or newer and nothing else.
"""

import http.cookiejar
import io
import json
import os
import pathlib
import sys
import urllib.error
import urllib.request
import uuid
import zipfile

ASSETS = pathlib.Path(__file__).resolve().parent / "assets"


def archive():
    """The assets as a zip with one folder at its top, as the API takes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(ASSETS.rglob("*.yaml")):
            packed.write(path, f"assets/{path.relative_to(ASSETS)}")
    return buffer.getvalue()


class Superset:
    """One session."""

    def __init__(self, url, user, password):
        self.url = url.rstrip("/")
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )
        self.headers = {}
        answer = self.post(
            "/api/v1/security/login",
            json.dumps({"username": user, "password": password, "provider": "db"}).encode(),
            "application/json",
        )
        self.headers["Authorization"] = "Bearer " + answer["access_token"]
        token = self.send(urllib.request.Request(self.url + "/api/v1/security/csrf_token/"))
        self.headers["X-CSRFToken"] = token["result"]
        self.headers["Referer"] = self.url

    def send(self, request):
        for name, value in self.headers.items():
            request.add_header(name, value)
        try:
            with self.opener.open(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"{request.full_url}: {error.code} {error.read().decode(errors='replace')}")
        except urllib.error.URLError as error:
            sys.exit(f"{request.full_url}: {error.reason}; is Superset there?")

    def post(self, path, body, content_type):
        request = urllib.request.Request(self.url + path, data=body, method="POST")
        request.add_header("Content-Type", content_type)
        return self.send(request)


def main():
    url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8088"
    user = sys.argv[2] if len(sys.argv) > 2 else "admin"
    password = os.environ.get("SUPERSET_PASSWORD") or sys.exit("set SUPERSET_PASSWORD")
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; name=\"bundle\"; filename=\"assets.zip\"\r\n"
        "Content-Type: application/zip\r\n\r\n"
    )
    body = head.encode() + archive() + f"\r\n--{boundary}--\r\n".encode()
    superset = Superset(url, user, password)
    superset.post("/api/v1/assets/import/", body, f"multipart/form-data; boundary={boundary}")
    print(f"imported: {url}/superset/dashboard/tidegauge-overview/")


if __name__ == "__main__":
    main()
