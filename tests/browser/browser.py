"""Headless Chromium for the checks: pages, what they asked for and complained about, and pictures of them."""

import base64
import contextlib
import json
import pathlib
import shutil
import sys
import urllib.error
import urllib.parse
import urllib.request

from playwright import sync_api

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE_MS = 90_000
LOOK_EVERY_MS = 100
# Nothing but this machine can be found, so that what a page asks from outside is seen and not sent.
ONLY_HERE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


class Trouble(Exception):
    """What is not as it should be."""


class Page:
    """A page of one site, and what went wrong on it."""

    def __init__(self, page, home):
        self.page = page
        self.home = home
        self.errors = []
        self.outside = set()
        self.pending = set()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", self.asked)
        # Methods of this class, since the driver marks what it calls.
        page.on("requestfinished", self.done)
        page.on("requestfailed", self.done)
        page.on("response", self.answered)
        page.on("console", self.said)
        page.on("pageerror", lambda error: self.errors.append(f"error in a script: {error}"))

    def is_home(self, url):
        return url.startswith((f"{self.home}/", "data:", "blob:", "about:")) or url == self.home

    def asked(self, request):
        if self.is_home(request.url):
            self.pending.add(request)
        else:
            self.outside.add(urllib.parse.urlsplit(request.url).netloc or request.url)

    def done(self, request):
        self.pending.discard(request)

    def answered(self, response):
        if response.status >= 400:
            self.errors.append(f"{response.status} of {response.url}")

    def said(self, message):
        # What comes from outside is told as such.
        if message.type == "error" and self.is_home(message.location.get("url", self.home)):
            self.errors.append(f"console: {message.text}")

    def open(self, path):
        """The status of the answer."""
        answer = self.page.goto(self.home + path)
        return answer.status

    def wait(self, what, condition):
        """Until `condition()` gives something true, which is returned."""
        for _ in range(PATIENCE_MS // LOOK_EVERY_MS):
            found = condition()
            if found:
                return found
            self.page.wait_for_timeout(LOOK_EVERY_MS)
        raise Trouble(f"waited in vain for: {what}")

    def settle(self):
        """Until nothing is asked for and nothing on the page moves any more."""
        last = None

        def is_still():
            nonlocal last
            if self.pending:
                return False
            before, last = last, self.shot()
            return before == last

        self.wait("a page that stands still", is_still)

    def shot(self, kind="png", height=None, **options):
        size = self.page.viewport_size
        session = self.page.context.new_cdp_session(self.page)
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        taken = session.send("Page.captureScreenshot", {"format": kind, "clip": clip, **options})
        session.detach()
        return base64.b64decode(taken["data"])

    def picture(self, path, height=None):
        """WebP of the page's upper part. What lies beyond the viewport is laid out anew for it; charts are drawn only some
        time after that, so the viewport of their pages holds all of them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beyond = (height or 0) > self.page.viewport_size["height"]
        path.write_bytes(self.shot("webp", height, quality=70, captureBeyondViewport=beyond))

    def complaints(self, allowed=()):
        """What went wrong since the last time."""
        found = self.errors + [f"asked {host}" for host in sorted(self.outside - set(allowed))]
        self.errors, self.outside = [], set()
        return found


@contextlib.contextmanager
def chromium():
    """A browser with a user folder of its own, which goes with it."""
    program = shutil.which("chromium") or sys.exit("there is no chromium; run `.ci/fetch browser`")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[ONLY_HERE])
        try:
            yield browser
        finally:
            browser.close()


def page(browser, home, width, height, **options):
    """A page without cookies."""
    made = browser.new_context(viewport={"width": width, "height": height}, timezone_id="UTC", **options)
    return Page(made.new_page(), home)


def ask(clickhouse, sql, user="default", password=""):
    """Rows as dictionaries; whole numbers of 64 bits as numbers."""
    query = "default_format=JSON&output_format_json_quote_64bit_integers=0"
    if user != "default":
        # Who may only read can't ask for a form of numbers either.
        query = "default_format=JSON"
    request = urllib.request.Request(f"{clickhouse}/?{query}", data=sql.encode())
    request.add_header("X-ClickHouse-User", user)
    request.add_header("X-ClickHouse-Key", password)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        raise Trouble(f"ClickHouse: {error.read().decode(errors='replace')}\n{sql}") from error


class Results:
    """What was looked at, told at once, and what was wrong."""

    def __init__(self):
        self.bad = []

    def look(self, name, found):
        """`found`: what is wrong, as text or a list; nothing if all is well."""
        wrong = found if isinstance(found, str) else "; ".join(found or [])
        print(f"{name:64} {wrong or 'ok'}", flush=True)
        if wrong:
            self.bad.append(name)

    def end(self):
        if self.bad:
            sys.exit("not as they should be: " + ", ".join(self.bad))
