#!/usr/bin/env python3
"""Opens the three dashboards in a fresh Superset in Chromium, and looks at what is drawn.

usage: dashboards.py [--superset-python PATH] [--program target/demo/tidegauge] [--pictures target/browser]
Run it with the Python of `.ci/fetch browser`: `make superset-browser` does. Exits with 1 if a chart shows an error, is
empty where ClickHouse has figures, or if a filter does not filter.
"""

import argparse
import json
import pathlib
import re
import sys

import browser

sys.path.insert(0, str(browser.ROOT / "deploy/superset"))

import charts  # noqa: E402
import local  # noqa: E402

WIDTHS = (1400, 1280)
# High enough for all charts: Superset draws only those within sight.
HEIGHT = 7000
# Every page asks for a picture of one pixel from outside, which tells Superset's makers of it.
COUNTED_BY = "apachesuperset.gateway.scarf.sh"
# The week that is there, of a job that is not the newest.
HISTORY = local.chosen(job="history")
WEEK = ("now64(3, 'UTC') - INTERVAL 7 DAY", "now64(3, 'UTC')")
# Charts of other tabs that were looked at before stay on the page, but out of sight.
LOOK = """() => [...document.querySelectorAll('[data-test=chart-grid-component]')].filter(chart => chart.offsetParent).map(chart => {
  const canvas = chart.querySelector('canvas');
  let drawn = chart.querySelectorAll('tbody tr').length;
  if (canvas && canvas.width && canvas.height) {
    const points = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    for (let at = 0; at < points.length; at += 4) {
      const rgb = points.slice(at, at + 3);
      // Axes and words are grey.
      if (points[at + 3] > 0 && Math.max(...rgb) - Math.min(...rgb) > 20) drawn++;
    }
  }
  const number = chart.querySelector('.header-line');
  if (number && /\\d/.test(number.innerText)) drawn++;
  return {
    name: chart.dataset.testChartName,
    loading: !!chart.querySelector('[data-test=loading-indicator], .loading') || !chart.querySelector('.dashboard-chart'),
    error: chart.querySelector('[role=alert]')?.innerText,
    empty: /No results were returned|No data/.test(chart.innerText),
    number: number?.innerText,
    drawn,
  };
})"""


class Dashboard:
    """One dashboard on a page."""

    def __init__(self, page, name, definitions):
        self.page = page
        self.name = name
        self.charts = {chart["title"]: chart for chart in definitions.values() if chart["dashboard"] == name}
        # In order; one without a title where the dashboard has none.
        self.tabs = list(dict.fromkeys(chart.get("tab") for chart in self.charts.values()))

    def open(self, chosen=""):
        self.page.open(f"/superset/dashboard/tidegauge-{self.name}/{chosen}")
        return self.drawn()

    def drawn(self):
        """The state of each chart by its title, once all are drawn: one tab after the other, the first again at the end."""
        shown = {}
        for tab in self.tabs:
            self.turn_to(tab)
            shown |= self.drawn_on(tab)
        self.turn_to(self.tabs[0])
        return shown

    def turn_to(self, tab):
        if tab is not None:
            self.page.page.locator(f"[role=tab] [data-test=span-title]:text-is('{tab}')").click()

    def drawn_on(self, tab):
        expected = {title for title, chart in self.charts.items() if chart.get("tab") == tab}

        def all_there():
            if self.page.pending or self.page.page.get_by_text("Loading filter values").count():
                return None
            found = self.page.page.evaluate(LOOK)
            done = [not each["loading"] and (each["error"] or each["empty"] or each["drawn"]) for each in found]
            return found if {each["name"] for each in found} == expected and all(done) else None

        try:
            self.page.wait("charts that are drawn", all_there)
        except browser.Trouble:
            # Whoever calls says which are missing, and why.
            pass
        self.page.settle()
        return {each["name"]: each for each in self.page.page.evaluate(LOOK)}

    def height(self):
        return self.page.page.evaluate(
            "Math.ceil(Math.max(...[...document.querySelectorAll('.dashboard-component-chart-holder')]"
            ".filter(each => each.offsetParent).map(each => each.getBoundingClientRect().bottom))) + 16"
        )

    def choose(self, column, value):
        """In a filter, then applies it."""
        page = self.page.page
        page.locator(f"[data-test=NATIVE_FILTER-{column}] .ant-select-selector").click()
        page.locator(f".ant-select-item-option[title='{value}']").click()
        page.keyboard.press("Escape")
        with page.expect_request("**/api/v1/chart/data*"):
            page.locator("[data-test=filter-bar__apply-button]").click()
        return self.drawn()


def wrong(dashboard, shown, ask, model=None, grain="1h", span=WEEK, job="history"):
    """What is wrong with the charts that are shown: errors, and those that are empty though ClickHouse has figures."""
    found = [f"{title} is not there" for title in dashboard.charts.keys() - shown.keys()]
    for title, each in shown.items():
        has_figures = not charts.is_empty(ask(charts.sql(dashboard.charts[title], *span, model, grain, job)))
        if each["error"]:
            found.append(f"{title}: {' '.join(each['error'].split())}")
        elif each["loading"]:
            found.append(f"{title} still loads")
        elif has_figures and (each["empty"] or not each["drawn"]):
            found.append(f"{title} is empty")
        elif not has_figures and not each["empty"] and each["number"] is None:
            found.append(f"{title} shows figures where ClickHouse has none")
    return found


def log_in(page, password):
    page.open("/login/")
    page.page.fill("#username", "admin")
    page.page.fill("#password", password)
    page.page.click("[data-test=login-button]")
    page.page.wait_for_url("**/superset/welcome/**")


