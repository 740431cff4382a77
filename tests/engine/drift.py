"""Writes drift.json: figures of scipy, statsmodels and scikit-learn on seeded data, read by drift_golden.rs.

Pinned as in golden.py, with the same environment:

    /tmp/golden/bin/python tests/engine/drift.py > tests/engine/drift.json

CI reads the file only.
"""

import hashlib
import json

import numpy as np
import scipy
import sklearn
import statsmodels
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2 as chi2_law
from scipy.stats import chi2_contingency, false_discovery_control, ks_2samp, kstwo, wasserstein_distance
from sklearn.isotonic import IsotonicRegression
from statsmodels.stats.proportion import proportion_confint

PINNED = {"scikit-learn": "1.9.1", "scipy": "1.17.1", "statsmodels": "0.15.0", "numpy": "2.4.6"}
FOUND = {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__,
         "statsmodels": statsmodels.__version__, "numpy": np.__version__}
assert PINNED == FOUND, FOUND


def over_bins(r, c):
    """Distances and tests of two lists of counts."""
    r, c = np.array(r, float), np.array(c, float)
    m, n = r.sum(), c.sum()
    keep = r + c > 0
    r, c = r[keep], c[keep]
    p, q, h, free = r / m, c / n, 1 / n + 1 / m, len(r) - 1
    floored_p, floored_q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    psi = float(np.sum((floored_q - floored_p) * np.log(floored_q / floored_p)))
    js = float(jensenshannon(p, q, 2))
    hellinger = float(np.sqrt(max(0.0, 1 - np.sum(np.sqrt(p * q)))))
    tail = lambda x: float(chi2_law.sf(x, free)) if free else None
    out = {
        "psi": [psi, tail(psi / h)],
        "js": [js, tail(8 * np.log(2) * js ** 2 / h)],
        "hellinger": [hellinger, tail(8 * hellinger ** 2 / h)],
        "linf": [float(np.abs(q - p).max())],
        "tv": [float(np.abs(q - p).sum() / 2)],
    }
    cells = [list(pair) for pair in zip(r, c)]
    while len(cells) > 1 and min(map(sum, cells)) * n / (n + m) < 5:
        a, b = sorted(sorted(range(len(cells)), key=lambda i: (sum(cells[i]), i))[:2])
        cells[a] = [cells[a][0] + cells[b][0], cells[a][1] + cells[b][1]]
        del cells[b]
    if len(cells) > 1:
        table = np.array(cells).T
        pearson = chi2_contingency(table, correction=False)
        ratio = chi2_contingency(table, correction=False, lambda_="log-likelihood")
        out["chi2"] = [float(pearson.statistic), float(pearson.pvalue)]
        out["g"] = [float(ratio.statistic), float(ratio.pvalue)]
        out["linf"].append(float(pearson.pvalue))
        out["tv"].append(float(pearson.pvalue))
    return out


