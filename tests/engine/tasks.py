"""Writes tasks.json: figures of scikit-learn, scipy and statsmodels on seeded data of models with several classes, of
models that predict numbers, and of calibration, read by tasks.rs.

Pinned as in golden.py, with the same environment:

    /tmp/golden/bin/python tests/engine/tasks.py > tests/engine/tasks.json

A figure that is undefined stands as its reason. Sums over numbers are of exact fractions: where the libraries' own are
not spoilt by rounding, they are held against each other here. CI reads the file only.
"""

import json
from fractions import Fraction

import numpy as np
from golden import FOUND, Z, cell, limits, ranked, share, wilson
from scipy.stats import pearsonr
from sklearn import metrics
from sklearn.calibration import calibration_curve


def near(a, b):
    assert abs(a - b) <= 1e-9 * max(abs(a), abs(b)) + 1e-12, (a, b)


def f1_of(out, tp, predicted, support):
    if predicted + support == 0:
        out["f1"] = out["f1_lower"] = out["f1_upper"] = "zero_denominator"
        return
    out["f1"] = 2 * tp / (predicted + support)
    limits(out, "f1", [2 * j / (1 + j) for j in wilson(tp, predicted + support - tp)])


def interval(terms, reason):
    """Normal interval of a mean, from exact sums."""
    n, exact = len(terms), [Fraction(float(x)) for x in terms]
    if n == 0:
        return reason, reason
    if n < 2:
        return "too_few_samples", "too_few_samples"
    variance = (sum(x * x for x in exact) - sum(exact) ** 2 / n) / (n - 1)
    if float(variance) == 0.0:
        return "zero_variance", "zero_variance"
    half = float(Z) * float(np.sqrt(float(variance / n)))
    return float(sum(exact) / n) - half, float(sum(exact) / n) + half


def by_class(pairs, records, classes):
    rows = {}
    y, p = [a for a, _ in pairs], [b for _, b in pairs]
    scored = [(actual, scores) for actual, _, scores in records if scores]
    for c in sorted({*y, *p}):
        tp, predicted, support = sum(a == b == c for a, b in pairs), p.count(c), y.count(c)
        row = {"support": support, "predicted": predicted, "tp": tp}
        share(row, "precision", tp, predicted, "zero_denominator")
        share(row, "recall", tp, support, "zero_denominator")
        f1_of(row, tp, predicted, support)
        if predicted and support:
            near(row["f1"], metrics.f1_score([a == c for a in y], [b == c for b in p]))
        area = {}
        if scored:
            ranked(area, np.array([int(a == c) for a, _ in scored]), np.array([s.get(c, 0.0) for _, s in scored]))
            row.update({name: area[name] for name in ("auroc", "auroc_lower", "auroc_upper", "auroc_error_bound")})
        else:
            row.update({name: "no_scores" for name in ("auroc", "auroc_lower", "auroc_upper", "auroc_error_bound")})
        rows[c] = row
    return rows


def decisions(out, pairs):
    y, p = [a for a, _ in pairs], [b for _, b in pairs]
    n, correct = len(pairs), sum(a == b for a, b in pairs)
    out.update(n=n, correct=correct)
    share(out, "accuracy", correct, n, "no_labels")
    names = ("precision", "recall", "f1")
    if not n:
        for name in names:
            out.update({f"macro_{name}": "no_labels", f"weighted_{name}": "no_labels", f"macro_{name}_classes": 0})
        out["mcc"] = "zero_denominator"
        return
    near(out["accuracy"], metrics.accuracy_score(y, p))
    for name in names:
        score = getattr(metrics, f"{name}_score")
        each = score(y, p, labels=sorted({*y, *p}), average=None, zero_division=np.nan)
        out[f"macro_{name}_classes"] = int(np.sum(~np.isnan(each)))
        out[f"macro_{name}"] = float(score(y, p, average="macro", zero_division=np.nan))
        weight = sum(y.count(c) for c, figure in zip(sorted({*y, *p}), each) if not np.isnan(figure))
        # scikit-learn gives a number where all weights are 0.
        out[f"weighted_{name}"] = \
            float(score(y, p, average="weighted", zero_division=np.nan)) if weight else "zero_denominator"
    constant = len(set(y)) == 1 or len(set(p)) == 1
    out["mcc"] = "zero_denominator" if constant else float(metrics.matthews_corrcoef(y, p))


