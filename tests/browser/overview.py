#!/usr/bin/env python3
"""Runs the demo and opens its web pages in Chromium: their figures against ClickHouse's, filters, keyboard, colours.

usage: overview.py [--program target/demo/tidegauge] [--pictures target/browser]
Run it with the Python of `.ci/fetch browser`: `make overview-check` does. Exits with 1 if anything is wrong.
"""

import argparse
import datetime
import pathlib
import re
import sys
import tempfile
import time
import urllib.parse

import browser

sys.path.insert(0, str(browser.ROOT / "deploy/superset"))

import local  # noqa: E402

WIDTH, HEIGHT = 1280, 900
PHONE = 390
# By then a window holds what drifts: that begins half a minute after the start.
DRIFTS_AFTER_S = 45
RANGE_MS = 15 * 60_000
ROWS = """() => [...document.querySelectorAll('main table tbody tr')].map(row => {
  const heads = [...row.closest('table').querySelectorAll('thead th')].map(head => head.innerText.trim());
  const cells = [...row.children];
  const found = {};
  heads.forEach((head, at) => { if (!(head in found)) found[head] = cells[at].innerText.trim(); });
  found.tag = row.querySelector('.tag')?.className;
  return found;
})"""
FACTS = """() => Object.fromEntries([...document.querySelector('main dl').children].map(
  fact => [fact.querySelector('dt').innerText, fact.querySelector('dd').innerText]))"""
# Words whose colour is too near to what is behind them: WCAG 2, 1.4.3.
FAINT = """() => {
  const rgba = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const own = one => [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  // Of a chart the words that are drawn: its title is for those who do not see it.
  const seen = one => !one.closest('svg') || one.tagName === 'text';
  return [...document.querySelectorAll('body *')].filter(one => own(one) && seen(one)).map(one => {
    const style = getComputedStyle(one);
    const [a, b] = [light(rgba(one.closest('svg') ? style.fill : style.color)), light(behind(one))];
    return [one.textContent.trim().slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5).map(([text, ratio]) => `${text}: ${ratio.toFixed(1)}`);
}"""
# Words of charts that are shown in fewer pixels than can be read: they shrink with their chart.
SMALL = """() => [...document.querySelectorAll('svg text')].map(
  one => [one.textContent.trim().slice(0, 40), parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a]
).filter(([, size]) => size < 10).map(([text, size]) => `${text}: ${size.toFixed(1)} px`)"""
# What is wider than its box and can be moved neither with a finger nor with the keyboard.
STUCK = """() => [...document.querySelectorAll('main *')].filter(one => {
  const how = getComputedStyle(one).overflowX;
  const fits = one.closest('svg') || one.scrollWidth <= one.clientWidth + 1;
  if (fits || !['auto', 'scroll', 'hidden'].includes(how)) return false;
  return how === 'hidden' || one.tabIndex !== 0 || !one.getAttribute('aria-label');
}).map(one => one.outerHTML.slice(0, 60))"""
WIDER = "document.scrollingElement.scrollWidth > window.innerWidth"


def count(value):
    return f"{value:,}".replace(",", "\u202f")


def percent(part, whole):
    return f"{part / whole * 100:.2f} %" if whole else "–"


def number(value):
    """About four digits, as src/report/text.rs has them."""
    size = abs(value)
    return f"{value:.0f}" if size >= 1000 else f"{value:.2f}" if size >= 10 else f"{value:.4f}"


def differences(shown, wanted):
    return [f"{name} is {shown.get(name)!r}, ClickHouse has {value!r}" for name, value in wanted.items()
            # "2" is not the beginning of "25".
            if not re.match(re.escape(value) + r"(?![\d.,\u202f])", shown.get(name) or "")]  # fmt: skip


