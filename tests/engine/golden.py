"""Writes golden.json: figures of other implementations on seeded data, read by golden.rs.

Pinned: Python 3.11, scikit-learn 1.9.1, scipy 1.17.1, statsmodels 0.15.0, numpy 2.4.6. To write it anew:

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install scikit-learn==1.9.1 scipy==1.17.1 statsmodels==0.15.0 numpy==2.4.6
    /tmp/golden/bin/python tests/engine/golden.py > tests/engine/golden.json

A figure that is undefined stands as its reason. CI reads the file only.
"""

import json
import struct
import warnings

import numpy as np
import scipy
import sklearn
import statsmodels
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

warnings.filterwarnings("ignore")
PINNED = {"scikit-learn": "1.9.1", "scipy": "1.17.1", "statsmodels": "0.15.0", "numpy": "2.4.6"}
FOUND = {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__,
         "statsmodels": statsmodels.__version__, "numpy": np.__version__}
assert PINNED == FOUND, FOUND
Z = norm.ppf(0.975)
VALUE = {"tp": 10.0, "fp": -4.0, "fn": -20.0, "tn": 0.5}


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def cell(score):
    def half(t):
        return 0 if t < 2.0 ** -20 else 1 + (bits(t) >> 44) - (bits(2.0 ** -20) >> 44)
    return half(score) if score < 0.5 else 9730 - half(1.0 - score)


def share(out, name, k, n, reason):
    if n == 0:
        out[name] = out[name + "_lower"] = out[name + "_upper"] = reason
        return
    out[name] = k / n
    out[name + "_lower"], out[name + "_upper"] = wilson(k, n)


def wilson(k, n):
    return tuple(float(x) for x in proportion_confint(k, n, alpha=0.05, method="wilson"))


def limits(out, name, lower_upper):
    out[name + "_lower"], out[name + "_upper"] = lower_upper


def decided(out, y, d):
    tn, fp, fn, tp = (int(x) for x in metrics.confusion_matrix(y, d, labels=[0, 1]).ravel()) if len(y) else (0,) * 4
    n = tp + fp + fn + tn
    out.update(n=n, tp=tp, fp=fp, fn=fn, tn=tn, positives=tp + fn, negatives=fp + tn, predicted_positive=tp + fp)
    share(out, "accuracy", tp + tn, n, "no_labels")
    share(out, "precision", tp, tp + fp, "zero_denominator")
    share(out, "npv", tn, tn + fn, "zero_denominator")
    share(out, "recall", tp, tp + fn, "zero_denominator")
    share(out, "specificity", tn, tn + fp, "zero_denominator")
    share(out, "prevalence", tp + fn, n, "no_labels")
    share(out, "predicted_positive_rate", tp + fp, n, "no_labels")
    if n:
        out["accuracy"] = float(metrics.accuracy_score(y, d))
    if tp + fp:
        out["precision"] = float(metrics.precision_score(y, d))
    if tp + fn:
        out["recall"] = float(metrics.recall_score(y, d))
    if tp + fp + fn:
        out["f1"] = float(metrics.f1_score(y, d))
        limits(out, "f1", [2 * j / (1 + j) for j in wilson(tp, tp + fp + fn)])
    else:
        out["f1"] = out["f1_lower"] = out["f1_upper"] = "zero_denominator"
    if tp + fn and fp + tn:
        out["balanced_accuracy"] = b = float(metrics.balanced_accuracy_score(y, d))
        recall, specificity = tp / (tp + fn), tn / (tn + fp)
        (l1, u1), (l0, u0) = wilson(tp, tp + fn), wilson(tn, tn + fp)
        limits(out, "balanced_accuracy", (b - np.hypot(recall - l1, specificity - l0) / 2,
                                          b + np.hypot(u1 - recall, u0 - specificity) / 2))
    else:
        out["balanced_accuracy"] = out["balanced_accuracy_lower"] = out["balanced_accuracy_upper"] = "one_class"
    defined = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn) > 0
    out["mcc"] = float(metrics.matthews_corrcoef(y, d)) if defined else "zero_denominator"
    out["value_sum"] = VALUE["tp"] * tp + VALUE["fp"] * fp + VALUE["fn"] * fn + VALUE["tn"] * tn
    out["value_per_label"] = out["value_sum"] / n if n else "no_labels"