def scores_of(out, scored):
    n, eps = len(scored), 2.0 ** -52
    out["n_scored"] = n
    if not n:
        for name in ("log_loss", "log_loss_lower", "log_loss_upper", "brier", "auroc_ovr_macro"):
            out[name] = "no_scores"
        out.update(log_loss_clipped=0, auroc_ovr_classes=0)
        for k in (2, 3, 5):
            out[f"top_{k}_hits"] = 0
            share(out, f"top_{k}_accuracy", 0, 0, "no_scores")
        return
    classes = sorted({c for _, s in scored for c in s} | {a for a, _ in scored})
    table = np.array([[s.get(c, 0.0) for c in classes] for _, s in scored])
    truth = np.array([[float(a == c) for c in classes] for a, _ in scored])
    own = (table * truth).sum(axis=1)
    losses = -np.log(np.clip(own, eps, 1 - eps))
    out["log_loss"] = float(np.mean(losses))
    lower, upper = interval(losses, "no_scores")
    limits(out, "log_loss", (lower if isinstance(lower, str) else max(0.0, lower), upper))
    out["log_loss_clipped"] = int(((own < eps) | (own > 1 - eps)).sum())
    actual = [a for a, _ in scored]
    if np.allclose(table.sum(axis=1), 1) and out["log_loss_clipped"] == 0 and len(classes) > 1:
        near(out["log_loss"], metrics.log_loss(actual, table, labels=classes))
    out["brier"] = float(np.mean(((table - truth) ** 2).sum(axis=1)))
    for k in (2, 3, 5):
        # Among the classes that the record scores and the true one; of equal scores the later class is first.
        order = [sorted({*s, a}, key=lambda c: (s.get(c, 0.0), c), reverse=True)[:k] for a, s in scored]
        hits = sum(a in top for a, top in zip(actual, order))
        if len(classes) > max(k, 2) and all(len(s) == len(classes) for _, s in scored):
            near(hits, metrics.top_k_accuracy_score(actual, table, k=k, labels=classes, normalize=False))
        out[f"top_{k}_hits"] = int(hits)
        share(out, f"top_{k}_accuracy", int(hits), n, "no_scores")
    cells = np.vectorize(cell)(table)
    areas = [metrics.roc_auc_score(truth[:, at], cells[:, at])
             for at in range(len(classes)) if 0 < truth[:, at].sum() < n]
    out["auroc_ovr_macro"] = float(np.mean(areas)) if areas else "one_class"
    out["auroc_ovr_classes"] = len(areas)


def classes_case(name, records):
    """A record: the true class, the predicted one or None, scores by class or None."""
    pairs = [(actual, predicted) for actual, predicted, _ in records if predicted is not None]
    quality = {}
    decisions(quality, pairs)
    scores_of(quality, [(actual, scores) for actual, _, scores in records if scores])
    names = sorted({*(a for a, _ in pairs), *(b for _, b in pairs)})
    matrix = metrics.confusion_matrix(*zip(*pairs), labels=names) if pairs else []
    confusion = [[a, b, int(n)] for a, row in zip(names, matrix) for b, n in zip(names, row) if n]
    return {"name": name, "records": records, "quality_multiclass": quality,
            "quality_classes": by_class(pairs, records, names), "confusion": confusion}


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def classes_cases():
    random = np.random.default_rng(20260401)

    def make(name, classes, table, labels=None, own=0.2, gaps=0.0, drop=0.0):
        records = []
        for row in table:
            actual = str(random.choice(classes, p=row / row.sum())) if labels is None else labels[len(records)]
            scores = {c: float(s) for c, s in zip(classes, row) if random.random() >= drop}
            decided = str(random.choice(classes)) if random.random() < own or not scores else \
                max(scores, key=lambda c: (scores[c], c))
            gap = random.random() < gaps
            records.append([actual, None if gap and random.random() < 0.5 else decided, None if gap else scores])
        return classes_case(name, records)

    four = ["a", "b", "c", "d"]
    yield make("uniform", four, softmax(random.normal(0, 1, (160, 4))))
    tenths = [random.multinomial(10, row) / 10 for row in softmax(random.normal(0, 1, (200, 4)))]
    yield make("ties", four, np.array(tenths))
    yield make("gaps in scores and decisions", four, softmax(random.normal(0, 1, (150, 4))), gaps=0.4)
    yield make("classes without a score", four, softmax(random.normal(0, 1, (150, 4))), drop=0.3)
    yield make("classes that are never true or never predicted", four, softmax(random.normal(0, 1, (60, 4))),
               labels=[["a", "x"][i % 2] for i in range(60)])
    yield make("one class", four, softmax(random.normal(0, 1, (40, 4))), labels=["b"] * 40)
    yield make("one class, always right", ["a", "b", "c"], np.tile([0.8, 0.1, 0.1], (20, 1)), labels=["a"] * 20, own=0)
    yield make("constant scores", four, np.full((40, 4), 0.25))
    certain = np.eye(4)[random.integers(0, 4, 50)]
    yield make("certain and wrong", four, certain, labels=[four[i % 4] for i in range(50)])
    rare = softmax(np.column_stack([np.full(300, 8.0) + random.normal(0, 1, 300), random.normal(0, 1, (300, 3))]))
    yield make("rare classes", four, rare)
    many = [f"c{i:02d}" for i in range(20)]
    yield make("twenty classes", many, softmax(random.normal(0, 2, (250, 20))))
    yield make("two classes", ["no", "yes"], softmax(random.normal(0, 1, (80, 2))))
    yield classes_case("single", [["a", "b", {"a": 0.4, "b": 0.6}]])
    yield classes_case("decisions only", [["a", "a", None], ["b", "a", None], ["b", "b", None], ["c", "c", None]])
    yield classes_case("scores only", [["a", None, {"a": 0.7, "b": 0.3}], ["b", None, {"a": 0.6, "b": 0.4}]])