class Check:
    """The pages of one demo."""

    def __init__(self, where, home, page, results, pictures):
        self.clickhouse = f"http://{where.clickhouse}"
        self.home = home
        self.page = page
        self.results = results
        self.pictures = pictures

    def ask(self, sql):
        return browser.ask(self.clickhouse, sql)

    def shown(self, path, status=200):
        """Opens a page; what it complains of is told."""
        found = self.page.open(path)
        self.page.settle()
        wrong = [] if found == status else [f"status {found}"]
        wrong += [said for said in self.page.complaints() if status == 200 or str(status) not in said]
        scripts = self.page.page.evaluate("document.scripts.length")
        self.results.look(f"{path.split('?')[0]} {'' if status == 200 else status}: console, requests, scripts",
                          wrong + (["it has scripts"] if scripts else []))  # fmt: skip

    def rows(self):
        """By model and version, as `churn version v1`."""
        return {" ".join(row["Model"].split()): row for row in self.page.page.evaluate(ROWS) if "Model" in row}

    def begin(self):
        """The drift of `churn` becomes visible: first there is a verdict and it is none, then there is drift."""
        seen = []

        def drifts():
            self.page.open("/?range=15m")
            tag = self.rows().get("churn version v1", {}).get("tag")
            if tag and tag not in seen:
                seen.append(tag)
            return "tag bad" in seen

        self.page.wait("a drift of churn", drifts)
        first = list(self.rows())[0]
        healthy = [] if seen[0] != "tag bad" else [f"it drifts from the beginning: {seen}"]
        self.results.look("a drift that begins is seen", healthy + ([] if first == "churn version v1" else [f"{first} stands first"]))
        self.page.complaints()

    def sealed_since(self, time_s):
        """Until when windows are sealed and all their rows written, once that is the time or later; else nothing."""
        # Marks are written last.
        [row] = self.ask("SELECT intDiv(min(sealed_until_ms), 1000) AS until FROM tidegauge.marks FINAL")
        return row["until"] if row["until"] >= time_s else None

    def all_models(self, until):
        self.shown(f"/?range=15m&until={until}")
        rows = self.rows()
        of = self.of("all", until)
        for model, wanted in self.wanted(of).items():
            self.results.look(f"/: figures of {model}", differences(rows.get(model, {}), wanted))

    def of(self, segment, until):
        end = f"parseDateTime64BestEffort('{until}', 3, 'UTC')"
        return (f"grain = '10s' AND segment = '{segment}' AND window_start < {end} "
                f"AND window_end > {end} - toIntervalMillisecond({RANGE_MS})")  # fmt: skip

    def wanted(self, of):
        """What SQL says of each model and version, as the page writes it."""
        of_each = f"FROM tidegauge_bi.{{}} AS r WHERE {of}{{}} GROUP BY model, version"
        name = "concat(model, ' version ', version) AS name"
        counts = self.ask(f"SELECT {name}, sum(inferences) AS n, sum(errors) AS bad " + of_each.format("serving", ""))
        models = {row["name"]: {"Inferences": count(row["n"]), "Errors": percent(row["bad"], row["n"])} for row in counts}
        whole = {row["name"]: row["n"] for row in counts}
        for row in self.ask(f"SELECT {name}, sum(labelled) AS n " + of_each.format("labels", "")):
            models[row["name"]]["Labelled"] = percent(row["n"], whole[row["name"]])
        # Of the newest window with enough labels, or of which no more can come.
        newest = "argMax(r.auroc, (r.n_scored > 0 AND (r.n_scored >= 100 OR r.sealed), window_start)) AS newest"
        for row in self.ask(f"SELECT {name}, {newest} " + of_each.format("quality_binary", " AND r.auroc IS NOT NULL")):
            models[row["name"]]["Quality"] = f"AUROC {number(row['newest'])}"
        for row in self.ask(
            f"SELECT {name}, countIf(verdict = 'drift') AS bad, count() AS compared FROM (SELECT model, version, verdict, "
            "window_start, max(window_start) OVER (PARTITION BY model, version) AS newest FROM tidegauge_bi.drift "
            f"WHERE {of} AND is_primary > 0 AND verdict != 'insufficient_data') WHERE window_start = newest "
            "GROUP BY model, version"
        ):
            models[row["name"]]["Drift"] = f"{row['bad']} of {row['compared']} drift"
        if not models:
            raise browser.Trouble("ClickHouse has no rows of the demo")
        return models

    def one_model(self, until):
        address = f"/model?model=churn&version=v1&range=15m&until={until}"
        self.shown(address)
        segments = self.page.page.locator("select[name=segment] option").all_inner_texts()
        self.results.look("/model: segments to choose", [] if len(segments) > 1 and segments[0] == "all" else [str(segments)])
        self.figures("all", until)
        # The form of filters leads to the page with them in its address.
        segment = segments[-1]
        self.page.page.select_option("select[name=segment]", segment)
        self.page.page.click("form button")
        self.page.settle()
        given = self.given()
        wanted = {"model": "churn", "version": "v1", "segment": segment, "range": "15m", "until": until}
        missing = [f"{name}={value} is not in the address" for name, value in wanted.items() if given.get(name) != value]
        self.results.look("/model: filters stand in the address", missing)
        self.figures(segment, until)
        self.results.look("/model: console, requests with a segment", self.page.complaints())

    def given(self):
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.page.page.url).query, keep_blank_values=True))

    def figures(self, segment, until):
        of = f"{self.of(segment, until)} AND model = 'churn'"
        [serving] = self.ask(f"SELECT sum(inferences) AS n, sum(errors) AS bad FROM tidegauge_bi.serving WHERE {of}")
        [labels] = self.ask(f"SELECT sum(labelled) AS n FROM tidegauge_bi.labels WHERE {of}")
        wanted = {"Inferences": count(serving["n"]), "Errors": count(serving["bad"]), "Labelled": count(labels["n"])}
        self.results.look(f"/model: figures of churn, {segment}", differences(self.page.page.evaluate(FACTS), wanted))

    def one_feature(self, until):
        of = f"{self.of('all', until)} AND model = 'churn'"
        [worst] = self.ask(f"SELECT feature FROM tidegauge_bi.drift WHERE {of} AND kind = 'feature' AND verdict = 'drift' "
                           "GROUP BY feature ORDER BY count() DESC, feature LIMIT 1")  # fmt: skip
        # By its link on the model's page.
        self.page.open(f"/model?model=churn&version=v1&range=15m&until={until}")
        self.page.page.click(f"nav[aria-label=Features] a:has-text('{worst['feature']}')")
        self.page.settle()
        given = self.given()
        self.results.look("/feature: its link keeps the view", [] if given.get("until") == until else [str(given)])
        self.shown(f"/feature?{urllib.parse.urlencode(given)}")
        wanted = self.ask(
            f"SELECT method, verdict, value, n FROM tidegauge_bi.drift WHERE {of} AND feature = '{worst['feature']}' AND "
            f"window_start = (SELECT max(window_start) FROM tidegauge_bi.drift WHERE {of} "
            f"AND feature = '{worst['feature']}' AND is_primary > 0 AND verdict != 'insufficient_data')"
        )
        rows = {row["Method"].split()[0]: row for row in self.page.page.evaluate(ROWS) if "Method" in row}
        for row in wanted:
            said = {"Verdict": row["verdict"].replace("_", " "), "n": count(row["n"])}
            if row["value"] is not None and 1e-4 <= abs(row["value"]) < 1e7:
                said["Value"] = number(row["value"])
            self.results.look(f"/feature: {worst['feature']} by {row['method']}", differences(rows.get(row["method"], {}), said))
        # Lines that are drawn, not only words.
        lines = self.page.page.locator("main svg .line").count()
        self.results.look("/feature: charts", [] if lines >= 2 else [f"{lines} lines"])

    def choose(self):
        """The filters of the first page."""
        self.page.open("/?range=15m")
        self.page.page.fill("input[name=model]", "cr*")
        self.page.page.select_option("select[name=range]", "1h")
        self.page.page.click("form button")
        self.page.settle()
        given, rows = self.given(), list(self.rows())
        wrong = [] if given.get("model") == "cr*" and given.get("range") == "1h" else [f"the address has {given}"]
        self.results.look("/: filters", wrong + ([] if rows == ["credit version v1"] else [f"it shows {rows}"]))
        [said] = self.ask("SELECT count() AS n FROM tidegauge_bi.serving WHERE model = 'credit'")
        self.results.look("/: what was filtered is there", [] if said["n"] else ["no rows of credit"])

    def keyboard(self):
        self.page.open("/?range=15m")
        page = self.page.page
        wanted = page.evaluate("[...document.querySelectorAll('a[href], button, select, input:not([type=hidden])')].length")
        reached, unseen = [], []
        for _ in range(wanted + 5):
            page.keyboard.press("Tab")
            [at, name, outline] = page.evaluate(
                "(() => { const all = [...document.querySelectorAll('a[href], button, select, input:not([type=hidden])')];"
                "const one = document.activeElement, style = getComputedStyle(one);"
                "return [all.indexOf(one), one.outerHTML.slice(0, 60), style.outlineStyle !== 'none' ? "
                "parseFloat(style.outlineWidth) : 0]; })()"
            )
            if at >= 0:
                reached.append(at)
                if outline < 2:
                    unseen.append(name)
        missing = [] if set(range(wanted)) <= set(reached) else [f"{len(set(reached))} of {wanted} reached"]
        first = [] if reached[:1] == [0] else ["the first is not the way to the content"]
        self.results.look("keyboard: everything is reached, in order, and seen", missing + first + unseen)
        page.focus("tbody a")
        name = page.evaluate("document.activeElement.innerText")
        page.keyboard.press("Enter")
        page.wait_for_url("**/model?*")
        self.page.settle()
        self.results.look("keyboard: Enter opens a model", [] if name in page.inner_text("h1") else [page.inner_text("h1")])
        self.page.complaints()

    def live(self):
        loads = []
        self.page.page.on("framenavigated", lambda frame: loads.append(frame.url))
        self.page.open("/?range=15m&live=1")
        self.page.wait("a page that loads itself anew", lambda: len(loads) > 1)
        self.results.look("live: loads itself anew", [] if "live=1" in loads[-1] else [loads[-1]])

    def colours(self, chromium, until):
        """Light and dark, wide and narrow, with pictures."""
        for scheme in ("light", "dark"):
            page = browser.page(chromium, self.home, WIDTH, HEIGHT, color_scheme=scheme)
            backgrounds = set()
            feature = f"/feature?model=churn&version=v1&feature=score&range=15m&until={until}"
            for name, address in (("models", "/?range=15m"), ("model", f"/model?model=churn&version=v1&range=15m&until={until}"),
                                  ("feature", feature)):  # fmt: skip
                page.open(address)
                page.settle()
                backgrounds.add(page.page.evaluate("getComputedStyle(document.body).backgroundColor"))
                height = page.page.evaluate("Math.min(document.documentElement.scrollHeight, 3000)")
                page.picture(self.pictures / f"pages-{name}-{scheme}.webp", height)
                self.results.look(f"{scheme}: {name} can be read", page.page.evaluate(FAINT))
                for width in (WIDTH, PHONE):
                    page.page.set_viewport_size({"width": width, "height": HEIGHT})
                    wider = page.page.evaluate(WIDER)
                    self.results.look(f"{scheme}: {name} fits {width} px", ["it is wider"] if wider else [])
                    self.results.look(f"{scheme}: charts of {name} can be read at {width} px", page.page.evaluate(SMALL))
                    self.results.look(f"{scheme}: {name} scrolls at {width} px", page.page.evaluate(STUCK))
                page.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
            light = "rgb(255, 255, 255)"
            fits = backgrounds == {light} if scheme == "light" else light not in backgrounds
            self.results.look(f"{scheme}: background", [] if fits else [str(backgrounds)])
            self.results.look(f"{scheme}: console, requests", page.complaints())


