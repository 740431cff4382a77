"""Writes weights.json: figures of scikit-learn with `sample_weight` on seeded data, read by weights.rs.

Pinned: Python 3.11, scikit-learn 1.9.1, scipy 1.17.1, statsmodels 0.15.0, numpy 2.4.6. To write it anew, in the
environment that golden.py describes:

    /tmp/golden/bin/python tests/engine/weights.py > tests/engine/weights.json

Limits are by the formulas, with the effective sample size in place of n. CI reads the file only.
"""

import json
import struct
import warnings

import numpy as np
import sklearn
from scipy.stats import norm
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

warnings.filterwarnings("ignore")
assert sklearn.__version__ == "1.9.1", sklearn.__version__
Z = norm.ppf(0.975)
RANDOM = np.random.default_rng(20261128)


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def cell(score):
    def half(t):
        return 0 if t < 2.0 ** -20 else 1 + (bits(t) >> 44) - (bits(2.0 ** -20) >> 44)
    return half(score) if score < 0.5 else 9730 - half(1.0 - score)


def effective(w):
    return float(w.sum() ** 2 / (w ** 2).sum())


def wilson(name, is_part, w):
    n, p = effective(w), float(w[is_part].sum() / w.sum())
    lower, upper = proportion_confint(p * n, n, alpha=0.05, method="wilson")
    return {name + "_lower": float(lower), name + "_upper": float(upper)}


def of_mean(name, t, w):
    n, mean = effective(w), float(np.average(t, weights=w))
    variance = (np.average((t - mean) ** 2, weights=w)) * n / (n - 1)
    half = Z * np.sqrt(variance / n)
    return {name: mean, name + "_lower": max(mean - half, 0.0), name + "_upper": mean + half}


def weights(n):
    """Multiples of 2^-20 from 0 to 8, about one in ten of them 0."""
    w = np.round(RANDOM.uniform(0, 8, n) * 2 ** 20) / 2 ** 20
    w[RANDOM.random(n) < 0.1] = 0.0
    return w


def binary(n, digits):
    y = (RANDOM.random(n) < 0.4).astype(int)
    s = np.round(np.clip(RANDOM.beta(2, 2, n) * 0.7 + 0.3 * y * RANDOM.random(n), 0, 1), digits)
    w, d, c = weights(n), (s >= 0.5).astype(int), np.array([cell(x) for x in s])
    p = np.where(y == 1, s, 1 - s).clip(2.0 ** -52, 1 - 2.0 ** -52)
    figures = {
        "accuracy": metrics.accuracy_score(y, d, sample_weight=w),
        "precision": metrics.precision_score(y, d, sample_weight=w),
        "recall": metrics.recall_score(y, d, sample_weight=w),
        "f1": metrics.f1_score(y, d, sample_weight=w),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, d, sample_weight=w),
        "mcc": metrics.matthews_corrcoef(y, d, sample_weight=w),
        "auroc": metrics.roc_auc_score(y, c, sample_weight=w),
        "average_precision": metrics.average_precision_score(y, c, sample_weight=w),
        "n_eff": effective(w), "n_weight": w.sum(),
        **wilson("accuracy", y == d, w), **wilson("recall", d[y == 1] == 1, w[y == 1]),
        **wilson("precision", y[d == 1] == 1, w[d == 1]),
        **of_mean("log_loss", -np.log(p), w), **of_mean("brier", (s - y) ** 2, w),
    }
    assert abs(figures["log_loss"] - metrics.log_loss(y, s, sample_weight=w)) < 1e-9
    assert abs(figures["brier"] - metrics.brier_score_loss(y, s, sample_weight=w)) < 1e-9
    return {"records": [list(map(float, r)) for r in zip(s, y, w)], "figures": {k: float(v) for k, v in figures.items()}}


def multiclass(n, names):
    k = len(names)
    y, s = RANDOM.integers(0, k, n), RANDOM.dirichlet(np.ones(k), n)
    s[np.arange(n), y] += 0.5
    s /= s.sum(axis=1, keepdims=True)
    w, d = weights(n), s.argmax(axis=1)
    d[RANDOM.random(n) < 0.2] = 0
    c = np.vectorize(cell)(s)
    average = {"average": "macro", "zero_division": np.nan, "sample_weight": w}
    support = {**average, "average": "weighted"}
    areas = [metrics.roc_auc_score(y == i, c[:, i], sample_weight=w) for i in range(k)]
    figures = {
        "accuracy": metrics.accuracy_score(y, d, sample_weight=w),
        "macro_precision": metrics.precision_score(y, d, **average),
        "macro_recall": metrics.recall_score(y, d, **average),
        "macro_f1": metrics.f1_score(y, d, **average),
        "weighted_precision": metrics.precision_score(y, d, **support),
        "weighted_recall": metrics.recall_score(y, d, **support),
        "weighted_f1": metrics.f1_score(y, d, **support),
        "mcc": metrics.matthews_corrcoef(y, d, sample_weight=w),
        "log_loss": metrics.log_loss(y, s, sample_weight=w, labels=range(k)),
        "brier": np.average(((s - np.eye(k)[y]) ** 2).sum(axis=1), weights=w),
        "top_2_accuracy": metrics.top_k_accuracy_score(y, s, k=2, sample_weight=w),
        "auroc_ovr_macro": np.mean(areas),
        "n_eff": effective(w), **wilson("accuracy", y == d, w),
    }
    records = [[names[d[i]], names[y[i]], [float(x) for x in s[i]], float(w[i])] for i in range(n)]
    return {"classes": names, "records": records, "figures": {k: float(v) for k, v in figures.items()}}


def regression(n, scale):
    y = RANDOM.lognormal(0, 1, n) * scale
    p, w = y * RANDOM.lognormal(0, 0.3, n), weights(n)
    e = p - y
    size = {f"abs_error_p{q}": float(np.quantile(np.abs(e), q / 100, weights=w, method="inverted_cdf"))
            for q in (50, 90, 99)}
    interval = of_mean("mae", np.abs(e), w)
    figures = {
        "mae": metrics.mean_absolute_error(y, p, sample_weight=w),
        "mse": metrics.mean_squared_error(y, p, sample_weight=w),
        "r2": metrics.r2_score(y, p, sample_weight=w),
        "mape": metrics.mean_absolute_percentage_error(y, p, sample_weight=w),
        "rmsle": metrics.root_mean_squared_log_error(y, p, sample_weight=w),
        "pearson": np.cov(y, p, aweights=w)[0, 1] / np.sqrt(np.cov(y, aweights=w) * np.cov(p, aweights=w)),
        "label_mean": np.average(y, weights=w), "n_eff": effective(w),
        "mae_lower": interval["mae_lower"], "mae_upper": interval["mae_upper"],
    }
    return {"records": [list(map(float, r)) for r in zip(p, y, w)], "sizes": size,
            "figures": {k: float(v) for k, v in figures.items()}}


print(json.dumps({
    "binary": [binary(n, digits) for n, digits in ((60, 1), (400, 2), (800, 9))],
    "multiclass": [multiclass(90, ["a", "b", "c"]), multiclass(600, ["a", "b", "c", "d", "e", "f"])],
    "regression": [regression(50, 1.0), regression(500, 1e6)],
}, separators=(",", ":")))