def planted(page, definitions, ask):
    """One chart that fails and one that gets nothing are told, and no other is."""
    failing, empty = "Traffic", "Accuracy"

    def answer(route):
        form = json.loads(route.request.post_data or "{}").get("form_data", {})
        name = numbers.get(form.get("slice_id"))
        if name == failing:
            said = {"errors": [{"message": "planted", "error_type": "GENERIC_DB_ENGINE_ERROR", "level": "error", "extra": {}}]}
            route.fulfill(status=500, content_type="application/json", body=json.dumps(said))
        elif name == empty:
            said = {"result": [{"data": [], "colnames": [], "coltypes": [], "rowcount": 0, "status": "success"}]}
            route.fulfill(content_type="application/json", body=json.dumps(said))
        else:
            route.continue_()

    listed = page.page.request.get(f"{page.home}/api/v1/chart/?q=(page_size:1000)").json()["result"]
    numbers = {each["id"]: each["slice_name"] for each in listed}
    page.page.route("**/api/v1/chart/data*", answer)
    dashboard = Dashboard(page, "overview", definitions)
    found = wrong(dashboard, dashboard.open(HISTORY), ask)
    page.page.unroute("**/api/v1/chart/data*")
    page.complaints()
    names = {said.split(":")[0].removesuffix(" is empty") for said in found}
    return "" if names == {failing, empty} else f"found {found or 'nothing'}"


def look_at_all(chromium, where, ask, results, pictures):
    definitions = charts.read()
    filled = set()
    for width in WIDTHS:
        page = browser.page(chromium, where.url, width, HEIGHT)
        log_in(page, where.password("SUPERSET"))
        if width == WIDTHS[0]:
            results.look("planted faults are found", planted(page, definitions, ask))

        overview = Dashboard(page, "overview", definitions)
        # The newest job is chosen when it opens: the demo's, whose window of an hour has hardly begun.
        before = figure(ask, None, "demo", "10s")
        number = inferences(overview.open(local.chosen(grain="10s")))
        said = "" if before <= number <= figure(ask, None, "demo", "10s") else f"shows {number}, ClickHouse has {before}"
        results.look(f"overview, {width} px, inferences of the newest job", said)
        results.look(f"overview, {width} px", wrong(overview, overview.open(HISTORY), ask))
        page.picture(pictures / f"overview-{width}.webp", overview.height())
        before = figure(ask, "churn")
        shown = overview.choose("model", "churn")
        results.look(f"overview, {width} px, churn chosen", wrong(overview, shown, ask, "churn"))
        number = inferences(shown)
        said = "" if before <= number <= figure(ask, "churn") else f"shows {number}, ClickHouse has {before}"
        results.look(f"overview, {width} px, inferences of churn", said)
        results.look(f"overview, {width} px: console, requests", page.complaints({COUNTED_BY}))

        model = Dashboard(page, "model", definitions)
        shown = model.open(HISTORY)
        for name in ("churn", "support", "delivery"):
            # The first one is chosen when it opens.
            shown = shown if name == "churn" else model.choose("model", name)
            results.look(f"model, {width} px, {name}", wrong(model, shown, ask, name))
            filled |= {title for title, each in shown.items() if not each["empty"]}
            for tab in model.tabs:
                model.turn_to(tab)
                model.drawn_on(tab)
                page.picture(pictures / f"model-{name}-{tab.lower().replace(' ', '-')}-{width}.webp", model.height())
        results.look(f"model, {width} px: console, requests", page.complaints({COUNTED_BY}))

        stream = Dashboard(page, "stream", definitions)
        results.look(f"stream, {width} px", wrong(stream, stream.open(HISTORY), ask))
        hour = local.chosen(time='DATEADD(DATETIME("now"), -1, hour) : now', job="demo", grain="10s")
        span = ("now64(3, 'UTC') - INTERVAL 1 HOUR", "now64(3, 'UTC')")
        results.look(f"stream, {width} px, last hour by 10 s", wrong(stream, stream.open(hour), ask, None, "10s", span, "demo"))
        page.picture(pictures / f"stream-{width}.webp", stream.height())
        results.look(f"stream, {width} px: console, requests", page.complaints({COUNTED_BY}))
    never = {chart["title"] for chart in definitions.values() if chart["dashboard"] == "model"} - filled
    results.look("every chart of the model dashboard has figures of some model", sorted(never))


def inferences(shown):
    return int(re.sub(r"\D", "", shown["Inferences"]["number"] or "") or -1)


def figure(ask, model, job="history", grain="1h"):
    of_model = f"AND model = '{model}' " if model else ""
    rows = ask(
        f"SELECT sum(inferences) AS n FROM tidegauge_bi.serving WHERE grain = '{grain}' AND segment = 'all' "
        f"AND job = '{job}' {of_model}AND window_start >= {WEEK[0]} AND window_start < {WEEK[1]}"
    )
    return int(rows[0]["n"])


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--superset-python", required=True, help="the Python that has Superset")
    options.add_argument("--program", default=local.ROOT / "target/demo/tidegauge", help="tidegauge")
    options.add_argument("--pictures", type=pathlib.Path, default=local.ROOT / "target/browser", help="folder")
    asked = options.parse_args()
    results = browser.Results()
    python = str(pathlib.Path(asked.superset_python).absolute())
    with local.everything(program=asked.program, python=python) as (where, _), browser.chromium() as chromium:

        def ask(sql):
            return browser.ask(f"http://{where.clickhouse}", sql, "tidegauge_bi", where.password("TIDEGAUGE_BI"))

        look_at_all(chromium, where, ask, results, asked.pictures)
    results.end()
    print(f"all dashboards are as they should be; pictures are in {asked.pictures}")


if __name__ == "__main__":
    main()