def faint_words_are_found(page, results):
    """The look at colours can fail."""
    page.page.set_content("<body style='background: #fff'><p style='color: #bbb'>faint</p><p>clear</p></body>")
    found = page.page.evaluate(FAINT)
    results.look("planted: faint words", [] if len(found) == 1 and found[0].startswith("faint") else [str(found)])


def small_words_are_found(page, results):
    """The looks at charts and at boxes that scroll can fail, and those at colours see charts."""
    page.page.set_content(
        "<body style='background: #fff'><main><svg viewBox='0 0 640 20' style='width: 320px'>"
        "<text y='9' font-size='12'>small</text><text y='9' font-size='24' fill='#bbb'>faint</text></svg>"
        "<div style='width: 50px; overflow-x: auto'><p style='width: 90px'>stuck</p></div></main>"
    )
    looks = (("small words", SMALL, "small"), ("faint words of a chart", FAINT, "faint"), ("a box", STUCK, "<div"))
    for name, look, first in looks:
        found = page.page.evaluate(look)
        results.look(f"planted: {name}", [] if len(found) == 1 and found[0].startswith(first) else [str(found)])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--program", default=local.ROOT / "target/demo/tidegauge", help="tidegauge")
    options.add_argument("--pictures", type=pathlib.Path, default=local.ROOT / "target/browser", help="folder")
    asked = options.parse_args()
    results = browser.Results()
    port = local.free_port()
    home = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder, browser.chromium() as chromium:
        where = local.Local(folder, None, asked.program, sys.executable)
        with where.demo("--overview-port", str(port)):
            begun = time.time()
            page = browser.page(chromium, home, WIDTH, HEIGHT)
            faint_words_are_found(page, results)
            small_words_are_found(page, results)
            check = Check(where, home, page, results, asked.pictures)
            check.begin()
            # Windows that drift must have been sealed, so that what is compared stands still.
            sealed = page.wait("windows that are sealed", lambda: check.sealed_since(begun + DRIFTS_AFTER_S))
            until = datetime.datetime.fromtimestamp(sealed, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            check.all_models(until)
            check.one_model(until)
            check.one_feature(until)
            check.shown("/nowhere", 404)
            check.shown("/?range=1y", 400)
            check.choose()
            check.keyboard()
            check.live()
            check.colours(chromium, until)
    results.end()
    print(f"the overview is as it should be; pictures are in {asked.pictures}")


if __name__ == "__main__":
    main()
