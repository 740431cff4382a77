"""Five models' last week as files that `tidegauge profile` and `tidegauge backfill` read.

The demo's three models and two more, one of several classes and one of numbers, so that every chart has something to
show. Planted: the features of `churn` drift and its quality falls from the fifth day on, the second version of `fraud`
takes over, `credit` fails and is slow for six hours, `delivery` gets ever more optimistic. The same seed and end give
the same files.
"""

import json
import math
import pathlib
import random

HOUR_MS = 3_600_000
HOURS = 7 * 24
USUAL = 150  # inferences of a model in an hour
REFERENCE = 4_000
TOPICS = ["billing", "delivery", "login", "returns"]
MODELS = {"fraud": "binary", "churn": "binary", "credit": "binary", "support": "multiclass", "delivery": "regression"}

CONFIGURATION = """\
job = "history"
inferences.topic = "inferences"
labels.topic = "labels"
dead_letters.topic = "tidegauge.dead"
clickhouse.url = "{clickhouse}"
[windows]
size = "1h"
grains = ["1d"]
lateness = "10m"
label_wait = "2d"
"""


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


class Week:
    """One seeded stream of inferences and labels."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.number = 0
        self.inferences = []
        self.labels = []

    def add(self, model, time_ms, hour, good):
        """One inference at this time; `good`: a day on which all is well."""
        chance, bad = self.random, not good
        late_week = bad and hour >= 4 * 24
        incident = bad and model == "credit" and 76 <= hour < 82
        drifts = late_week and model == "churn"
        said = {
            "request_id": f"h{self.number}",
            "model": model,
            "version": "v2" if model == "fraud" and chance.random() < (0.1 + 0.8 * hour / HOURS) * bad else "v1",
            "timestamp": time_ms,
            "latency_ms": round(chance.lognormvariate(2.5, 0.4) * (6 if incident else 1), 3),
            "segments": {"region": chance.choices(["eu", "us", "ap"], [5, 3, 2])[0]},
            "features": {
                "amount": round(chance.lognormvariate(4, 1), 2),
                "age": None if chance.random() < 0.02 else round(chance.gauss(43, 12)),
                "income": round(chance.lognormvariate(10.4 - (0.35 * drifts), 0.4)),
                "device": chance.choices(["ios", "android", "web"], [4, 4, 6 if drifts else 2])[0],
            },
        }
        self.number += 1
        if chance.random() < (0.12 if incident else 0.004):
            said["error"] = "timeout"
        label = getattr(self, MODELS[model])(said, hour if late_week else 0, drifts)
        self.inferences.append(said)
        if good or chance.random() < 0.93:
            delay = chance.expovariate(1 / (2 * HOUR_MS if model == "credit" else HOUR_MS / 6))
            at = time_ms + min(round(delay), 40 * HOUR_MS)
            self.labels.append({"request_id": said["request_id"], "timestamp": at, "label": label})

    def binary(self, said, _hour, drifts):
        truth = self.random.random() < 0.3
        pull = 0.35 if drifts else 1.3
        said["score"] = round(sigmoid(2.6 * self.random.gauss(pull if truth else -pull, 1.0) - 0.85), 4)
        return int(truth)

    def multiclass(self, said, _hour, _drifts):
        truth = self.random.choices(TOPICS, [4, 3, 2, 2])[0]
        weights = [math.exp(self.random.gauss(2.2 if topic == truth else 0, 1)) for topic in TOPICS]
        scores = {topic: round(weight / sum(weights), 4) for topic, weight in zip(TOPICS, weights)}
        said["scores"] = scores
        said["prediction"] = max(scores, key=scores.get)
        return truth

    def regression(self, said, hour, _drifts):
        truth = max(5.0, self.random.gauss(45, 12))
        bias = 0.08 * max(0, hour - 4 * 24)
        said["prediction"] = round(truth + self.random.gauss(0, 5) - bias, 2)
        return round(truth, 2)


def write_lines(path, records):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def write(folder, clickhouse, end_ms, seed=1):
    """Writes all files: the hours before `end_ms`, and for each model the day that its reference is made of."""
    folder = pathlib.Path(folder)
    start_ms = end_ms - HOURS * HOUR_MS
    week = Week(seed)
    for hour in range(HOURS):
        rhythm = 1 + 0.5 * math.sin((hour - 8) / 24 * 2 * math.pi)
        for model in MODELS:
            for _ in range(round(USUAL * rhythm)):
                time_ms = start_ms + hour * HOUR_MS + week.random.randrange(HOUR_MS)
                week.add(model, time_ms, hour, good=False)
    week.inferences.sort(key=lambda said: said["timestamp"])
    write_lines(folder / "inferences.jsonl", week.inferences)
    # Labels that are still to come are in no file.
    labels = [said for said in week.labels if said["timestamp"] < end_ms]
    write_lines(folder / "labels.jsonl", sorted(labels, key=lambda said: said["timestamp"]))

    plain = configuration = CONFIGURATION.format(clickhouse=clickhouse)
    for model, task in MODELS.items():
        day = Week(f"{seed} {model}")
        for number in range(REFERENCE):
            day.add(model, start_ms - 24 * HOUR_MS + number * 20_000, 0, good=True)
        write_lines(folder / f"{model}.inferences.jsonl", day.inferences)
        write_lines(folder / f"{model}.labels.jsonl", day.labels)
        section = f'[models.{model}]\ntask = "{task}"\nsegments = ["region"]\n'
        if task == "binary":
            section += "thresholds = [0.3, 0.4, 0.6, 0.7]\n"
        plain += section
        configuration += section + f'reference = "{model}.json"\n'
    (folder / "without_references.toml").write_text(plain)
    (folder / "tidegauge.toml").write_text(configuration)
