#!/usr/bin/env python3
"""Tidegauge as a peer of a foreign harness that measures stream processors by one job.

    external.py BROKER INFERENCES_TOPIC LABELS_TOPIC OUT_TOPIC INFERENCES LABELLED

Starts an embedded ClickHouse of its own, reads both topics with `tidegauge run --until-end`, and then writes the sums of
each model, version and 5-minute window to OUT_TOPIC as JSON. Its last line on standard output is an object of figures:

- `work_s`: seconds from the start of `tidegauge run` to its end, when all rows are acknowledged;
- `cpu_s`, `rss_mb`: of that process alone; `clickhouse_cpu_s`: what the database took meanwhile.

It needs the release build (`cargo build --release --bins`), `.ci/fetch clickhouse kafka`, and nothing else of Python.
State is recoverable: rows, marks and seal marks lie in ClickHouse, and what is held is read again from the log.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"
TICKS = os.sysconf("SC_CLK_TCK")
# Windows as the job has them. A label may come an hour after its inference, and records of both topics are up to
# 100 ms out of order.
CONFIGURATION = """\
job = "peer"
[kafka]
brokers = "{broker}"
[inferences]
topic = "{inferences}"
format = "json"
[labels]
topic = "{labels}"
format = "json"
[windows]
size = "5m"
label_wait = "1h"
[models."*"]
task = "binary"
[clickhouse]
url = "{clickhouse}"
# There are none; one would show among the rows.
[dead_letters]
topic = "{out}"
[http]
listen = "127.0.0.1:0"
"""
# The sums of each key, from the figures of its rows.
SUMS = """
SELECT s.model AS model, s.version AS version, toInt64(toUnixTimestamp64Milli(s.window_start)) AS window_start,
    s.inferences AS inferences, l.labelled AS labelled, q.tp AS tp, q.fp AS fp, q.tn AS tn, q.fn AS fn,
    s.latency_sum_ms AS latency_sum, ifNull(q.brier, 0) * q.n_scored AS brier_sum
FROM (SELECT * FROM tidegauge.serving FINAL) AS s
INNER JOIN (SELECT * FROM tidegauge.quality_binary FINAL) AS q
USING (job, grain, model, version, segment, window_start)
INNER JOIN (SELECT * FROM tidegauge.labels FINAL) AS l
USING (job, grain, model, version, segment, window_start)
WHERE job = 'peer' AND grain = '5m' AND segment = 'all'
FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0
"""
SETTINGS = """\
<clickhouse>
  <profiles><default><max_threads>1</max_threads></default></profiles>
  <users><default><password></password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota></default></users>
  <quotas><default></default></quotas>
</clickhouse>
"""


class ClickHouse:
    """An embedded one, which ends when nobody holds its standard input any more."""

    def __init__(self, folder: pathlib.Path) -> None:
        libraries = sorted((ROOT / ".cache" / "clickhouse").glob("*/libchdb.so"))
        if not libraries:
            sys.exit("no embedded ClickHouse: run .ci/fetch clickhouse")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        users, config, run = folder / "users.xml", folder / "server.xml", folder / "run"
        run.mkdir()
        users.write_text(SETTINGS)
        config.write_text(
            f"<clickhouse><users_config>{users}</users_config><user_directories><users_xml>"
            f"<path>{users}</path></users_xml></user_directories></clickhouse>\n"
        )
        command = [RELEASE / "tidegauge-clickhouse", libraries[-1], "--path", folder / "store"]
        command += ["--config-file", config, "--listen_host", "127.0.0.1", "--http_port", str(port)]
        command += ["--interactive", "--disable_suggestion", "--query", "SYSTEM START LISTEN HTTP"]
        log = (folder / "clickhouse.log").open("w")
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=run, env={**os.environ, "TZ": "UTC"}
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.query("SELECT 1")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit((folder / "clickhouse.log").read_text()[-3000:])
                time.sleep(0.05)

    def query(self, sql: str) -> str:
        try:
            with urllib.request.urlopen(self.url, sql.encode(), timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            sys.exit(error.read().decode(errors="replace"))

    def cpu_s(self) -> float:
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)


def run(broker: str, inferences: str, labels: str, out: str, folder: pathlib.Path) -> dict:
    clickhouse = ClickHouse(folder)
    config = folder / "tidegauge.toml"
    names = {"broker": broker, "inferences": inferences, "labels": labels, "out": out}
    config.write_text(CONFIGURATION.format(clickhouse=clickhouse.url, **names))
    subprocess.run([RELEASE / "tidegauge", "init", "-c", config], check=True, stdout=sys.stderr)
    before, begun = clickhouse.cpu_s(), time.monotonic()
    process = subprocess.Popen([RELEASE / "tidegauge", "run", "-c", config, "--until-end"], stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    work_s = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"tidegauge ended with {process.returncode}")
    figures = {
        "work_s": work_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "rss_mb": used.ru_maxrss / 1024,
        "clickhouse_cpu_s": clickhouse.cpu_s() - before,
    }
    write(broker, out, clickhouse.query(SUMS))
    clickhouse.stop()
    return figures


def write(broker: str, topic: str, rows: str) -> None:
    libraries = sorted((ROOT / ".cache" / "kafka").glob("*/libs"))
    if not libraries:
        sys.exit("no Kafka: run .ci/fetch kafka")
    program = pathlib.Path(__file__).resolve().with_name("Lines.java")
    command = ["java", "-cp", f"{libraries[-1]}/*", program, broker, topic]
    subprocess.run(command, input=rows, text=True, check=True, stdout=sys.stderr)


def main() -> None:
    if len(sys.argv) != 7:
        sys.exit(__doc__)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tidegauge-peer-"))
    try:
        print(json.dumps(run(*sys.argv[1:5], folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
