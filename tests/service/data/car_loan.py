#!/usr/bin/env python3
"""Makes car_loan.csv.gz and car_loan.json, which the real data test compares with.

    python3 -m venv /tmp/car_loan
    /tmp/car_loan/bin/pip install pandas==3.1.1 scikit-learn==1.9.1 numpy==2.4.6
    /tmp/car_loan/bin/python tests/service/data/car_loan.py

The data are inside the package nannyml 0.13.1 on PyPI (Apache-2.0), whose file is fetched without its dependencies.
Row k is stamped 2018-10-30T18:00:00Z + k * 8 min 43.152 s. Windows are tumbling, aligned to 1970-01-01 UTC.
"""

import gzip
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import pandas as pd
from sklearn import metrics

HERE = pathlib.Path(__file__).parent
FIRST = pd.Timestamp("2018-10-30T18:00:00Z")
STEP_MS = 523_152
GRAINS = {"1d": 86_400_000, "30d": 30 * 86_400_000}


def load() -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, "nannyml==0.13.1"], check=True)
        with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:

            def table(name: str) -> pd.DataFrame:
                return pd.read_csv(wheel.open(f"nannyml/datasets/data/synthetic_car_loan_{name}.csv"))

            return table("analysis").merge(table("analysis_target"), on="id", how="left", validate="1:1")


def figures(group: pd.DataFrame) -> dict:
    truth, score, decision = group["repaid"], group["y_pred_proba"], group["y_pred"]
    tn, fp, fn, tp = metrics.confusion_matrix(truth, decision, labels=[0, 1]).ravel()
    return {
        "n": len(group),
        "tp": int(tp),
        "fp": int(fp),
        "fn": int(fn),
        "tn": int(tn),
        "auroc": metrics.roc_auc_score(truth, score),
        "f1": metrics.f1_score(truth, decision),
        "accuracy": metrics.accuracy_score(truth, decision),
        "average_precision": metrics.average_precision_score(truth, score),
        "brier": metrics.brier_score_loss(truth, score),
        "log_loss": metrics.log_loss(truth, score, labels=[0, 1]),
    }


def main() -> None:
    rows = load()[["id", "y_pred_proba", "y_pred", "repaid"]]
    assert len(rows) == 50_000 and rows["repaid"].isin([0, 1]).all()
    rows = rows.astype({"id": int, "y_pred": int, "repaid": int})
    text = io.StringIO()
    rows.to_csv(text, index=False)
    packed = gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0)
    (HERE / "car_loan.csv.gz").write_bytes(packed)

    first_ms = FIRST.value // 1_000_000
    rows["time"] = first_ms + pd.RangeIndex(len(rows)).to_numpy() * STEP_MS
    result = {}
    for grain, size in GRAINS.items():
        windows = rows.groupby(rows["time"] // size * size)
        result[grain] = [{"window_start_ms": int(start)} | figures(group) for start, group in windows]
    lines = [
        f'"{grain}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]"
        for grain, rows in result.items()
    ]
    (HERE / "car_loan.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