def quantile(ordered, percent):
    """inverted_cdf with a whole-number rank; numpy's own agrees where percent * n / 100 is no rounding trap."""
    return float(ordered[max(1, -(-percent * len(ordered) // 100)) - 1])


def numbers(name, reference, current, missing):
    ordered = np.sort(reference)
    quantiles = [quantile(ordered, k) for k in range(1, 100)]
    numpys = np.quantile(reference, np.arange(1, 100) / 100, method="inverted_cdf")
    assert sum(a == b for a, b in zip(quantiles, numpys)) > 80, name
    # What is two tenths or more has a bin of its own: an edge right below it, and the cells one on the value before.
    tenths = quantiles[9::10]
    common = {x for x in tenths if tenths.count(x) > 1}
    below = {float(np.nextafter(x, -np.inf)) for x in common}
    before = {float(ordered[ordered < x].max()) for x in common if ordered[0] < x}
    fine, bins = sorted({*quantiles, *below, *before}), sorted({*tenths, *below})
    lowest, highest = float(ordered[0]), float(ordered[-1])
    cell = lambda x: np.where(x < lowest, 0, np.where(x > highest, len(fine) + 2, 1 + np.searchsorted(fine, x, "left")))
    count = lambda x, edges: np.bincount(np.searchsorted(edges, x, "left"), minlength=len(edges) + 1).tolist()
    r, c = count(reference, bins), count(current, bins)
    n, m = len(current), len(reference)
    ks = ks_2samp(reference, current).statistic
    edge_ks = ks_2samp(cell(reference), cell(current)).statistic
    outside = int(((current < lowest) | (current > highest)).sum())
    limits = lambda k, size: [float(x) for x in proportion_confint(k, size, method="wilson")]
    return {
        "name": name, "reference": reference.tolist(), "current": current.tolist(), "missing": missing,
        "fine_edges": fine, "bin_edges": bins, "mean": float(reference.mean()), "sd": float(reference.std()),
        "cells": {str(k): int(v) for k, v in zip(*np.unique(cell(current), return_counts=True))},
        "methods": over_bins(r, c),
        "raw_ks": float(ks), "ks": float(edge_ks), "ks_p": float(kstwo.sf(edge_ks, round(n * m / (n + m)))),
        "raw_wasserstein": float(wasserstein_distance(reference, current) / reference.std()) if reference.std() else None,
        "missing_rate": [missing / (missing + n), *limits(missing, missing + n)],
        "out_of_range_rate": [outside / n, *limits(outside, n)],
    }


def names(name, reference, current):
    listed = sorted(((k, int(v)) for k, v in zip(*np.unique(reference, return_counts=True))), key=lambda it: (-it[1], it[0]))
    seen = {k: int(v) for k, v in zip(*np.unique(current, return_counts=True))}
    known = [k for k, _ in listed]
    new = sum(v for k, v in seen.items() if k not in known)
    return {
        "name": name, "reference": [[str(k), v] for k, v in listed], "current": {str(k): v for k, v in seen.items()},
        "methods": over_bins([v for _, v in listed] + [0], [seen.get(k, 0) for k in known] + [new]),
        "new": new,
    }


def calibration(name, scores, labels):
    """Isotonic fits, and what they give between and beyond the scores. Folds are those of the ids 0, 1, 2, …"""
    def ece(p, y):
        bins = np.sum(p[:, None] > np.linspace(0, 1, 11)[None, 1:10], axis=1)
        return float(sum(abs((y - p)[bins == b].sum()) for b in range(10)) / len(y))
    fit = lambda s, y: IsotonicRegression(out_of_bounds="clip").fit(s, y)
    folds = np.arange(len(scores)) % 10
    left_out = np.zeros(len(scores))
    for fold in range(10):
        left_out[folds == fold] = fit(scores[folds != fold], labels[folds != fold]).predict(scores[folds == fold])
    asked = np.concatenate([np.linspace(0, 1, 101), scores[:50]])
    return {"name": name, "scores": scores.tolist(), "labels": labels.tolist(), "asked": asked.tolist(),
            "isotonic": fit(scores, labels).predict(asked).tolist(),
            "ece_identity": ece(scores, labels), "ece_isotonic": ece(left_out, labels)}


def main():
    rng = np.random.default_rng(20260105)
    bell = lambda mean, sd, n: np.round(rng.normal(mean, sd, n), 3)
    normal = bell(0, 1, 1500)
    amounts = np.round(rng.lognormal(3, 1.2, 1200), 2)
    whole = rng.poisson(2, 1000).astype(float)
    letters = np.array(list("abcdefghij"))
    shares = np.array([30, 20, 15, 10, 8, 6, 5, 3, 2, 1]) / 100
    scores = np.round(rng.beta(2, 5, 1200), 6)
    rough = np.round(rng.beta(1, 1, 800), 2)
    # The law of chi-square where it is read: near its middle and far out.
    tail = [[x, k, float(chi2_law.sf(x, k))] for k in [1, 2, 3, 4, 9, 10, 50, 100]
            for x in [1e-6, 0.1, 1.0, 0.5 * k, 1.0 * k, 1.5 * k, k + 30.0, 3.0 * k + 100, 1000.0]]
    kolmogorov = [[float(d), int(size), float(kstwo.sf(d, size))] for size in [20, 50, 100, 333, 1000, 9091]
                  for d in np.array([0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.36, 1.7, 2.2]) / np.sqrt(size)]
    p_values = rng.uniform(0, 1, 40) ** 3
    fixed = {"calibrator": {"ece_identity": 0.25, "ece_isotonic": 0.125, "knots": [0.25, 0.75], "map": "isotonic",
                            "n": 8, "positives": 4, "rates": [0.125, 0.875]},
             "features": {"amount": {"bin_edges": [2.5], "counts": [6, 4], "fine_edges": [2.5], "has_given_edges": True,
                                     "kind": "numeric", "max": 8.0, "mean": 3.25, "min": 0.5, "missing": 2,
                                     "range": [0.0, 100.0], "scale": "linear", "sd": 1.5, "type_errors": 1},
                          "land": {"categories": [["é", 7], ["b", 3]], "kind": "categorical", "missing": 0, "other": 2,
                                   "type_errors": 0}},
             "format": 1, "generation": 3, "name": "fixed"}
    canonical = json.dumps(fixed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    out = {
        "numbers": [
            numbers("normal, the same", normal, bell(0, 1, 400), 3),
            numbers("normal, shifted", normal, bell(0.5, 1, 300), 0),
            numbers("normal, wider", normal, bell(0, 2, 250), 20),
            numbers("amounts", amounts, np.round(rng.lognormal(3.2, 1.2, 500), 2), 7),
            numbers("whole numbers", whole, rng.poisson(2.4, 350).astype(float), 0),
            numbers("one value", np.full(1000, 7.0), np.concatenate([np.full(150, 7.0), np.full(50, 8.0)]), 0),
            numbers("few", normal, bell(0, 1, 12), 1),
        ],
        "names": [
            names("letters, the same", rng.choice(letters, 2000, p=shares), rng.choice(letters, 300, p=shares)),
            names("letters, some new", rng.choice(letters[:8], 2000), rng.choice(letters, 400)),
            names("letters, few", rng.choice(letters, 2000, p=shares), rng.choice(letters, 30, p=shares)),
        ],
        "calibration": [
            calibration("overconfident", scores, (rng.uniform(0, 1, 1200) < scores ** 1.7).astype(int)),
            calibration("calibrated, two decimals", rough, (rng.uniform(0, 1, 800) < rough).astype(int)),
        ],
        "chi_square_tail": tail, "kolmogorov_tail": kolmogorov,
        "p_values": p_values.tolist(), "false_discovery": false_discovery_control(p_values).tolist(),
        "document": fixed, "id": "fixed-" + hashlib.sha256(canonical.encode()).hexdigest()[:12],
    }
    print(json.dumps(out, allow_nan=False))


main()
