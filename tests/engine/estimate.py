"""Writes estimate.json: NannyML's estimates (CBPE) of models with several classes on seeded data, read by estimate.rs.

Pinned as in golden.py, with nannyml 0.13.1 and pandas 3.1.1 in the same environment:

    /tmp/golden/bin/pip install nannyml==0.13.1 pandas==3.1.1
    /tmp/golden/bin/python tests/engine/estimate.py > tests/engine/estimate.json

NannyML breaks ties of scores by their places in memory, so areas of data with ties are counted by pairs here. CI reads
the file only.
"""

import importlib.metadata
import json
import os
import warnings

warnings.filterwarnings("ignore")
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"

import nannyml
import numpy as np
import pandas as pd
from golden import FOUND as GOLDEN, cell
from nannyml.calibration import IsotonicCalibrator
from sklearn.metrics import accuracy_score, roc_auc_score

PINNED = {"nannyml": "0.13.1", "pandas": "3.1.1"}
FOUND = {name: importlib.metadata.version(name) for name in PINNED}
assert PINNED == FOUND, FOUND


def apart(scores):
    """The rows whose scores lie in cells of the score lattice that no row before has a score of the same class in."""
    seen, rows = set(), []
    for row, of_row in enumerate(scores):
        cells = {(k, cell(score)) for k, score in enumerate(of_row)}
        if not cells & seen:
            seen |= cells
            rows.append(row)
    return rows


def records(random, n, classes, tenths):
    """Scores of a model that is too sure of itself, and what is true."""
    logits = random.normal(0, 1.2, (n, len(classes)))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(classes, p=row) for row in true])
    said = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    if tenths:
        said = np.array([random.multinomial(10, row) for row in said]) / 10
    decided = np.array(classes)[said.argmax(axis=1)]
    # Some decide by another rule than the greatest score.
    own = random.random(n) < 0.1
    decided[own] = random.choice(classes, own.sum())
    return said, decided, labels


def frame(classes, said, decided, labels):
    columns = {f"s_{c}": said[:, k] for k, c in enumerate(classes)}
    return pd.DataFrame({**columns, "predicted": decided, "actual": labels})


def expected_area(scores, p):
    """Expected pairs won, ties by half."""
    wins = (scores[:, None] > scores[None, :]) + 0.5 * (scores[:, None] == scores[None, :])
    return float((p[:, None] * (1 - p)[None, :] * wins).sum() / (p.sum() * (1 - p).sum()))


def case(name, seed, classes, n_reference, n, tenths, labelled):
    random = np.random.default_rng(seed)
    columns = [f"s_{c}" for c in classes]
    reference = frame(classes, *records(random, n_reference, classes, tenths))
    current = frame(classes, *records(random, n if tenths else 8 * n, classes, tenths))
    if not tenths:
        current = current.iloc[apart(current[columns].to_numpy())[:n]].reset_index(drop=True)
    assert len(current) == n
    estimator = nannyml.CBPE(
        problem_type="classification_multiclass", y_pred_proba={c: f"s_{c}" for c in classes}, y_pred="predicted",
        y_true="actual", metrics=["roc_auc", "accuracy"], chunk_size=n)
    estimator.fit(reference)
    assert all(isinstance(it, IsotonicCalibrator) for it in estimator._calibrators.values())

    def estimated(rows):
        found = estimator.estimate(rows.drop(columns="actual")).filter(period="analysis").to_df()
        assert len(found) == 1
        return float(found["accuracy", "value"].iloc[0]), float(found["roc_auc", "value"].iloc[0])

    scores = current[columns].to_numpy()
    p = np.column_stack([estimator._calibrators[c].calibrate(current[f"s_{c}"]) for c in classes])
    sums = p.sum(axis=1, keepdims=True)
    p = np.where(sums > 0, p / np.where(sums > 0, sums, 1), 1 / len(classes))
    decided = p[np.arange(n), [classes.index(c) for c in current["predicted"]]]
    areas = [expected_area(scores[:, k], p[:, k]) for k in range(len(classes))]
    part = [expected_area(scores[:labelled, k], p[:labelled, k]) for k in range(len(classes))]
    known = current[:labelled]
    accuracy, auroc = estimated(current)
    accuracy_known, auroc_known = estimated(known)
    assert abs(accuracy - decided.mean()) < 1e-9
    if not tenths:
        assert abs(auroc - np.mean(areas)) < 1e-6 and abs(auroc_known - np.mean(part)) < 1e-6
    else:
        auroc, auroc_known = float(np.mean(areas)), float(np.mean(part))
    right = accuracy_score(known["actual"], known["predicted"])
    ovr = np.mean([roc_auc_score(known["actual"] == c, known[f"s_{c}"]) for c in classes])
    variance = (decided * (1 - decided)).sum() / n ** 2
    variance_known = (decided * (1 - decided))[:labelled].sum() / labelled ** 2
    half = 1.959963984540054 * np.sqrt(variance)
    figures = {
        "n": n, "est_accuracy": accuracy, "est_accuracy_lower": max(0.0, accuracy - half),
        "est_accuracy_upper": min(1.0, accuracy + half), "est_auroc": auroc, "n_labelled": labelled,
        "realized_accuracy": right, "realized_auroc": ovr, "est_labelled_accuracy": accuracy_known,
        "est_labelled_auroc": auroc_known, "accuracy_gap": right - accuracy_known,
        "auroc_gap": ovr - auroc_known, "accuracy_gap_z": (right - accuracy_known) / np.sqrt(variance_known),
        "blended_accuracy": (right * labelled + decided[labelled:].sum()) / n,
    }
    listed = lambda rows: {"scores": rows[columns].to_numpy().tolist(), "predicted": rows["predicted"].tolist(),
                           "actual": rows["actual"].tolist()}
    return {"name": name, "classes": classes, "reference": listed(reference), "current": listed(current),
            "probabilities": p.tolist(), "figures": {k: float(v) for k, v in figures.items()}}


if __name__ == "__main__":
    cases = [
        case("each score in a cell of its own", 20260301, ["a", "b", "c"], 900, 300, False, 120),
        case("ties", 20260302, ["cat", "dog", "eel", "fox"], 800, 250, True, 250),
    ]
    lines = ",\n".join(json.dumps(c) for c in cases)
    print('{"versions": ' + json.dumps({**GOLDEN, **FOUND}) + ', "cases": [\n' + lines + "\n]}")