def ranked(out, y, s):
    names = ["auroc", "auroc_lower", "auroc_upper", "auroc_error_bound", "auroc_se", "average_precision",
             "average_precision_lower", "average_precision_upper", "average_precision_min", "average_precision_max"]
    if len(set(y)) < 2:
        out.update({name: "one_class" for name in names})
        return
    c = np.array([cell(x) for x in s])
    out["auroc"] = auroc = float(metrics.roc_auc_score(y, c))
    out["raw_auroc"] = float(metrics.roc_auc_score(y, s))
    x1, x0 = c[y == 1], c[y == 0]
    wins = (x1[:, None] > x0[None, :]) + 0.5 * (x1[:, None] == x0[None, :])  # DeLong's double loop
    out["auroc_error_bound"] = float((x1[:, None] == x0[None, :]).sum()) / 2 / len(x1) / len(x0)
    if min(len(x1), len(x0)) < 2:
        out["auroc_se"] = out["auroc_lower"] = out["auroc_upper"] = "too_few_samples"
    else:
        v10, v01 = wins.mean(axis=1), wins.mean(axis=0)
        spread = 0.0 if np.ptp(v10) == 0 and np.ptp(v01) == 0 else \
            v10.var(ddof=1) / len(x1) + v01.var(ddof=1) / len(x0)
        if spread == 0:
            out["auroc_se"] = out["auroc_lower"] = out["auroc_upper"] = "zero_variance"
        else:
            out["auroc_se"] = se = float(np.sqrt(spread))
            limits(out, "auroc", (max(0.0, auroc - Z * se), min(1.0, auroc + Z * se)))
    out["average_precision"] = ap = float(metrics.average_precision_score(y, c))
    out["raw_average_precision"] = float(metrics.average_precision_score(y, s))
    if ap >= 1 - 1e-15:
        out["average_precision_lower"] = out["average_precision_upper"] = "zero_variance"
    else:
        half = Z / np.sqrt(len(x1) * ap * (1 - ap))
        limits(out, "average_precision", (float(expit(logit(ap) - half)), float(expit(logit(ap) + half))))
    low = high = 0.0
    for b in sorted(set(c)):
        inside, above, misses_above = (x1 == b).sum(), (x1 > b).sum(), (x0 > b).sum()
        misses = misses_above + (x0 == b).sum()
        low += sum((above + j) / (above + j + misses) for j in range(1, inside + 1))
        if inside:
            high += inside * (above + inside) / (above + inside + misses_above)
    out["average_precision_min"], out["average_precision_max"] = low / len(x1), high / len(x1)


def mean(out, name, terms, domain):
    n = len(terms)
    if n < 2 or np.ptp(terms) == 0:
        reason = "no_scores" if n == 0 else "too_few_samples" if n < 2 else "zero_variance"
        out[name + "_lower"] = out[name + "_upper"] = reason
        return
    lower, upper = norm.interval(0.95, loc=terms.mean(), scale=terms.std(ddof=1) / np.sqrt(n))
    limits(out, name, (max(domain[0], float(lower)), min(domain[1], float(upper))))


def scored(out, y, s):
    out.update(n_scored=len(y), scored_positives=int((y == 1).sum()), scored_negatives=int((y == 0).sum()))
    ranked(out, y, s)
    p = np.where(y == 1, s, 1 - s)
    eps = 2.0 ** -52
    out["log_loss_clipped"] = int(((p < eps) | (p > 1 - eps)).sum())
    out["log_loss"] = float(metrics.log_loss(y, s, labels=[0, 1])) if len(y) else "no_scores"
    out["brier"] = float(np.mean((s - y) ** 2)) if len(y) else "no_scores"
    if len(set(y)) == 2:
        out["brier"] = float(metrics.brier_score_loss(y, s))
    mean(out, "log_loss", -np.log(np.clip(p, eps, 1 - eps)), (0.0, 1e300))
    mean(out, "brier", (s - y) ** 2, (0.0, 1.0))


