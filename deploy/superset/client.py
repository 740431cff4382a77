"""A session with Superset's API; needs Python 3.9 or newer and nothing else."""

import http.cookiejar
import io
import json
import pathlib
import sys
import urllib.error
import urllib.request
import uuid
import zipfile

ASSETS = pathlib.Path(__file__).resolve().parent / "assets"
CLICKHOUSE = "clickhouse:8123"  # as the assets name it


def archive(clickhouse=CLICKHOUSE):
    """The assets as a zip with one folder at its top, as the API takes it, with ClickHouse at this host and port."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(ASSETS.rglob("*.yaml")):
            text = path.read_text(encoding="utf-8")
            if path.parent.name == "databases":
                text = text.replace(f"@{CLICKHOUSE}/", f"@{clickhouse}/")
            packed.writestr(f"assets/{path.relative_to(ASSETS)}", text)
    return buffer.getvalue()


class Superset:
    """One session. What Superset refuses ends the program with its answer."""

    def __init__(self, url, user, password):
        self.url = url.rstrip("/")
        self.opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )
        self.headers = {}
        who = {"username": user, "password": password, "provider": "db"}
        answer = self.post("/api/v1/security/login", json.dumps(who).encode(), "application/json")
        self.headers["Authorization"] = "Bearer " + answer["access_token"]
        self.headers["X-CSRFToken"] = self.get("/api/v1/security/csrf_token/")["result"]
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

    def get(self, path):
        return self.send(urllib.request.Request(self.url + path))

    def post(self, path, body, content_type="application/json"):
        request = urllib.request.Request(self.url + path, data=body, method="POST")
        request.add_header("Content-Type", content_type)
        return self.send(request)

    def import_assets(self, packed):
        boundary = uuid.uuid4().hex
        head = (
            f"--{boundary}\r\nContent-Disposition: form-data; name=\"bundle\"; filename=\"assets.zip\"\r\n"
            "Content-Type: application/zip\r\n\r\n"
        )
        body = head.encode() + packed + f"\r\n--{boundary}--\r\n".encode()
        self.post("/api/v1/assets/import/", body, f"multipart/form-data; boundary={boundary}")