def exact(x):
    return [Fraction(float(v)) for v in x]


def root(x):
    return float(np.sqrt(float(x)))


def numbers_case(name, labels, predictions, sane=True):
    y, p = np.array(labels, float), np.array(predictions, float)
    e = p - y
    n, out = len(y), {}
    fy, fp, fe = exact(y), exact(p), exact(e)
    out["n"] = n
    figures = ("mean_error", "mae", "mse", "rmse", "r2", "mape", "rmsle", "pearson", "label_mean", "prediction_mean",
               "abs_error_max", "abs_error_p50", "abs_error_p90", "abs_error_p99")
    if n == 0:
        out.update({figure: "no_labels" for figure in figures})
        out.update({figure + end: "no_labels" for figure in ("mean_error", "mae") for end in ("_lower", "_upper")})
        out.update(mape_n=0, rmsle_n=0)
        return {"name": name, "labels": labels, "predictions": predictions, "quality_regression": out}
    out["mean_error"], out["mae"] = float(sum(fe) / n), float(sum(map(abs, fe)) / n)
    limits(out, "mean_error", interval(e, "no_labels"))
    lower, upper = interval(np.abs(e), "no_labels")
    limits(out, "mae", (lower if isinstance(lower, str) else max(0.0, lower), upper))
    mse = sum(x * x for x in fe) / n
    out["mse"], out["rmse"] = float(mse), root(mse)
    spread = [sum(x * x for x in f) / n - (sum(f) / n) ** 2 for f in (fy, fp)]
    if n < 2:
        out["r2"] = out["pearson"] = "too_few_samples"
    else:
        has_spread = [float(s) > 0 for s in spread]
        out["r2"] = float(1 - mse / spread[0]) if has_spread[0] else "zero_variance"
        both = sum(a * b for a, b in zip(fy, fp)) / n - sum(fy) * sum(fp) / n / n
        sign = -1 if both < 0 else 1
        out["pearson"] = sign * root(both * both / (spread[0] * spread[1])) if all(has_spread) else "zero_variance"
    some = y != 0
    out["mape_n"] = int(some.sum())
    relative = np.abs(e[some]) / np.abs(y[some])
    out["mape"] = float(sum(exact(relative)) / len(relative)) if some.any() else "zero_denominator"
    some = (y > -1) & (p > -1)
    out["rmsle_n"] = int(some.sum())
    logs = exact(np.log1p(p[some]) - np.log1p(y[some]))
    out["rmsle"] = root(sum(x * x for x in logs) / len(logs)) if logs else "zero_denominator"
    out["label_mean"], out["prediction_mean"] = float(sum(fy) / n), float(sum(fp) / n)
    for percent in (50, 90, 99):
        out[f"raw_abs_error_p{percent}"] = float(np.quantile(np.abs(e), percent / 100, method="inverted_cdf"))
    out["raw_abs_error_max"] = float(np.abs(e).max())
    if sane:
        near(out["mae"], metrics.mean_absolute_error(y, p))
        near(out["mse"], metrics.mean_squared_error(y, p))
        near(out["rmse"], metrics.root_mean_squared_error(y, p))
        near(out["r2"], metrics.r2_score(y, p))
        near(out["pearson"], pearsonr(y, p).statistic)
        near(out["mape"], metrics.mean_absolute_percentage_error(y[y != 0], p[y != 0]))
        near(out["rmsle"], metrics.root_mean_squared_log_error(y[some], p[some]))
    return {"name": name, "labels": y.tolist(), "predictions": p.tolist(), "quality_regression": out}