def served(out, latencies, errors):
    out.update(inferences=len(errors), errors=int(sum(errors)), inferences_per_s=len(errors) / 300,
               latency_n=len(latencies))
    share(out, "error_rate", int(sum(errors)), len(errors), "zero_denominator")
    figures = ["latency_max_ms", "latency_sum_ms", "latency_mean_ms"]
    if not len(latencies):
        out.update({name: "no_values" for name in figures})
        return
    ms = np.array(latencies) / 1000
    out.update(latency_max_ms=float(ms.max()), latency_sum_ms=float(ms.sum()), latency_mean_ms=float(ms.mean()))
    for percent in (50, 90, 99):
        out[f"raw_latency_p{percent}_ms"] = float(np.quantile(np.array(latencies), percent / 100, method="inverted_cdf")) / 1000


def case(name, scores, labels, predictions, latencies, errors):
    """Labels, scores, predictions and latencies may be None; a case has one of each for every inference."""
    serving, quality = {}, {}
    served(serving, [x for x in latencies if x is not None], errors)
    decisions = [p if p is not None else None if s is None else int(s >= 0.5) for s, p in zip(scores, predictions)]
    pairs = [(y, d) for y, d in zip(labels, decisions) if y is not None and d is not None]
    decided(quality, np.array([y for y, _ in pairs], dtype=int), np.array([d for _, d in pairs], dtype=int))
    pairs = [(y, s) for y, s in zip(labels, scores) if y is not None and s is not None]
    scored(quality, np.array([y for y, _ in pairs], dtype=int), np.array([s for _, s in pairs], dtype=float))
    quality["decisions_off_threshold"] = sum(
        y is not None and s is not None and p is not None and p != int(s >= 0.5)
        for y, s, p in zip(labels, scores, predictions))
    return {"name": name, "scores": scores, "labels": labels, "predictions": predictions, "latencies_us": latencies,
            "failed": [bool(x) for x in errors], "serving": serving, "quality_binary": quality}


def with_gaps(random, values, gaps):
    return [None if random.random() < gaps else x for x in values]


def cases():
    random = np.random.default_rng(20260105)

    def make(name, scores, labels, gaps=0.0, own=0.0):
        n = len(scores)
        scores = with_gaps(random, [float(s) for s in scores], gaps)
        labels = with_gaps(random, [int(y) for y in labels], gaps)
        own_of = [None if random.random() >= own else int(random.random() < 0.4) for _ in range(n)]
        latencies = with_gaps(random, [int(x) for x in random.lognormal(9, 2, n)], gaps)
        return case(name, scores, labels, own_of, latencies, random.random(n) < 0.05)

    s = random.random(150)
    yield make("uniform", s, random.random(150) < s)
    s = random.random(200)
    yield make("gaps and own predictions", s, random.random(200) < s, gaps=0.2, own=0.5)
    s = np.round(random.random(200), 1)
    yield make("ties", s, random.random(200) < s)
    s = np.round(random.random(120), 3)
    yield make("three decimals", s, random.random(120) < s)
    s = random.beta(0.05, 3, 300)
    yield make("heavy tail, rare positives", s, random.random(300) < 0.02 + s)
    s = 1 - random.random(150) * 1e-9
    yield make("near one", s, random.random(150) < 0.95)
    s = 0.4 + random.random(200) * 1e-3
    yield make("many in few cells", s, random.random(200) < (s - 0.4) * 1000)
    yield make("certain and wrong", random.integers(0, 2, 60), random.integers(0, 2, 60))
    yield make("only positives", random.random(40), np.ones(40))
    yield make("only negatives", random.random(40), np.zeros(40))
    yield make("one positive", random.random(40), np.arange(40) == 7)
    yield make("separated", np.linspace(0, 1, 50), np.linspace(0, 1, 50) >= 0.5)
    yield make("constant score", np.full(30, 0.3), np.arange(30) % 3 == 0)
    yield make("constant score, one class", np.full(30, 0.3), np.zeros(30))
    yield make("two", [0.2, 0.9], [0, 1])
    yield make("single", [0.2], [1])
    yield case("nothing labelled", [0.1, 0.7], [None, None], [None, 1], [None, None], [False, False])
    yield case("no scores, own predictions", [None] * 6, [0, 1, 1, 0, 1, None], [0, 1, 0, 1, None, 1], [0, 1, 2, 127, 255, 256], [False] * 6)


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(c) for c in cases())
    print('{"versions": ' + json.dumps(FOUND) + ', "value": ' + json.dumps(VALUE) + ', "cases": [\n' + lines + "\n]}")
