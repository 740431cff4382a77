#!/usr/bin/env python3
"""The demo, its past week and Superset with the dashboards on this machine; Ctrl-C ends all of it.

usage: [SUPERSET_PASSWORD=...] local.py [--port 8088] [--program target/demo/tidegauge]
Run it with the Python of `.ci/fetch superset`: `make superset` does. Nothing stays behind.
"""

import argparse
import contextlib
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import client
import history

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "superset"
START_S = 300


def say(text):
    print(text, file=sys.stderr, flush=True)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Local:
    """What runs. Logs and Superset's own database lie in a folder that goes with it."""

    def __init__(self, folder, port, program, python):
        self.folder = pathlib.Path(folder)
        self.program = pathlib.Path(program).resolve()
        self.python = python
        self.port = port or free_port()
        self.clickhouse = f"127.0.0.1:{free_port()}"
        self.url = f"http://127.0.0.1:{self.port}"
        self.end_ms = int(time.time() * 1000) // history.HOUR_MS * history.HOUR_MS
        self.environment = {
            **os.environ,
            "TZ": "UTC",
            "TIDEGAUGE_PASSWORD": secrets.token_urlsafe(),
            "TIDEGAUGE_BI_PASSWORD": secrets.token_urlsafe(),
            "SUPERSET_PASSWORD": os.environ.get("SUPERSET_PASSWORD") or secrets.token_urlsafe(12),
            "SUPERSET_SECRET_KEY": secrets.token_urlsafe(42),
            "SUPERSET_HOME": str(self.folder),
            "SUPERSET_CONFIG_PATH": str(HERE / "superset_config.py"),
        }

    def password(self, of):
        return self.environment[f"{of}_PASSWORD"]

    def run(self, name, *command):
        """To its end; its output goes to a log, whose end is shown if it fails."""
        log = self.folder / f"{name}.log"
        with open(log, "ab") as output:
            ended = subprocess.run(
                command, env=self.environment, cwd=self.folder, stdout=output, stderr=output, check=False
            )
        if ended.returncode != 0:
            self.fail(name, f"ended with {ended.returncode}")

    @contextlib.contextmanager
    def running(self, name, health, stop, *command):
        """Started, and answering at `health`; ended by the signal `stop`."""
        with open(self.folder / f"{name}.log", "ab") as output:
            # In a group of its own: Ctrl-C ends this program first, which then ends the others in order.
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, process_group=0,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + START_S
            while not answers(health):
                if process.poll() is not None or time.monotonic() > deadline:
                    self.fail(name, f"does not answer at {health}")
                time.sleep(0.2)
            yield process
        finally:
            process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()

    def fail(self, name, what):
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        sys.exit("\n".join([f"{name}: {what}; its log ends with:", *lines[-25:]]))

    @contextlib.contextmanager
    def demo(self, *more):
        users = HERE.parent / "clickhouse/users.d/tidegauge.xml"
        ports = ["--port", str(free_port()), "--clickhouse-port", self.clickhouse.split(":")[1]]
        command = [self.program, "demo", "--rate", "100", *ports, "--clickhouse-users", users, *more]
        # Ready only once its tables are there.
        with self.running("demo", f"http://127.0.0.1:{ports[1]}/readyz", signal.SIGINT, *command):
            yield

    def fill(self):
        """The past week, by the program itself."""
        history.write(self.folder, f"http://{self.clickhouse}", self.end_ms)
        for model in history.MODELS:
            files = ["--inferences", f"{model}.inferences.jsonl", "--labels", f"{model}.labels.jsonl"]
            profile = ["profile", "-c", "without_references.toml", "--name", model, "--model", model]
            self.run("profile", self.program, *profile, *files, "--output", f"{model}.json")
        files = ["--inferences", "inferences.jsonl", "--labels", "labels.jsonl", "--job", "history"]
        self.run("backfill", self.program, "backfill", "-c", "tidegauge.toml", *files)

    @contextlib.contextmanager
    def superset(self):
        """With the dashboards in it: the session of its administrator."""
        self.run("prepare", self.python, HERE / "prepare.py")
        server = [self.python, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}"]
        options = ["--workers", "1", "--threads", "8", "--timeout", "300", "superset.app:create_app()"]
        with self.running("superset", f"{self.url}/health", signal.SIGTERM, *server, *options):
            session = client.Superset(self.url, "admin", self.password("SUPERSET"))
            session.import_assets(client.archive(self.clickhouse))
            yield session


def chosen(**filters):
    """The part of an address that sets filters: in Rison, as Superset writes it."""
    parts = []
    for name, value in filters.items():
        text = "'" + value.replace("!", "!!").replace("'", "!'") + "'"
        if name == "time":
            parts.append(f"NATIVE_FILTER-time:(extraFormData:(time_range:{text}),filterState:(value:{text}),id:NATIVE_FILTER-time)")
        else:
            filtered = f"extraFormData:(filters:!((col:{name},op:IN,val:!({text})))),filterState:(value:!({text}))"
            parts.append(f"NATIVE_FILTER-{name}:({filtered},id:NATIVE_FILTER-{name})")
    return "?native_filters=(" + ",".join(parts) + ")"


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextlib.contextmanager
def everything(port=None, program=ROOT / "target/demo/tidegauge", python=sys.executable):
    """All of it running, Superset with this Python, and a session."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as folder:
        local = Local(folder, port, program, python)
        say("superset: starting the demo")
        with local.demo():
            say("superset: measuring a week of five models")
            local.fill()
            say("superset: preparing Superset and its dashboards, half a minute")
            with local.superset() as session:
                yield local, session
            say("superset: stopping")


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--port", type=int, default=8088, help="of Superset")
    options.add_argument("--program", default=ROOT / "target/demo/tidegauge", help="tidegauge")
    asked = options.parse_args()
    with contextlib.suppress(KeyboardInterrupt), everything(asked.port, asked.program) as (local, _):
        pages = [f"{local.url}/superset/dashboard/tidegauge-{name}/" for name in ("overview", "model", "stream")]
        week = urllib.parse.quote(chosen(job="history"), safe="?=")
        print(
            "\n".join([f"\n  dashboards  {pages[0]}{week}", *(f"              {page}{week}" for page in pages[1:])])
            + f"\n  login       admin  {local.password('SUPERSET')}\n\n"
            "They open with the past week of five models, job history, in windows of 1 h. The demo runs on: choose the job\n"
            "demo, the window 10s and the last hour to see it. Ctrl-C ends it all.\n",
            flush=True,
        )
        signal.pause()


if __name__ == "__main__":
    main()