def numbers_cases():
    random = np.random.default_rng(20260402)
    y = random.normal(50, 20, 150)
    yield numbers_case("normal", y, y + random.normal(1, 5, 150))
    y = np.round(random.normal(3, 2, 200))
    yield numbers_case("ties and zeros", y, y + random.integers(-1, 2, 200))
    y = np.exp(random.normal(0, 4, 300))
    yield numbers_case("heavy tails", y, y * np.exp(random.normal(0, 1, 300)))
    y = random.standard_cauchy(200)
    yield numbers_case("heavier tails on both sides", y, random.standard_cauchy(200))
    y = 1_760_000_000_000 + random.normal(0, 0.4, 100)
    yield numbers_case("timestamps a fraction apart", y, y + random.normal(0, 0.1, 100), sane=False)
    yield numbers_case("constant labels", np.full(30, 7.0), random.normal(7, 1, 30), sane=False)
    yield numbers_case("constant predictions", random.normal(7, 1, 30), np.full(30, 7.0), sane=False)
    yield numbers_case("all constant, no error", np.full(30, 2.5), np.full(30, 2.5), sane=False)
    y = random.normal(0, 1, 60) * 1e150
    yield numbers_case("the greatest that are taken", np.clip(y, -1e150, 1e150), np.clip(-y, -1e150, 1e150), sane=False)
    yield numbers_case("great and small", [1e150, 1.0, -1e150, 2.0], [1e150, 1.5, -1e150, 1.5], sane=False)
    tiny = random.integers(1, 1000, 40) * 5e-324
    yield numbers_case("denormal", tiny, tiny[::-1], sane=False)
    yield numbers_case("below -1", random.normal(-5, 1, 40), random.normal(-5, 1, 40), sane=False)
    yield numbers_case("zeros", np.zeros(10), random.normal(0, 1, 10), sane=False)
    yield numbers_case("single", [3.0], [4.5], sane=False)
    yield numbers_case("nothing", [], [], sane=False)


def calibration_case(name, scores, labels):
    s, y = np.array(scores, float), np.array(labels, int)
    n, out = len(s), {"n_scored": len(s)}
    rate, said = calibration_curve(y, s, n_bins=10)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], s), minlength=10)
    filled = np.nonzero(counts)[0]
    weights = counts[filled] / n
    base = y.mean()
    out.update(ece=float((weights * np.abs(rate - said)).sum()), mce=float(np.abs(rate - said).max()),
               score_sum=float(sum(exact(s))), positives=int(y.sum()),
               calibration_bias=float((sum(exact(s)) - int(y.sum())) / n),
               brier_reliability=float((weights * (rate - said) ** 2).sum()),
               brier_resolution=float((weights * (rate - base) ** 2).sum()), brier_uncertainty=float(base * (1 - base)))
    brier = float(np.mean((s - y) ** 2))
    out["brier_residual"] = brier - (out["brier_reliability"] - out["brier_resolution"] + out["brier_uncertainty"])
    variance = sum(x * (1 - x) for x in exact(s))
    excess = sum(exact(s)) - int(y.sum())
    out["calibration_z"] = float(excess) / root(variance) if variance > 0 else "zero_variance"
    bins = {}
    for at, positive, mean in zip(filled, rate, said):
        of = int(counts[at])
        bins[str(at + 1)] = row = {"n": of, "positives": round(positive * of), "mean_score": float(mean)}
        share(row, "positive_rate", row["positives"], of, "no_scores")
    return {"name": name, "scores": s.tolist(), "labels": y.tolist(), "calibration": out, "calibration_bins": bins}


def calibration_cases():
    random = np.random.default_rng(20260403)
    s = random.random(200)
    yield calibration_case("calibrated", s, random.random(200) < s)
    yield calibration_case("too sure", s, random.random(200) < 0.5 + (s - 0.5) / 3)
    s = np.round(random.random(200), 1)
    yield calibration_case("tenths, which are edges", s, random.random(200) < s)
    s = random.beta(0.05, 3, 300)
    yield calibration_case("heavy tail, rare positives", s, random.random(300) < 0.02 + s)
    yield calibration_case("only positives", random.random(40), np.ones(40))
    yield calibration_case("only negatives", random.random(40), np.zeros(40))
    yield calibration_case("constant", np.full(30, 0.35), np.arange(30) % 3 == 0)
    yield calibration_case("certain", np.arange(20) % 2, np.arange(20) % 3 == 0)
    yield calibration_case("denormal", np.full(10, 5e-324), np.arange(10) == 3)
    yield calibration_case("single", [0.2], [1])


if __name__ == "__main__":
    sections = {"classes": classes_cases(), "numbers": numbers_cases(), "calibration": calibration_cases()}
    lines = [f'"{name}": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]" for name, cases in sections.items()]
    print('{"versions": ' + json.dumps(FOUND) + ", " + ",\n".join(lines) + "}")
