"""Opens the dashboards in headless Chromium as a viewer does: logs in, chooses a model, and takes pictures."""

import io
import shutil
import sys
import tempfile
import time

import yaml
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import client

WIDTH = 1400
PATIENCE_S = 180
COLOURS = 128
LARGEST = 300_000  # bytes of a picture

# Each chart's title and what is wrong with it: "" where it is drawn, null while it loads.
CHARTS_SHOWN = """
return [...document.querySelectorAll('[data-test="dashboard-component-chart-holder"]')].map(holder => {
  const title = (holder.querySelector('[data-test="editable-title"]') || holder).textContent.trim();
  if (holder.querySelector('[data-test="loading-indicator"], .loading')) return [title, null];
  const said = holder.textContent;
  const wrong = holder.querySelector('.ant-alert, .missing-chart-container') ||
    /No results were returned|No data|An error occurred|Unexpected error/.test(said);
  const drawn = holder.querySelector('canvas, svg.chart, table, .header-line, [class*="big-number"], [class*="superset-legacy-chart"]');
  return [title, wrong ? said : drawn ? '' : null];
});
"""


class Browser:
    """One window, logged in."""

    def __init__(self, url, password, profile):
        missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
        if missing:
            sys.exit(f"{' and '.join(missing)} missing: install chromium and chromium-driver (.ci/fetch browser does)")
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for option in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars", f"user-data-dir={profile}"):
            options.add_argument(f"--{option}")
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        self.url = url
        self.size(1000)
        self.driver.get(f"{url}/login/")
        for name, text in (("username", "admin"), ("password", password)):
            self.find(f'input[name="{name}"], input#{name}').send_keys(text)
        self.find('[data-test="login-button"], input[type="submit"]').click()
        self.wait(lambda driver: "/login" not in driver.current_url)

    def size(self, height):
        metrics = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def wait(self, condition):
        return WebDriverWait(self.driver, PATIENCE_S).until(condition)

    def find(self, css):
        return self.wait(lambda driver: driver.find_element(By.CSS_SELECTOR, css))

    def open(self, slug):
        """Shows a whole dashboard: charts beyond the window would not be drawn."""
        self.size(1000)
        self.driver.get(f"{self.url}/superset/dashboard/{slug}/")
        self.find('[data-test="dashboard-component-chart-holder"]')
        height = self.driver.execute_script("return document.querySelector('.grid-container').scrollHeight")
        self.size(height + 250)

    def drawn(self, count):
        """The charts' titles and what is wrong with each, once none loads."""

        def done(driver):
            shown = driver.execute_script(CHARTS_SHOWN)
            return shown if len(shown) == count and all(wrong is not None for _, wrong in shown) else False

        try:
            return self.wait(done)
        except Exception:  # noqa: BLE001: what did not come in time is said of each
            shown = self.driver.execute_script(CHARTS_SHOWN)
            return [(title, "is not drawn" if wrong is None else wrong) for title, wrong in shown]

    def choose_model(self, model):
        """By the filter bar, as a viewer does."""
        box = self.find('[data-test="form-item-value"] .ant-select input[aria-label*="odel"]')
        box.send_keys(model)
        self.wait(lambda driver: driver.find_elements(By.CSS_SELECTOR, f'.ant-select-item-option[title="{model}"]'))
        box.send_keys(Keys.ENTER)
        self.find('[data-test="filter-bar__apply-button"]').click()

    def number(self, title):
        """What a big number says."""
        script = """
          const holder = [...document.querySelectorAll('[data-test="dashboard-component-chart-holder"]')]
            .find(h => h.querySelector('[data-test="editable-title"]')?.textContent.trim() === arguments[0]);
          return holder?.querySelector('.header-line')?.textContent.trim();
        """
        return self.driver.execute_script(script, title)

    def picture(self, path):
        taken = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
        taken.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size > LARGEST:
            print(f"{path} has {path.stat().st_size} bytes", file=sys.stderr)


def dashboards():
    for path in sorted((client.ASSETS / "dashboards").glob("*.yaml")):
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        charts = [item for item in said["position"].values() if isinstance(item, dict) and item["type"] == "CHART"]
        yield path.stem, said["slug"], len(charts)


def look(where, pictures):
    """What is wrong: titles of charts that are not drawn, and the filter if it does nothing."""
    pictures.mkdir(parents=True, exist_ok=True)
    bad = []
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(where.url, where.password("SUPERSET"), profile)
        try:
            for name, slug, count in dashboards():
                browser.open(slug)
                for title, wrong in browser.drawn(count):
                    print(f"{name:10} {title:56} {wrong or 'drawn'}", flush=True)
                    bad += [f"{name}: {title}"] * bool(wrong)
                time.sleep(2)  # until the lines have grown to their places
                browser.picture(pictures / f"{name}.png")
            bad += check_filter(browser)
        finally:
            browser.driver.quit()
    return bad


def check_filter(browser):
    """One model chosen on the overview: it is the only one, and every chart is still drawn."""
    _, slug, count = next(each for each in dashboards() if each[0] == "overview")
    browser.open(slug)
    browser.drawn(count)
    before = browser.number("Models")
    browser.choose_model("churn")
    browser.wait(lambda _: browser.number("Models") == "1")
    wrong = [title for title, wrong in browser.drawn(count) if wrong]
    print(f"overview   the model filter: {before} models, then {browser.number('Models')}; wrong: {wrong}")
    return wrong
