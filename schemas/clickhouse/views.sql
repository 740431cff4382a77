CREATE DATABASE IF NOT EXISTS `tidegauge_bi` COMMENT 'Tidegauge: views for BI tools over the metric rows';

CREATE OR REPLACE VIEW `tidegauge`.`stream_health`
(
    `job` LowCardinality(String) COMMENT 'The job',
    `topic` LowCardinality(String) COMMENT 'inferences or labels',
    `partition` Int32 COMMENT 'Partition number, the same in both topics',
    `model` LowCardinality(String) COMMENT 'The model as records name it; empty where they name none or can\'t be read',
    `records` Int64 COMMENT 'Records read: accepted + duplicate + late + dead of inferences, matched + kept + orphan + dead of labels',
    `accepted` Int64 COMMENT 'Inferences that were folded into their windows',
    `duplicate` Int64 COMMENT 'Inferences of a request, model and version that were there already',
    `late` Int64 COMMENT 'Inferences that arrived later than the lateness allows',
    `dead` Int64 COMMENT 'Records of either topic that went to the dead letters',
    `matched` Int64 COMMENT 'Labels that matched at least one inference',
    `kept` Int64 COMMENT 'Labels that matched no inference yet, but one may come',
    `orphan` Int64 COMMENT 'Labels that matched no inference, and none can come',
    `position` Int64 COMMENT 'Next offset of the topic partition to count; offsets may have holes',
    `clock` Nullable(DateTime64(3, 'UTC')) COMMENT 'How far the topic partition has come in log time; NULL before enough records'
)
AS SELECT
    job, topic, partition, model,
    accepted + duplicate + late + dead + matched + kept + orphan AS records,
    accepted, duplicate, late, dead, matched, kept, orphan, position, clock
FROM
(
    SELECT
        job, 'inferences' AS topic, partition, tally.model AS model,
        tally.accepted AS accepted, tally.duplicate AS duplicate, tally.late AS late, toInt64(0) AS matched, toInt64(0) AS kept, toInt64(0) AS orphan, tally.dead AS dead,
        inference_position AS position,
        if(length(inference_clock) = inference_clock_n, fromUnixTimestamp64Milli(least(greatest(inference_clock[1], -2208988800000), 9904550399999), 'UTC'), NULL) AS clock
    FROM `tidegauge`.marks FINAL
    LEFT ARRAY JOIN inference_tally AS tally
    UNION ALL
    SELECT
        job, 'labels' AS topic, partition, tally.model AS model,
        toInt64(0) AS accepted, toInt64(0) AS duplicate, toInt64(0) AS late, tally.matched AS matched, tally.kept AS kept, tally.orphan AS orphan, tally.dead AS dead,
        label_position AS position,
        if(length(label_clock) = label_clock_n, fromUnixTimestamp64Milli(least(greatest(label_clock[1], -2208988800000), 9904550399999), 'UTC'), NULL) AS clock
    FROM `tidegauge`.marks FINAL
    LEFT ARRAY JOIN label_tally AS tally
)
COMMENT 'What became of every record since the job\'s start, by topic partition and model: the outcomes add up to the records read';

CREATE OR REPLACE VIEW `tidegauge_bi`.`serving`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `inferences` UInt64 COMMENT 'Accepted inferences',
    `inferences_per_s` Float64 COMMENT 'Inferences for each second of the whole window, also while it is open',
    `errors` UInt64 COMMENT 'Inferences with a non-empty error',
    `error_rate` Nullable(Float64) COMMENT 'errors / inferences',
    `error_rate_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of error_rate (Wilson)',
    `error_rate_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of error_rate (Wilson)',
    `latency_n` UInt64 COMMENT 'Inferences that carry a latency, failed ones included',
    `latency_p50_ms` Nullable(Float64) COMMENT 'Median latency, at most 1/128 above the exact one',
    `latency_p90_ms` Nullable(Float64) COMMENT '90 % quantile of latency, at most 1/128 above the exact one',
    `latency_p99_ms` Nullable(Float64) COMMENT '99 % quantile of latency, at most 1/128 above the exact one',
    `latency_max_ms` Nullable(Float64) COMMENT 'Greatest latency, exact',
    `latency_sum_ms` Nullable(Float64) COMMENT 'Sum of latencies, exact',
    `latency_mean_ms` Nullable(Float64) COMMENT 'latency_sum_ms / latency_n',
    `freshness_p50_ms` Nullable(Float64) COMMENT 'Median of arrival less event time, at most 1/128 above the exact one',
    `freshness_p90_ms` Nullable(Float64) COMMENT '90 % quantile of arrival less event time, at most 1/128 above the exact one',
    `freshness_p99_ms` Nullable(Float64) COMMENT '99 % quantile of arrival less event time, at most 1/128 above the exact one',
    `freshness_max_ms` Nullable(Float64) COMMENT 'Greatest arrival less event time, exact',
    `latest_event_time` DateTime64(3, 'UTC') COMMENT 'Greatest event time of the inferences',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, inferences, inferences_per_s, errors, error_rate, error_rate_lower, error_rate_upper, latency_n, latency_p50_ms, latency_p90_ms, latency_p99_ms, latency_max_ms, latency_sum_ms, latency_mean_ms, freshness_p50_ms, freshness_p90_ms, freshness_p99_ms, freshness_max_ms, latest_event_time, undefined, sealed, row_version
FROM `tidegauge`.`serving` FINAL
COMMENT 'Traffic, errors, latency and freshness of each model, version, segment and window';

CREATE OR REPLACE VIEW `tidegauge_bi`.`labels`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `inferences` UInt64 COMMENT 'Accepted inferences: labelled + pending + expired',
    `labelled` UInt64 COMMENT 'Inferences with a label',
    `pending` UInt64 COMMENT 'Inferences of open windows without a label yet',
    `expired` UInt64 COMMENT 'Inferences of sealed windows without a label',
    `coverage` Nullable(Float64) COMMENT 'labelled / inferences',
    `settled_ratio` Nullable(Float64) COMMENT '(labelled + expired) / inferences',
    `labels_matched` UInt64 COMMENT 'labelled + label_corrections + label_duplicates',
    `label_corrections` UInt64 COMMENT 'Later labels that won with another value or weight',
    `label_duplicates` UInt64 COMMENT 'Labels that joined nothing and changed nothing',
    `label_conflicts` UInt64 COMMENT 'Duplicates with another value or weight than the winner',
    `label_delay_p50_ms` Nullable(Float64) COMMENT 'Median label delay, at most 1/128 above the exact one',
    `label_delay_p90_ms` Nullable(Float64) COMMENT '90 % quantile of label delay, at most 1/128 above',
    `label_delay_p99_ms` Nullable(Float64) COMMENT '99 % quantile of label delay, at most 1/128 above',
    `label_delay_max_ms` Nullable(Float64) COMMENT 'Greatest label delay, exact',
    `label_delay_mean_ms` Nullable(Float64) COMMENT 'Mean label delay',
    `labelled_within_1m` UInt64 COMMENT 'Inferences with a label delay of at most one minute',
    `labelled_within_10m` UInt64 COMMENT 'Inferences with a label delay of at most ten minutes',
    `labelled_within_1h` UInt64 COMMENT 'Inferences with a label delay of at most one hour',
    `labelled_within_1d` UInt64 COMMENT 'Inferences with a label delay of at most one day',
    `coverage_positive` Nullable(Float64) COMMENT 'labelled_positive / inferences_positive',
    `coverage_negative` Nullable(Float64) COMMENT 'labelled_negative / inferences_negative',
    `inferences_positive` UInt64 COMMENT 'Inferences decided positive (binary)',
    `labelled_positive` UInt64 COMMENT 'Inferences decided positive, with a label',
    `inferences_negative` UInt64 COMMENT 'Inferences decided negative (binary)',
    `labelled_negative` UInt64 COMMENT 'Inferences decided negative, with a label',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, inferences, labelled, pending, expired, coverage, settled_ratio, labels_matched, label_corrections, label_duplicates, label_conflicts, label_delay_p50_ms, label_delay_p90_ms, label_delay_p99_ms, label_delay_max_ms, label_delay_mean_ms, labelled_within_1m, labelled_within_10m, labelled_within_1h, labelled_within_1d, coverage_positive, coverage_negative, inferences_positive, labelled_positive, inferences_negative, labelled_negative, undefined, sealed, row_version
FROM `tidegauge`.`labels` FINAL
COMMENT 'Which inferences have a label, how long it took, and how often labels were corrected or repeated';

CREATE OR REPLACE VIEW `tidegauge_bi`.`quality_binary`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `n` UInt64 COMMENT 'Labelled inferences with a decision',
    `tp` UInt64 COMMENT 'True positives: decided and labelled positive',
    `fp` UInt64 COMMENT 'False positives: decided positive, labelled negative',
    `fn` UInt64 COMMENT 'False negatives: decided negative, labelled positive',
    `tn` UInt64 COMMENT 'True negatives: decided and labelled negative',
    `positives` UInt64 COMMENT 'tp + fn',
    `negatives` UInt64 COMMENT 'fp + tn',
    `predicted_positive` UInt64 COMMENT 'tp + fp',
    `accuracy` Nullable(Float64) COMMENT '(tp + tn) / n',
    `accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of accuracy (Wilson)',
    `accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of accuracy (Wilson)',
    `precision` Nullable(Float64) COMMENT 'tp / (tp + fp)',
    `precision_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of precision (Wilson)',
    `precision_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of precision (Wilson)',
    `npv` Nullable(Float64) COMMENT 'Negative predictive value: tn / (tn + fn)',
    `npv_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of npv (Wilson)',
    `npv_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of npv (Wilson)',
    `recall` Nullable(Float64) COMMENT 'tp / (tp + fn)',
    `recall_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of recall (Wilson)',
    `recall_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of recall (Wilson)',
    `specificity` Nullable(Float64) COMMENT 'tn / (tn + fp)',
    `specificity_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of specificity (Wilson)',
    `specificity_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of specificity (Wilson)',
    `prevalence` Nullable(Float64) COMMENT 'positives / n',
    `prevalence_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of prevalence (Wilson)',
    `prevalence_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of prevalence (Wilson)',
    `predicted_positive_rate` Nullable(Float64) COMMENT 'predicted_positive / n',
    `predicted_positive_rate_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of predicted_positive_rate (Wilson)',
    `predicted_positive_rate_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of predicted_positive_rate (Wilson)',
    `f1` Nullable(Float64) COMMENT '2 tp / (2 tp + fp + fn)',
    `f1_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of f1 (Wilson, mapped)',
    `f1_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of f1 (Wilson, mapped)',
    `balanced_accuracy` Nullable(Float64) COMMENT '(recall + specificity) / 2',
    `balanced_accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of balanced_accuracy (MOVER)',
    `balanced_accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of balanced_accuracy (MOVER)',
    `mcc` Nullable(Float64) COMMENT 'Matthews correlation coefficient',
    `n_scored` UInt64 COMMENT 'Labelled inferences with a score',
    `scored_positives` UInt64 COMMENT 'Positive ones among n_scored',
    `scored_negatives` UInt64 COMMENT 'Negative ones among n_scored',
    `auroc` Nullable(Float64) COMMENT 'Area under the ROC curve, from score cells',
    `auroc_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of auroc (DeLong)',
    `auroc_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of auroc (DeLong)',
    `auroc_error_bound` Nullable(Float64) COMMENT 'Greatest difference of auroc to that of the raw scores',
    `auroc_se` Nullable(Float64) COMMENT 'Standard error of auroc (DeLong)',
    `average_precision` Nullable(Float64) COMMENT 'Average precision, from score cells',
    `average_precision_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of average_precision (logit)',
    `average_precision_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of average_precision (logit)',
    `average_precision_min` Nullable(Float64) COMMENT 'Least average precision that the raw scores can have',
    `average_precision_max` Nullable(Float64) COMMENT 'Greatest average precision that the raw scores can have',
    `log_loss` Nullable(Float64) COMMENT 'Mean of -ln of the probability given to the label',
    `log_loss_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of log_loss (normal)',
    `log_loss_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of log_loss (normal)',
    `log_loss_clipped` UInt64 COMMENT 'Labelled scores whose log loss was held to 2^-52',
    `brier` Nullable(Float64) COMMENT 'Mean of (score - label)^2',
    `brier_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of brier (normal)',
    `brier_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of brier (normal)',
    `decisions_off_threshold` UInt64 COMMENT 'Labelled inferences whose own prediction differs from score >= threshold',
    `value_sum` Nullable(Float64) COMMENT 'What the decisions are worth together, by the model\'s value matrix',
    `value_per_label` Nullable(Float64) COMMENT 'value_sum / n_weight',
    `n_weight` Float64 DEFAULT toFloat64(n) COMMENT 'Sum of the label weights over n; n itself where weights are ignored',
    `tp_weight` Float64 DEFAULT toFloat64(tp) COMMENT 'Sum of the label weights over tp',
    `fp_weight` Float64 DEFAULT toFloat64(fp) COMMENT 'Sum of the label weights over fp',
    `fn_weight` Float64 DEFAULT toFloat64(fn) COMMENT 'Sum of the label weights over fn',
    `tn_weight` Float64 DEFAULT toFloat64(tn) COMMENT 'Sum of the label weights over tn',
    `n_eff` Float64 DEFAULT toFloat64(n) COMMENT 'Effective sample size (Kish): n_weight^2 / sum of the squared weights',
    `scored_positives_weight` Float64 DEFAULT toFloat64(scored_positives) COMMENT 'Sum of the label weights over scored_positives',
    `scored_negatives_weight` Float64 DEFAULT toFloat64(scored_negatives) COMMENT 'Sum of the label weights over scored_negatives',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, n, tp, fp, fn, tn, positives, negatives, predicted_positive, accuracy, accuracy_lower, accuracy_upper, precision, precision_lower, precision_upper, npv, npv_lower, npv_upper, recall, recall_lower, recall_upper, specificity, specificity_lower, specificity_upper, prevalence, prevalence_lower, prevalence_upper, predicted_positive_rate, predicted_positive_rate_lower, predicted_positive_rate_upper, f1, f1_lower, f1_upper, balanced_accuracy, balanced_accuracy_lower, balanced_accuracy_upper, mcc, n_scored, scored_positives, scored_negatives, auroc, auroc_lower, auroc_upper, auroc_error_bound, auroc_se, average_precision, average_precision_lower, average_precision_upper, average_precision_min, average_precision_max, log_loss, log_loss_lower, log_loss_upper, log_loss_clipped, brier, brier_lower, brier_upper, decisions_off_threshold, value_sum, value_per_label, n_weight, tp_weight, fp_weight, fn_weight, tn_weight, n_eff, scored_positives_weight, scored_negatives_weight, undefined, sealed, row_version
FROM `tidegauge`.`quality_binary` FINAL
COMMENT 'Quality of binary models, of the labelled inferences, with 95 % intervals';

CREATE OR REPLACE VIEW `tidegauge_bi`.`quality_threshold`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `threshold` Float64 COMMENT 'Scores at or above it are decided positive',
    `n` UInt64 COMMENT 'Labelled inferences with a decision',
    `tp` UInt64 COMMENT 'True positives: decided and labelled positive',
    `fp` UInt64 COMMENT 'False positives: decided positive, labelled negative',
    `fn` UInt64 COMMENT 'False negatives: decided negative, labelled positive',
    `tn` UInt64 COMMENT 'True negatives: decided and labelled negative',
    `positives` UInt64 COMMENT 'tp + fn',
    `negatives` UInt64 COMMENT 'fp + tn',
    `predicted_positive` UInt64 COMMENT 'tp + fp',
    `accuracy` Nullable(Float64) COMMENT '(tp + tn) / n',
    `accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of accuracy (Wilson)',
    `accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of accuracy (Wilson)',
    `precision` Nullable(Float64) COMMENT 'tp / (tp + fp)',
    `precision_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of precision (Wilson)',
    `precision_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of precision (Wilson)',
    `npv` Nullable(Float64) COMMENT 'Negative predictive value: tn / (tn + fn)',
    `npv_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of npv (Wilson)',
    `npv_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of npv (Wilson)',
    `recall` Nullable(Float64) COMMENT 'tp / (tp + fn)',
    `recall_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of recall (Wilson)',
    `recall_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of recall (Wilson)',
    `specificity` Nullable(Float64) COMMENT 'tn / (tn + fp)',
    `specificity_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of specificity (Wilson)',
    `specificity_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of specificity (Wilson)',
    `prevalence` Nullable(Float64) COMMENT 'positives / n',
    `prevalence_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of prevalence (Wilson)',
    `prevalence_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of prevalence (Wilson)',
    `predicted_positive_rate` Nullable(Float64) COMMENT 'predicted_positive / n',
    `predicted_positive_rate_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of predicted_positive_rate (Wilson)',
    `predicted_positive_rate_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of predicted_positive_rate (Wilson)',
    `f1` Nullable(Float64) COMMENT '2 tp / (2 tp + fp + fn)',
    `f1_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of f1 (Wilson, mapped)',
    `f1_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of f1 (Wilson, mapped)',
    `balanced_accuracy` Nullable(Float64) COMMENT '(recall + specificity) / 2',
    `balanced_accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of balanced_accuracy (MOVER)',
    `balanced_accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of balanced_accuracy (MOVER)',
    `mcc` Nullable(Float64) COMMENT 'Matthews correlation coefficient',
    `value_sum` Nullable(Float64) COMMENT 'What the decisions are worth together, by the model\'s value matrix',
    `value_per_label` Nullable(Float64) COMMENT 'value_sum / n_weight',
    `n_weight` Float64 DEFAULT toFloat64(n) COMMENT 'Sum of the label weights over n; n itself where weights are ignored',
    `tp_weight` Float64 DEFAULT toFloat64(tp) COMMENT 'Sum of the label weights over tp',
    `fp_weight` Float64 DEFAULT toFloat64(fp) COMMENT 'Sum of the label weights over fp',
    `fn_weight` Float64 DEFAULT toFloat64(fn) COMMENT 'Sum of the label weights over fn',
    `tn_weight` Float64 DEFAULT toFloat64(tn) COMMENT 'Sum of the label weights over tn',
    `n_eff` Float64 DEFAULT toFloat64(n) COMMENT 'Effective sample size (Kish): n_weight^2 / sum of the squared weights',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, threshold, n, tp, fp, fn, tn, positives, negatives, predicted_positive, accuracy, accuracy_lower, accuracy_upper, precision, precision_lower, precision_upper, npv, npv_lower, npv_upper, recall, recall_lower, recall_upper, specificity, specificity_lower, specificity_upper, prevalence, prevalence_lower, prevalence_upper, predicted_positive_rate, predicted_positive_rate_lower, predicted_positive_rate_upper, f1, f1_lower, f1_upper, balanced_accuracy, balanced_accuracy_lower, balanced_accuracy_upper, mcc, value_sum, value_per_label, n_weight, tp_weight, fp_weight, fn_weight, tn_weight, n_eff, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, threshold, n, tp, fp, fn, tn, positives, negatives, predicted_positive, accuracy, accuracy_lower, accuracy_upper, precision, precision_lower, precision_upper, npv, npv_lower, npv_upper, recall, recall_lower, recall_upper, specificity, specificity_lower, specificity_upper, prevalence, prevalence_lower, prevalence_upper, predicted_positive_rate, predicted_positive_rate_lower, predicted_positive_rate_upper, f1, f1_lower, f1_upper, balanced_accuracy, balanced_accuracy_lower, balanced_accuracy_upper, mcc, value_sum, value_per_label, n_weight, tp_weight, fp_weight, fn_weight, tn_weight, n_eff, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
    FROM `tidegauge`.`quality_threshold` FINAL
)
WHERE row_version = newest
COMMENT 'Quality of binary models, if scores were decided at another threshold: one row for each configured one';

CREATE OR REPLACE VIEW `tidegauge_bi`.`calibration`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `n_scored` UInt64 COMMENT 'Labelled inferences with a score',
    `ece` Nullable(Float64) COMMENT 'Expected calibration error: mean distance of the bins\' rates and scores, biased upward for few records',
    `mce` Nullable(Float64) COMMENT 'Greatest distance of a bin\'s rate and mean score',
    `score_sum` Float64 COMMENT 'Sum of the scores, each as often as it weighs: the positives they promise',
    `positives` UInt64 COMMENT 'Positive labels',
    `calibration_bias` Nullable(Float64) COMMENT '(score_sum - positives_weight) / n_scored_weight: positive is too high',
    `calibration_z` Nullable(Float64) COMMENT 'Standardised bias: beyond 2 in size it is hardly chance',
    `brier_reliability` Nullable(Float64) COMMENT 'Part of the Brier score that miscalibration makes (Murphy)',
    `brier_resolution` Nullable(Float64) COMMENT 'Part of the Brier score that telling cases apart takes away',
    `brier_uncertainty` Nullable(Float64) COMMENT 'Part of the Brier score that the base rate makes',
    `brier_residual` Nullable(Float64) COMMENT 'The rest of the Brier score: spread inside the bins',
    `n_scored_weight` Float64 DEFAULT toFloat64(n_scored) COMMENT 'Sum of the label weights over n_scored; n_scored where ignored',
    `positives_weight` Float64 DEFAULT toFloat64(positives) COMMENT 'Sum of the label weights over positives',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, n_scored, ece, mce, score_sum, positives, calibration_bias, calibration_z, brier_reliability, brier_resolution, brier_uncertainty, brier_residual, n_scored_weight, positives_weight, undefined, sealed, row_version
FROM `tidegauge`.`calibration` FINAL
COMMENT 'Whether binary scores are the probabilities that they claim to be, of the labelled scores';

CREATE OR REPLACE VIEW `tidegauge_bi`.`calibration_bins`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `bin` UInt64 COMMENT 'Number of the bin, 1 to 10',
    `bin_lower` Float64 COMMENT 'Scores of the bin are greater (the first bin holds 0 too)',
    `bin_upper` Float64 COMMENT 'Scores of the bin are at most this',
    `n` UInt64 COMMENT 'Labelled scores in the bin',
    `positives` UInt64 COMMENT 'Positive labels among them',
    `score_sum` Float64 COMMENT 'Sum of the scores, each as often as it weighs',
    `mean_score` Float64 COMMENT 'score_sum / n_weight: what the scores promise',
    `positive_rate` Nullable(Float64) COMMENT 'positives_weight / n_weight: what the labels say',
    `positive_rate_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of positive_rate (Wilson)',
    `positive_rate_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of positive_rate (Wilson)',
    `n_weight` Float64 DEFAULT toFloat64(n) COMMENT 'Sum of the label weights over n; n itself where weights are ignored',
    `positives_weight` Float64 DEFAULT toFloat64(positives) COMMENT 'Sum of the label weights over positives',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, bin, bin_lower, bin_upper, n, positives, score_sum, mean_score, positive_rate, positive_rate_lower, positive_rate_upper, n_weight, positives_weight, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, bin, bin_lower, bin_upper, n, positives, score_sum, mean_score, positive_rate, positive_rate_lower, positive_rate_upper, n_weight, positives_weight, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
    FROM `tidegauge`.`calibration_bins` FINAL
)
WHERE row_version = newest
COMMENT 'Mean score and rate of positives in each tenth of the scores: the points of a reliability diagram';

CREATE OR REPLACE VIEW `tidegauge_bi`.`quality_regression`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `n` UInt64 COMMENT 'Labelled inferences whose prediction and label are numbers',
    `mean_error` Nullable(Float64) COMMENT 'Mean of prediction - label: positive is too high',
    `mean_error_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of mean_error (normal)',
    `mean_error_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of mean_error (normal)',
    `mae` Nullable(Float64) COMMENT 'Mean absolute error',
    `mae_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of mae (normal)',
    `mae_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of mae (normal)',
    `mse` Nullable(Float64) COMMENT 'Mean squared error',
    `rmse` Nullable(Float64) COMMENT 'Square root of mse',
    `r2` Nullable(Float64) COMMENT 'Share of the labels\' variance that the predictions explain; below 0 they are worse than the mean label',
    `mape` Nullable(Float64) COMMENT 'Mean of |error| / |label| over mape_n, a fraction',
    `mape_n` UInt64 COMMENT 'Pairs whose label is not 0 (and whose relative error is at most 1e150)',
    `rmsle` Nullable(Float64) COMMENT 'Root of the mean squared difference of log(1 + x) over rmsle_n',
    `rmsle_n` UInt64 COMMENT 'Pairs whose prediction and label are above -1',
    `pearson` Nullable(Float64) COMMENT 'Correlation of predictions and labels',
    `abs_error_p50` Nullable(Float64) COMMENT 'Median absolute error, within 1/256 of the exact one',
    `abs_error_p90` Nullable(Float64) COMMENT '90 % quantile of the absolute error, within 1/256',
    `abs_error_p99` Nullable(Float64) COMMENT '99 % quantile of the absolute error, within 1/256',
    `abs_error_max` Nullable(Float64) COMMENT 'Greatest absolute error, at most 1/128 too high',
    `label_mean` Nullable(Float64) COMMENT 'Mean label',
    `prediction_mean` Nullable(Float64) COMMENT 'Mean prediction',
    `label_sum` Float64 COMMENT 'Sum of the labels, each as often as it weighs',
    `prediction_sum` Float64 COMMENT 'Sum of the predictions, each as often as its label weighs',
    `abs_error_sum` Float64 COMMENT 'Sum of absolute errors: n_weight times mae',
    `error_square_sum` Float64 COMMENT 'Sum of squared errors: n_weight times mse',
    `n_weight` Float64 DEFAULT toFloat64(n) COMMENT 'Sum of the label weights over n; n itself where weights are ignored',
    `mape_n_weight` Float64 DEFAULT toFloat64(mape_n) COMMENT 'Sum of the label weights over mape_n',
    `rmsle_n_weight` Float64 DEFAULT toFloat64(rmsle_n) COMMENT 'Sum of the label weights over rmsle_n',
    `n_eff` Float64 DEFAULT toFloat64(n) COMMENT 'Effective sample size (Kish): n_weight^2 / sum of the squared weights',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, n, mean_error, mean_error_lower, mean_error_upper, mae, mae_lower, mae_upper, mse, rmse, r2, mape, mape_n, rmsle, rmsle_n, pearson, abs_error_p50, abs_error_p90, abs_error_p99, abs_error_max, label_mean, prediction_mean, label_sum, prediction_sum, abs_error_sum, error_square_sum, n_weight, mape_n_weight, rmsle_n_weight, n_eff, undefined, sealed, row_version
FROM `tidegauge`.`quality_regression` FINAL
COMMENT 'Quality of models that predict numbers, of the labelled inferences, with 95 % intervals';

CREATE OR REPLACE VIEW `tidegauge_bi`.`quality_multiclass`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `n` UInt64 COMMENT 'Labelled inferences with a predicted class',
    `correct` UInt64 COMMENT 'Those whose predicted class is the true one',
    `accuracy` Nullable(Float64) COMMENT 'correct / n; micro precision, recall and F1 are equal to it',
    `accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of accuracy (Wilson)',
    `accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of accuracy (Wilson)',
    `macro_precision` Nullable(Float64) COMMENT 'Mean of the precision of all classes that have one',
    `macro_precision_classes` UInt64 COMMENT 'Classes with a precision',
    `macro_recall` Nullable(Float64) COMMENT 'Mean of the recall of all classes that have one',
    `macro_recall_classes` UInt64 COMMENT 'Classes with a recall',
    `macro_f1` Nullable(Float64) COMMENT 'Mean of the F1 of all classes that have one',
    `macro_f1_classes` UInt64 COMMENT 'Classes with an F1',
    `weighted_precision` Nullable(Float64) COMMENT 'Mean precision, weighted by support',
    `weighted_recall` Nullable(Float64) COMMENT 'Mean recall, weighted by support',
    `weighted_f1` Nullable(Float64) COMMENT 'Mean F1, weighted by support',
    `mcc` Nullable(Float64) COMMENT 'Matthews correlation coefficient of several classes',
    `n_scored` UInt64 COMMENT 'Labelled inferences with scores by class',
    `log_loss` Nullable(Float64) COMMENT 'Mean of -ln of the score of the true class',
    `log_loss_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of log_loss (normal)',
    `log_loss_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of log_loss (normal)',
    `log_loss_clipped` UInt64 COMMENT 'Labelled inferences whose log loss was held to 2^-52',
    `brier` Nullable(Float64) COMMENT 'Mean of the sum of (score - truth)^2 over classes',
    `top_2_hits` UInt64 COMMENT 'Inferences whose true class is among the 2 of greatest score',
    `top_2_accuracy` Nullable(Float64) COMMENT 'top_2_hits / n_scored',
    `top_2_accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of its 95 % interval (Wilson)',
    `top_2_accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of its 95 % interval (Wilson)',
    `top_3_hits` UInt64 COMMENT 'Inferences whose true class is among the 3 of greatest score',
    `top_3_accuracy` Nullable(Float64) COMMENT 'top_3_hits / n_scored',
    `top_3_accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of its 95 % interval (Wilson)',
    `top_3_accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of its 95 % interval (Wilson)',
    `top_5_hits` UInt64 COMMENT 'Inferences whose true class is among the 5 of greatest score',
    `top_5_accuracy` Nullable(Float64) COMMENT 'top_5_hits / n_scored',
    `top_5_accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of its 95 % interval (Wilson)',
    `top_5_accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of its 95 % interval (Wilson)',
    `auroc_ovr_macro` Nullable(Float64) COMMENT 'Mean of the AUROC of each class against the rest',
    `auroc_ovr_classes` UInt64 COMMENT 'Classes with an AUROC',
    `n_weight` Float64 DEFAULT toFloat64(n) COMMENT 'Sum of the label weights over n; n itself where weights are ignored',
    `correct_weight` Float64 DEFAULT toFloat64(correct) COMMENT 'Sum of the label weights over correct',
    `n_scored_weight` Float64 DEFAULT toFloat64(n_scored) COMMENT 'Sum of the label weights over n_scored',
    `top_2_hits_weight` Float64 DEFAULT toFloat64(top_2_hits) COMMENT 'Sum of the label weights over top_2_hits',
    `top_3_hits_weight` Float64 DEFAULT toFloat64(top_3_hits) COMMENT 'Sum of the label weights over top_3_hits',
    `top_5_hits_weight` Float64 DEFAULT toFloat64(top_5_hits) COMMENT 'Sum of the label weights over top_5_hits',
    `n_eff` Float64 DEFAULT toFloat64(n) COMMENT 'Effective sample size (Kish): n_weight^2 / sum of the squared weights',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, n, correct, accuracy, accuracy_lower, accuracy_upper, macro_precision, macro_precision_classes, macro_recall, macro_recall_classes, macro_f1, macro_f1_classes, weighted_precision, weighted_recall, weighted_f1, mcc, n_scored, log_loss, log_loss_lower, log_loss_upper, log_loss_clipped, brier, top_2_hits, top_2_accuracy, top_2_accuracy_lower, top_2_accuracy_upper, top_3_hits, top_3_accuracy, top_3_accuracy_lower, top_3_accuracy_upper, top_5_hits, top_5_accuracy, top_5_accuracy_lower, top_5_accuracy_upper, auroc_ovr_macro, auroc_ovr_classes, n_weight, correct_weight, n_scored_weight, top_2_hits_weight, top_3_hits_weight, top_5_hits_weight, n_eff, undefined, sealed, row_version
FROM `tidegauge`.`quality_multiclass` FINAL
COMMENT 'Quality of models that decide between several classes, of the labelled inferences, with 95 % intervals';

CREATE OR REPLACE VIEW `tidegauge_bi`.`quality_classes`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `class` LowCardinality(String) COMMENT 'The class; (other) beyond the cap on classes',
    `support` UInt64 COMMENT 'Labelled inferences whose true class it is',
    `predicted` UInt64 COMMENT 'Labelled inferences whose predicted class it is',
    `tp` UInt64 COMMENT 'True positives: it is both',
    `precision` Nullable(Float64) COMMENT 'tp / predicted',
    `precision_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of precision (Wilson)',
    `precision_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of precision (Wilson)',
    `recall` Nullable(Float64) COMMENT 'tp / support',
    `recall_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of recall (Wilson)',
    `recall_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of recall (Wilson)',
    `f1` Nullable(Float64) COMMENT '2 tp / (predicted + support)',
    `f1_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of f1 (Wilson, mapped)',
    `f1_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of f1 (Wilson, mapped)',
    `auroc` Nullable(Float64) COMMENT 'Area under the ROC curve of the class against the rest, from score cells',
    `auroc_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of auroc (DeLong)',
    `auroc_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of auroc (DeLong)',
    `auroc_error_bound` Nullable(Float64) COMMENT 'Greatest difference of auroc to that of the raw scores',
    `support_weight` Float64 DEFAULT toFloat64(support) COMMENT 'Sum of the label weights over support; support where ignored',
    `predicted_weight` Float64 DEFAULT toFloat64(predicted) COMMENT 'Sum of the label weights over predicted',
    `tp_weight` Float64 DEFAULT toFloat64(tp) COMMENT 'Sum of the label weights over tp',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, class, support, predicted, tp, precision, precision_lower, precision_upper, recall, recall_lower, recall_upper, f1, f1_lower, f1_upper, auroc, auroc_lower, auroc_upper, auroc_error_bound, support_weight, predicted_weight, tp_weight, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, class, support, predicted, tp, precision, precision_lower, precision_upper, recall, recall_lower, recall_upper, f1, f1_lower, f1_upper, auroc, auroc_lower, auroc_upper, auroc_error_bound, support_weight, predicted_weight, tp_weight, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
    FROM `tidegauge`.`quality_classes` FINAL
)
WHERE row_version = newest
COMMENT 'Quality of models that decide between several classes: one row for each true or predicted class';

CREATE OR REPLACE VIEW `tidegauge_bi`.`confusion`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `true_class` LowCardinality(String) COMMENT 'The label\'s class; (other) beyond the cap on classes',
    `predicted_class` LowCardinality(String) COMMENT 'The predicted class; (other) beyond the cap on classes',
    `n` UInt64 COMMENT 'Labelled inferences of this true and predicted class',
    `n_weight` Float64 DEFAULT toFloat64(n) COMMENT 'Sum of the label weights over n; n itself where weights are ignored',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, true_class, predicted_class, n, n_weight, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, true_class, predicted_class, n, n_weight, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
    FROM `tidegauge`.`confusion` FINAL
)
WHERE row_version = newest
COMMENT 'Confusion matrix of models that decide between several classes: one row for each cell with a count';

CREATE OR REPLACE VIEW `tidegauge_bi`.`quality_estimated`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `n` UInt64 COMMENT 'Inferences with a score',
    `est_tp` Nullable(Float64) COMMENT 'Expected true positives, of a binary model',
    `est_fp` Nullable(Float64) COMMENT 'Expected false positives, of a binary model',
    `est_fn` Nullable(Float64) COMMENT 'Expected false negatives, of a binary model',
    `est_tn` Nullable(Float64) COMMENT 'Expected true negatives, of a binary model',
    `est_accuracy` Nullable(Float64) COMMENT 'Estimated share of right decisions',
    `est_accuracy_lower` Nullable(Float64) COMMENT 'Lower end of the 95 % band of the realised accuracy',
    `est_accuracy_upper` Nullable(Float64) COMMENT 'Upper end of the 95 % band of the realised accuracy',
    `est_precision` Nullable(Float64) COMMENT 'Estimated precision',
    `est_precision_lower` Nullable(Float64) COMMENT 'Lower end of the 95 % band of the realised precision',
    `est_precision_upper` Nullable(Float64) COMMENT 'Upper end of the 95 % band of the realised precision',
    `est_recall` Nullable(Float64) COMMENT 'Estimated recall',
    `est_recall_lower` Nullable(Float64) COMMENT 'Lower end of the 95 % band of the realised recall',
    `est_recall_upper` Nullable(Float64) COMMENT 'Upper end of the 95 % band of the realised recall',
    `est_f1` Nullable(Float64) COMMENT 'Estimated F1',
    `est_f1_lower` Nullable(Float64) COMMENT 'Lower end of the 95 % band of the realised F1',
    `est_f1_upper` Nullable(Float64) COMMENT 'Upper end of the 95 % band of the realised F1',
    `est_auroc` Nullable(Float64) COMMENT 'Estimated area under the ROC curve, from score cells; of several classes the mean, each against the rest',
    `est_auroc_lower` Nullable(Float64) COMMENT 'Lower end of the 95 % band of the realised area',
    `est_auroc_upper` Nullable(Float64) COMMENT 'Upper end of the 95 % band of the realised area',
    `est_auroc_error_bound` Nullable(Float64) COMMENT 'What binning may change of est_auroc at most',
    `n_labelled` UInt64 COMMENT 'Labelled inferences with a score',
    `realized_accuracy` Nullable(Float64) COMMENT 'Share of right decisions of the labelled',
    `realized_f1` Nullable(Float64) COMMENT 'F1 of the labelled',
    `realized_auroc` Nullable(Float64) COMMENT 'Area under the ROC curve of the labelled, likewise',
    `est_labelled_accuracy` Nullable(Float64) COMMENT 'Estimated accuracy of exactly the labelled',
    `est_labelled_f1` Nullable(Float64) COMMENT 'Estimated F1 of exactly the labelled',
    `est_labelled_auroc` Nullable(Float64) COMMENT 'Estimated area under the ROC curve of exactly the labelled',
    `accuracy_gap` Nullable(Float64) COMMENT 'realized_accuracy - est_labelled_accuracy',
    `f1_gap` Nullable(Float64) COMMENT 'realized_f1 - est_labelled_f1',
    `auroc_gap` Nullable(Float64) COMMENT 'realized_auroc - est_labelled_auroc',
    `accuracy_gap_z` Nullable(Float64) COMMENT 'accuracy_gap over its standard deviation: beyond 2 in size the calibration no longer holds',
    `blended_accuracy` Nullable(Float64) COMMENT 'Realised where labels are in, estimated for the rest',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, n, est_tp, est_fp, est_fn, est_tn, est_accuracy, est_accuracy_lower, est_accuracy_upper, est_precision, est_precision_lower, est_precision_upper, est_recall, est_recall_lower, est_recall_upper, est_f1, est_f1_lower, est_f1_upper, est_auroc, est_auroc_lower, est_auroc_upper, est_auroc_error_bound, n_labelled, realized_accuracy, realized_f1, realized_auroc, est_labelled_accuracy, est_labelled_f1, est_labelled_auroc, accuracy_gap, f1_gap, auroc_gap, accuracy_gap_z, blended_accuracy, undefined, sealed, row_version
FROM `tidegauge`.`quality_estimated` FINAL
COMMENT 'Quality of models with classes estimated without labels, from scores that the reference calibrates, beside what labels say';

CREATE OR REPLACE VIEW `tidegauge_bi`.`data_quality`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `feature` LowCardinality(String) COMMENT 'The feature\'s name; (other) holds the values of features beyond the cap on them',
    `kind` LowCardinality(String) COMMENT 'What most of its values are: numeric, categorical, boolean',
    `inferences` UInt64 COMMENT 'Accepted inferences',
    `values` UInt64 COMMENT 'Values of its kind',
    `missing` UInt64 COMMENT 'Inferences without a value: absent, null, NaN or infinite',
    `missing_rate` Nullable(Float64) COMMENT 'missing / inferences',
    `missing_rate_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of missing_rate (Wilson)',
    `missing_rate_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of missing_rate (Wilson)',
    `non_finite` UInt64 COMMENT 'NaN, infinite, or beyond 1e150, among the missing',
    `type_errors` UInt64 COMMENT 'Values of another kind; they enter no other figure',
    `type_error_rate` Nullable(Float64) COMMENT 'type_errors / inferences',
    `out_of_range` Nullable(Float64) COMMENT 'Numbers outside the declared range, or else that of the reference',
    `out_of_range_rate` Nullable(Float64) COMMENT 'out_of_range / values',
    `new_categories` Nullable(Float64) COMMENT 'Distinct texts that the reference does not have',
    `new_category_values` Nullable(Float64) COMMENT 'Values with such a text',
    `distinct` Nullable(Float64) COMMENT 'Distinct values: exact up to 100 beside those of the reference, else estimated. Numbers only where configured',
    `is_constant` Nullable(Float64) COMMENT '1 if there are at least two values and all are equal, else 0',
    `min` Nullable(Float64) COMMENT 'Least number',
    `max` Nullable(Float64) COMMENT 'Greatest number',
    `mean` Nullable(Float64) COMMENT 'Mean of the numbers',
    `sd` Nullable(Float64) COMMENT 'Standard deviation of the numbers (n - 1)',
    `p01` Nullable(Float64) COMMENT '1 % quantile of the numbers, within 1/64 of the exact one; with a reference inside its cells of 1 %',
    `p25` Nullable(Float64) COMMENT '25 % quantile of the numbers, alike',
    `p50` Nullable(Float64) COMMENT 'Median of the numbers, alike',
    `p75` Nullable(Float64) COMMENT '75 % quantile of the numbers, alike',
    `p99` Nullable(Float64) COMMENT '99 % quantile of the numbers, alike',
    `top_category` LowCardinality(String) COMMENT 'Most frequent text, of several the first; empty where there is none, or where one beyond the cap on texts may be as frequent',
    `top_category_n` UInt64 COMMENT 'How often it came; 0 where there is none, or it is not known',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, feature, kind, inferences, values, missing, missing_rate, missing_rate_lower, missing_rate_upper, non_finite, type_errors, type_error_rate, out_of_range, out_of_range_rate, new_categories, new_category_values, distinct, is_constant, min, max, mean, sd, p01, p25, p50, p75, p99, top_category, top_category_n, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, feature, kind, inferences, values, missing, missing_rate, missing_rate_lower, missing_rate_upper, non_finite, type_errors, type_error_rate, out_of_range, out_of_range_rate, new_categories, new_category_values, distinct, is_constant, min, max, mean, sd, p01, p25, p50, p75, p99, top_category, top_category_n, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
    FROM `tidegauge`.`data_quality` FINAL
)
WHERE row_version = newest
COMMENT 'What each feature of the inferences holds: missing values, wrong types, range, distribution';

CREATE OR REPLACE VIEW `tidegauge_bi`.`categories`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `feature` LowCardinality(String) COMMENT 'The feature\'s name',
    `category` LowCardinality(String) COMMENT 'A text, true or false; (other) holds all but the 20 most frequent, and texts beyond the cap, which may be more frequent',
    `n` UInt64 COMMENT 'Values that are it',
    `values` UInt64 COMMENT 'Values of the feature\'s kind',
    `share` Nullable(Float64) COMMENT 'n / values',
    `share_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of share (Wilson)',
    `share_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of share (Wilson)',
    `reference_n` Nullable(Float64) COMMENT 'Values of the reference that are it',
    `reference_share` Nullable(Float64) COMMENT 'reference_n / values of the reference',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, feature, category, n, values, share, share_lower, share_upper, reference_n, reference_share, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, feature, category, n, values, share, share_lower, share_upper, reference_n, reference_share, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
    FROM `tidegauge`.`categories` FINAL
)
WHERE row_version = newest
COMMENT 'How often each category of a feature came, beside the reference: the 20 most frequent, and all others';

CREATE OR REPLACE VIEW `tidegauge_bi`.`drift`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `kind` LowCardinality(String) COMMENT 'What was compared: feature, score, prediction or label',
    `feature` LowCardinality(String) COMMENT 'The feature\'s name; else empty',
    `method` LowCardinality(String) COMMENT 'How it was compared',
    `value` Nullable(Float64) COMMENT 'Distance, statistic or rate, by method',
    `value_lower` Nullable(Float64) COMMENT 'The least that the raw values may have, or lower 95 % limit of a rate (Wilson)',
    `value_upper` Nullable(Float64) COMMENT 'The greatest that the raw values may have, or upper 95 % limit of a rate (Wilson)',
    `effect` Nullable(Float64) COMMENT 'What thresholds are held against',
    `p_value` Nullable(Float64) COMMENT 'How likely chance alone makes as much',
    `p_adjusted` Nullable(Float64) COMMENT 'p_value (with rare bins or names not below that of chi2), adjusted for all comparisons of the window by the same method, labels by themselves (Benjamini-Hochberg)',
    `warn_at` Nullable(Float64) COMMENT 'The least effect that is worth a warning',
    `drift_at` Float64 COMMENT 'The least effect that is drift',
    `alpha` Float64 COMMENT 'Adjusted p-values above it are chance; rates do not use it',
    `verdict` LowCardinality(String) COMMENT 'ok, warn, drift, or insufficient_data',
    `reason` LowCardinality(String) COMMENT 'Why there is no value or no verdict; empty where there is one',
    `is_primary` UInt64 COMMENT '1 for the one method of each feature that alerts and overviews read',
    `bins` UInt64 COMMENT 'Bins or categories that hold any value; 0 for rates',
    `binning` LowCardinality(String) COMMENT 'What the bins are: quantile, edges, category',
    `n` UInt64 COMMENT 'Values of the window; of the missing rate its inferences',
    `reference_n` UInt64 COMMENT 'Those of the reference',
    `reference_id` LowCardinality(String) COMMENT 'The profile that was compared with',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, kind, feature, method, value, value_lower, value_upper, effect, p_value, p_adjusted, warn_at, drift_at, alpha, verdict, reason, is_primary, bins, binning, n, reference_n, reference_id, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, kind, feature, method, value, value_lower, value_upper, effect, p_value, p_adjusted, warn_at, drift_at, alpha, verdict, reason, is_primary, bins, binning, n, reference_n, reference_id, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start, kind = 'label') AS newest
    FROM `tidegauge`.`drift` FINAL
)
WHERE row_version = newest
COMMENT 'How far features, scores, predictions and labels lie from those of the model\'s reference, by each method, and whether that is drift';

CREATE OR REPLACE VIEW `tidegauge_bi`.`custom`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `metric` LowCardinality(String) COMMENT 'The metric\'s name in the configuration',
    `value` Nullable(Float64) COMMENT 'What the metric\'s expression gives; NULL where it is undefined',
    `reason` LowCardinality(String) COMMENT 'Why the value is NULL; empty where it is not',
    `n` UInt64 COMMENT 'Inferences behind it: the labelled where the expression reads labels, else all',
    `inferences` UInt64 COMMENT 'Accepted inferences',
    `labelled` UInt64 COMMENT 'Inferences with a label',
    `undefined` String COMMENT 'Why columns are NULL: column=reason, separated by spaces; empty when all are defined',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, metric, value, reason, n, inferences, labelled, undefined, sealed, row_version
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, metric, value, reason, n, inferences, labelled, undefined, sealed, row_version,
        max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
    FROM `tidegauge`.`custom` FINAL
)
WHERE row_version = newest
COMMENT 'Metrics that the configuration defines: one row for each, with the reason where it is undefined';

CREATE OR REPLACE VIEW `tidegauge_bi`.`stream_health`
(
    `job` LowCardinality(String) COMMENT 'The job',
    `topic` LowCardinality(String) COMMENT 'inferences or labels',
    `partition` Int32 COMMENT 'Partition number, the same in both topics',
    `model` LowCardinality(String) COMMENT 'The model as records name it; empty where they name none or can\'t be read',
    `records` Int64 COMMENT 'Records read: accepted + duplicate + late + dead of inferences, matched + kept + orphan + dead of labels',
    `accepted` Int64 COMMENT 'Inferences that were folded into their windows',
    `duplicate` Int64 COMMENT 'Inferences of a request, model and version that were there already',
    `late` Int64 COMMENT 'Inferences that arrived later than the lateness allows',
    `dead` Int64 COMMENT 'Records of either topic that went to the dead letters',
    `matched` Int64 COMMENT 'Labels that matched at least one inference',
    `kept` Int64 COMMENT 'Labels that matched no inference yet, but one may come',
    `orphan` Int64 COMMENT 'Labels that matched no inference, and none can come',
    `position` Int64 COMMENT 'Next offset of the topic partition to count; offsets may have holes',
    `clock` Nullable(DateTime64(3, 'UTC')) COMMENT 'How far the topic partition has come in log time; NULL before enough records'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT job, topic, partition, model, records, accepted, duplicate, late, dead, matched, kept, orphan, position, clock
FROM `tidegauge`.stream_health
COMMENT 'What became of every record since the job\'s start, by topic partition and model: the outcomes add up to the records read';

CREATE OR REPLACE VIEW `tidegauge_bi`.`alerts`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `rule` LowCardinality(String) COMMENT 'Name of the rule in the configuration',
    `metric` LowCardinality(String) COMMENT 'What the rule is about: table.column',
    `severity` LowCardinality(String) COMMENT 'As the rule says',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `feature` String COMMENT 'Keys of the metric row beside the window\'s, with / between; else empty',
    `grain` LowCardinality(String) COMMENT 'Length of the windows: 5m, 1h, 1d',
    `opened_window` DateTime64(3, 'UTC') COMMENT 'Start of the window that completed the run of breaches',
    `opened_window_end` DateTime64(3, 'UTC') COMMENT 'Its end',
    `state` LowCardinality(String) COMMENT 'opened, resolved, or retracted: later labels say that it never held',
    `resolved_window` Nullable(DateTime64(3, 'UTC')) COMMENT 'Start of the window that ended it',
    `resolved_window_end` Nullable(DateTime64(3, 'UTC')) COMMENT 'Its end',
    `value` Nullable(Float64) COMMENT 'The figure in the window that changed the state last',
    `lower` Nullable(Float64) COMMENT 'Lower limit of its 95 % interval',
    `upper` Nullable(Float64) COMMENT 'Upper limit of its 95 % interval',
    `threshold` Nullable(Float64) COMMENT 'The threshold that was crossed, of learned limits one of the two; NULL for verdicts',
    `n` Nullable(Float64) COMMENT 'Records behind the figure; NULL where the table has no count',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: versions of all windows up to the last evaluated, plus their number'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT job, rule, metric, severity, model, version, segment, feature, grain, opened_window, opened_window_end, state, resolved_window, resolved_window_end, value, lower, upper, threshold, toFloat64(n) AS n, row_version
FROM `tidegauge`.`alerts` FINAL
COMMENT 'What rules of the configuration say about metric rows: one row for each alert, with its state';

CREATE OR REPLACE VIEW `tidegauge_bi`.`reference_profiles`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'Name or glob of the models that it is for',
    `reference_id` String COMMENT 'The profile, as in drift: name and digest of what it says',
    `name` LowCardinality(String) COMMENT 'The name that it was given',
    `generation` UInt64 COMMENT 'A changed profile of one name has a higher one',
    `format` UInt64 COMMENT 'Version of the document\'s form',
    `created` DateTime64(3, 'UTC') COMMENT 'When the server wrote the row'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT job, model, reference_id, name, toUInt64(generation) AS generation, toUInt64(format) AS format, created
FROM `tidegauge`.`reference_profiles` FINAL
COMMENT 'Reference profiles that configurations name, each as the job\'s first start with it found it';

CREATE OR REPLACE VIEW `tidegauge_bi`.`keys`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment
FROM `tidegauge`.`serving`
COMMENT 'Which models, versions, segments and windows there are, for the choices of filters: a key may stand here more than once, so count in serving';

CREATE OR REPLACE VIEW `tidegauge_bi`.`models_now`
(
    `job` LowCardinality(String) COMMENT 'The job',
    `model` LowCardinality(String) COMMENT 'The model',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `grain` LowCardinality(String) COMMENT 'The finest length of window that the job writes; the counts here are of it',
    `windows` UInt64 COMMENT 'Windows with at least one inference',
    `first_window_start` DateTime64(3, 'UTC') COMMENT 'Start of the first window',
    `last_window_start` DateTime64(3, 'UTC') COMMENT 'Start of the last window',
    `last_window_end` DateTime64(3, 'UTC') COMMENT 'End of the last window',
    `latest_event_time` DateTime64(3, 'UTC') COMMENT 'Greatest event time of an accepted inference',
    `last_inferences` UInt64 COMMENT 'Accepted inferences in the last window',
    `inferences` UInt64 COMMENT 'Accepted inferences in all windows',
    `errors` UInt64 COMMENT 'Failed inferences among them',
    `error_rate` Nullable(Float64) COMMENT 'errors / inferences',
    `labelled` UInt64 COMMENT 'Inferences with a label',
    `coverage` Nullable(Float64) COMMENT 'labelled / inferences'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT
    s.job AS job, s.model AS model, s.version AS version, s.grain AS grain, s.windows AS windows,
    s.first_window_start AS first_window_start, s.last_window_start AS last_window_start,
    s.last_window_end AS last_window_end, s.latest AS latest_event_time,
    s.last_inferences AS last_inferences, s.total AS inferences, s.failed AS errors,
    s.failed / nullIf(s.total, 0) AS error_rate, ifNull(l.joined, 0) AS labelled,
    l.joined / nullIf(s.total, 0) AS coverage
FROM
(
    SELECT
        job, model, version, grain, count() AS windows,
        min(window_start) AS first_window_start, max(window_start) AS last_window_start,
        max(window_end) AS last_window_end, max(latest_event_time) AS latest,
        argMax(inferences, window_start) AS last_inferences, sum(inferences) AS total, sum(errors) AS failed,
        min(window_end - window_start) AS span
    FROM `tidegauge`.serving FINAL
    WHERE segment = 'all'
    GROUP BY job, model, version, grain
    ORDER BY span
    LIMIT 1 BY job, model, version
) AS s
LEFT JOIN
(
    SELECT job, model, version, grain, sum(labelled) AS joined
    FROM `tidegauge`.labels FINAL
    WHERE segment = 'all'
    GROUP BY job, model, version, grain
) AS l
    ON s.job = l.job AND s.model = l.model AND s.version = l.version AND s.grain = l.grain
COMMENT 'One row for each model and version: since when, how much, how many errors and labels';

CREATE OR REPLACE VIEW `tidegauge_bi`.`last_sealed`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `inferences` UInt64 COMMENT 'Accepted inferences',
    `error_rate` Nullable(Float64) COMMENT 'errors / inferences',
    `latency_p99_ms` Nullable(Float64) COMMENT '99 % quantile of latency, at most 1/128 above the exact one',
    `labelled` UInt64 COMMENT 'Inferences with a label; 0 where the job reads no labels',
    `coverage` Nullable(Float64) COMMENT 'labelled / inferences; 0 where the job reads no labels',
    `accuracy` Nullable(Float64) COMMENT 'Right decisions / decisions, of models that decide',
    `accuracy_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of accuracy',
    `accuracy_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of accuracy',
    `auroc` Nullable(Float64) COMMENT 'Area under the ROC curve, of binary models',
    `auroc_lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval of auroc',
    `auroc_upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval of auroc',
    `mae` Nullable(Float64) COMMENT 'Mean absolute error, of models that predict numbers',
    `rmse` Nullable(Float64) COMMENT 'Root of the mean squared error, of models that predict numbers'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, s.inferences AS inferences, s.error_rate AS error_rate, s.latency_p99_ms AS latency_p99_ms,
    ifNull(l.labelled, 0) AS labelled, l.coverage AS coverage,
    ifNull(b.accuracy, c.accuracy) AS accuracy, ifNull(b.accuracy_lower, c.accuracy_lower) AS accuracy_lower,
    ifNull(b.accuracy_upper, c.accuracy_upper) AS accuracy_upper,
    b.auroc AS auroc, b.auroc_lower AS auroc_lower, b.auroc_upper AS auroc_upper, r.mae AS mae, r.rmse AS rmse
FROM
(
    SELECT window_start, window_end, grain, job, model, version, segment, inferences, error_rate, latency_p99_ms
    FROM `tidegauge`.`serving` FINAL
    WHERE sealed
    ORDER BY window_start DESC
    LIMIT 1 BY job, model, version, segment, grain
) AS s
LEFT JOIN
(
    SELECT window_start, window_end, grain, job, model, version, segment, labelled, coverage
    FROM `tidegauge`.`labels` FINAL
    WHERE sealed
    ORDER BY window_start DESC
    LIMIT 1 BY job, model, version, segment, grain
) AS l USING (window_start, window_end, grain, job, model, version, segment)
LEFT JOIN
(
    SELECT window_start, window_end, grain, job, model, version, segment, accuracy, accuracy_lower, accuracy_upper, auroc, auroc_lower, auroc_upper
    FROM `tidegauge`.`quality_binary` FINAL
    WHERE sealed
    ORDER BY window_start DESC
    LIMIT 1 BY job, model, version, segment, grain
) AS b USING (window_start, window_end, grain, job, model, version, segment)
LEFT JOIN
(
    SELECT window_start, window_end, grain, job, model, version, segment, accuracy, accuracy_lower, accuracy_upper
    FROM `tidegauge`.`quality_multiclass` FINAL
    WHERE sealed
    ORDER BY window_start DESC
    LIMIT 1 BY job, model, version, segment, grain
) AS c USING (window_start, window_end, grain, job, model, version, segment)
LEFT JOIN
(
    SELECT window_start, window_end, grain, job, model, version, segment, mae, rmse
    FROM `tidegauge`.`quality_regression` FINAL
    WHERE sealed
    ORDER BY window_start DESC
    LIMIT 1 BY job, model, version, segment, grain
) AS r USING (window_start, window_end, grain, job, model, version, segment)
COMMENT 'The last complete window of each model, version, segment and grain: nothing can change its figures';

CREATE OR REPLACE VIEW `tidegauge_bi`.`metric_catalogue`
(
    `family` LowCardinality(String) COMMENT 'The view that has the metric as a column; custom has it in its column metric',
    `metric` String COMMENT 'The name of that column, and in the view metrics',
    `unit` LowCardinality(String) COMMENT 'count, ratio (0 to 1), 1 (none), ms, 1/s, label (that of the label), label^2, value (that of the configuration) or feature (that of the feature); of custom metrics as their configuration says',
    `better` LowCardinality(String) COMMENT 'higher, lower, zero (the nearer to 0 the better) or none',
    `has_interval` Bool COMMENT 'Whether the limits of its 95 % interval stand beside it',
    `description` String COMMENT 'What it is',
    `job` LowCardinality(String) COMMENT 'The job whose configuration defines it; empty where every job has it',
    `expression` String COMMENT 'How the configuration defines it; empty where every job has it'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT family, metric, unit, better, has_interval, description, job, expression
FROM
(
    SELECT m.family AS family, m.metric AS metric, m.unit AS unit, m.better AS better,
        m.has_interval AS has_interval, m.description AS description, '' AS job, '' AS expression
    FROM
    (
        SELECT arrayJoin(CAST(
            [
            ('serving', 'inferences', 'count', 'none', false, 'Accepted inferences'),
            ('serving', 'inferences_per_s', '1/s', 'none', false, 'Inferences for each second of the whole window, also while it is open'),
            ('serving', 'errors', 'count', 'lower', false, 'Inferences with a non-empty error'),
            ('serving', 'error_rate', 'ratio', 'lower', true, 'errors / inferences'),
            ('serving', 'latency_n', 'count', 'none', false, 'Inferences that carry a latency, failed ones included'),
            ('serving', 'latency_p50_ms', 'ms', 'lower', false, 'Median latency, at most 1/128 above the exact one'),
            ('serving', 'latency_p90_ms', 'ms', 'lower', false, '90 % quantile of latency, at most 1/128 above the exact one'),
            ('serving', 'latency_p99_ms', 'ms', 'lower', false, '99 % quantile of latency, at most 1/128 above the exact one'),
            ('serving', 'latency_max_ms', 'ms', 'lower', false, 'Greatest latency, exact'),
            ('serving', 'latency_sum_ms', 'ms', 'none', false, 'Sum of latencies, exact'),
            ('serving', 'latency_mean_ms', 'ms', 'lower', false, 'latency_sum_ms / latency_n'),
            ('serving', 'freshness_p50_ms', 'ms', 'lower', false, 'Median of arrival less event time, at most 1/128 above the exact one'),
            ('serving', 'freshness_p90_ms', 'ms', 'lower', false, '90 % quantile of arrival less event time, at most 1/128 above the exact one'),
            ('serving', 'freshness_p99_ms', 'ms', 'lower', false, '99 % quantile of arrival less event time, at most 1/128 above the exact one'),
            ('serving', 'freshness_max_ms', 'ms', 'lower', false, 'Greatest arrival less event time, exact'),
            ('labels', 'inferences', 'count', 'none', false, 'Accepted inferences: labelled + pending + expired'),
            ('labels', 'labelled', 'count', 'none', false, 'Inferences with a label'),
            ('labels', 'pending', 'count', 'none', false, 'Inferences of open windows without a label yet'),
            ('labels', 'expired', 'count', 'lower', false, 'Inferences of sealed windows without a label'),
            ('labels', 'coverage', 'ratio', 'higher', false, 'labelled / inferences'),
            ('labels', 'settled_ratio', 'ratio', 'higher', false, '(labelled + expired) / inferences'),
            ('labels', 'labels_matched', 'count', 'none', false, 'labelled + label_corrections + label_duplicates'),
            ('labels', 'label_corrections', 'count', 'none', false, 'Later labels that won with another value or weight'),
            ('labels', 'label_duplicates', 'count', 'none', false, 'Labels that joined nothing and changed nothing'),
            ('labels', 'label_conflicts', 'count', 'lower', false, 'Duplicates with another value or weight than the winner'),
            ('labels', 'label_delay_p50_ms', 'ms', 'lower', false, 'Median label delay, at most 1/128 above the exact one'),
            ('labels', 'label_delay_p90_ms', 'ms', 'lower', false, '90 % quantile of label delay, at most 1/128 above'),
            ('labels', 'label_delay_p99_ms', 'ms', 'lower', false, '99 % quantile of label delay, at most 1/128 above'),
            ('labels', 'label_delay_max_ms', 'ms', 'lower', false, 'Greatest label delay, exact'),
            ('labels', 'label_delay_mean_ms', 'ms', 'lower', false, 'Mean label delay'),
            ('labels', 'labelled_within_1m', 'count', 'none', false, 'Inferences with a label delay of at most one minute'),
            ('labels', 'labelled_within_10m', 'count', 'none', false, 'Inferences with a label delay of at most ten minutes'),
            ('labels', 'labelled_within_1h', 'count', 'none', false, 'Inferences with a label delay of at most one hour'),
            ('labels', 'labelled_within_1d', 'count', 'none', false, 'Inferences with a label delay of at most one day'),
            ('labels', 'coverage_positive', 'ratio', 'higher', false, 'labelled_positive / inferences_positive'),
            ('labels', 'coverage_negative', 'ratio', 'higher', false, 'labelled_negative / inferences_negative'),
            ('labels', 'inferences_positive', 'count', 'none', false, 'Inferences decided positive (binary)'),
            ('labels', 'labelled_positive', 'count', 'none', false, 'Inferences decided positive, with a label'),
            ('labels', 'inferences_negative', 'count', 'none', false, 'Inferences decided negative (binary)'),
            ('labels', 'labelled_negative', 'count', 'none', false, 'Inferences decided negative, with a label'),
            ('quality_binary', 'n', 'count', 'none', false, 'Labelled inferences with a decision'),
            ('quality_binary', 'tp', 'count', 'none', false, 'True positives: decided and labelled positive'),
            ('quality_binary', 'fp', 'count', 'none', false, 'False positives: decided positive, labelled negative'),
            ('quality_binary', 'fn', 'count', 'none', false, 'False negatives: decided negative, labelled positive'),
            ('quality_binary', 'tn', 'count', 'none', false, 'True negatives: decided and labelled negative'),
            ('quality_binary', 'positives', 'count', 'none', false, 'tp + fn'),
            ('quality_binary', 'negatives', 'count', 'none', false, 'fp + tn'),
            ('quality_binary', 'predicted_positive', 'count', 'none', false, 'tp + fp'),
            ('quality_binary', 'accuracy', 'ratio', 'higher', true, '(tp + tn) / n'),
            ('quality_binary', 'precision', 'ratio', 'higher', true, 'tp / (tp + fp)'),
            ('quality_binary', 'npv', 'ratio', 'higher', true, 'Negative predictive value: tn / (tn + fn)'),
            ('quality_binary', 'recall', 'ratio', 'higher', true, 'tp / (tp + fn)'),
            ('quality_binary', 'specificity', 'ratio', 'higher', true, 'tn / (tn + fp)'),
            ('quality_binary', 'prevalence', 'ratio', 'none', true, 'positives / n'),
            ('quality_binary', 'predicted_positive_rate', 'ratio', 'none', true, 'predicted_positive / n'),
            ('quality_binary', 'f1', 'ratio', 'higher', true, '2 tp / (2 tp + fp + fn)'),
            ('quality_binary', 'balanced_accuracy', 'ratio', 'higher', true, '(recall + specificity) / 2'),
            ('quality_binary', 'mcc', '1', 'higher', false, 'Matthews correlation coefficient'),
            ('quality_binary', 'n_scored', 'count', 'none', false, 'Labelled inferences with a score'),
            ('quality_binary', 'scored_positives', 'count', 'none', false, 'Positive ones among n_scored'),
            ('quality_binary', 'scored_negatives', 'count', 'none', false, 'Negative ones among n_scored'),
            ('quality_binary', 'auroc', '1', 'higher', true, 'Area under the ROC curve, from score cells'),
            ('quality_binary', 'auroc_error_bound', '1', 'lower', false, 'Greatest difference of auroc to that of the raw scores'),
            ('quality_binary', 'auroc_se', '1', 'lower', false, 'Standard error of auroc (DeLong)'),
            ('quality_binary', 'average_precision', '1', 'higher', true, 'Average precision, from score cells'),
            ('quality_binary', 'average_precision_min', '1', 'higher', false, 'Least average precision that the raw scores can have'),
            ('quality_binary', 'average_precision_max', '1', 'higher', false, 'Greatest average precision that the raw scores can have'),
            ('quality_binary', 'log_loss', '1', 'lower', true, 'Mean of -ln of the probability given to the label'),
            ('quality_binary', 'log_loss_clipped', 'count', 'lower', false, 'Labelled scores whose log loss was held to 2^-52'),
            ('quality_binary', 'brier', '1', 'lower', true, 'Mean of (score - label)^2'),
            ('quality_binary', 'decisions_off_threshold', 'count', 'none', false, 'Labelled inferences whose own prediction differs from score >= threshold'),
            ('quality_binary', 'value_sum', 'value', 'higher', false, 'What the decisions are worth together, by the model\'s value matrix'),
            ('quality_binary', 'value_per_label', 'value', 'higher', false, 'value_sum / n_weight'),
            ('quality_binary', 'n_weight', 'count', 'none', false, 'Sum of the label weights over n; n itself where weights are ignored'),
            ('quality_binary', 'tp_weight', 'count', 'none', false, 'Sum of the label weights over tp'),
            ('quality_binary', 'fp_weight', 'count', 'none', false, 'Sum of the label weights over fp'),
            ('quality_binary', 'fn_weight', 'count', 'none', false, 'Sum of the label weights over fn'),
            ('quality_binary', 'tn_weight', 'count', 'none', false, 'Sum of the label weights over tn'),
            ('quality_binary', 'n_eff', 'count', 'none', false, 'Effective sample size (Kish): n_weight^2 / sum of the squared weights'),
            ('quality_binary', 'scored_positives_weight', 'count', 'none', false, 'Sum of the label weights over scored_positives'),
            ('quality_binary', 'scored_negatives_weight', 'count', 'none', false, 'Sum of the label weights over scored_negatives'),
            ('quality_threshold', 'n', 'count', 'none', false, 'Labelled inferences with a decision'),
            ('quality_threshold', 'tp', 'count', 'none', false, 'True positives: decided and labelled positive'),
            ('quality_threshold', 'fp', 'count', 'none', false, 'False positives: decided positive, labelled negative'),
            ('quality_threshold', 'fn', 'count', 'none', false, 'False negatives: decided negative, labelled positive'),
            ('quality_threshold', 'tn', 'count', 'none', false, 'True negatives: decided and labelled negative'),
            ('quality_threshold', 'positives', 'count', 'none', false, 'tp + fn'),
            ('quality_threshold', 'negatives', 'count', 'none', false, 'fp + tn'),
            ('quality_threshold', 'predicted_positive', 'count', 'none', false, 'tp + fp'),
            ('quality_threshold', 'accuracy', 'ratio', 'higher', true, '(tp + tn) / n'),
            ('quality_threshold', 'precision', 'ratio', 'higher', true, 'tp / (tp + fp)'),
            ('quality_threshold', 'npv', 'ratio', 'higher', true, 'Negative predictive value: tn / (tn + fn)'),
            ('quality_threshold', 'recall', 'ratio', 'higher', true, 'tp / (tp + fn)'),
            ('quality_threshold', 'specificity', 'ratio', 'higher', true, 'tn / (tn + fp)'),
            ('quality_threshold', 'prevalence', 'ratio', 'none', true, 'positives / n'),
            ('quality_threshold', 'predicted_positive_rate', 'ratio', 'none', true, 'predicted_positive / n'),
            ('quality_threshold', 'f1', 'ratio', 'higher', true, '2 tp / (2 tp + fp + fn)'),
            ('quality_threshold', 'balanced_accuracy', 'ratio', 'higher', true, '(recall + specificity) / 2'),
            ('quality_threshold', 'mcc', '1', 'higher', false, 'Matthews correlation coefficient'),
            ('quality_threshold', 'value_sum', 'value', 'higher', false, 'What the decisions are worth together, by the model\'s value matrix'),
            ('quality_threshold', 'value_per_label', 'value', 'higher', false, 'value_sum / n_weight'),
            ('quality_threshold', 'n_weight', 'count', 'none', false, 'Sum of the label weights over n; n itself where weights are ignored'),
            ('quality_threshold', 'tp_weight', 'count', 'none', false, 'Sum of the label weights over tp'),
            ('quality_threshold', 'fp_weight', 'count', 'none', false, 'Sum of the label weights over fp'),
            ('quality_threshold', 'fn_weight', 'count', 'none', false, 'Sum of the label weights over fn'),
            ('quality_threshold', 'tn_weight', 'count', 'none', false, 'Sum of the label weights over tn'),
            ('quality_threshold', 'n_eff', 'count', 'none', false, 'Effective sample size (Kish): n_weight^2 / sum of the squared weights'),
            ('calibration', 'n_scored', 'count', 'none', false, 'Labelled inferences with a score'),
            ('calibration', 'ece', '1', 'lower', false, 'Expected calibration error: mean distance of the bins\' rates and scores, biased upward for few records'),
            ('calibration', 'mce', '1', 'lower', false, 'Greatest distance of a bin\'s rate and mean score'),
            ('calibration', 'score_sum', '1', 'none', false, 'Sum of the scores, each as often as it weighs: the positives they promise'),
            ('calibration', 'positives', 'count', 'none', false, 'Positive labels'),
            ('calibration', 'calibration_bias', '1', 'zero', false, '(score_sum - positives_weight) / n_scored_weight: positive is too high'),
            ('calibration', 'calibration_z', '1', 'zero', false, 'Standardised bias: beyond 2 in size it is hardly chance'),
            ('calibration', 'brier_reliability', '1', 'lower', false, 'Part of the Brier score that miscalibration makes (Murphy)'),
            ('calibration', 'brier_resolution', '1', 'higher', false, 'Part of the Brier score that telling cases apart takes away'),
            ('calibration', 'brier_uncertainty', '1', 'none', false, 'Part of the Brier score that the base rate makes'),
            ('calibration', 'brier_residual', '1', 'zero', false, 'The rest of the Brier score: spread inside the bins'),
            ('calibration', 'n_scored_weight', 'count', 'none', false, 'Sum of the label weights over n_scored; n_scored where ignored'),
            ('calibration', 'positives_weight', 'count', 'none', false, 'Sum of the label weights over positives'),
            ('calibration_bins', 'bin_lower', 'ratio', 'none', false, 'Scores of the bin are greater (the first bin holds 0 too)'),
            ('calibration_bins', 'bin_upper', 'ratio', 'none', false, 'Scores of the bin are at most this'),
            ('calibration_bins', 'n', 'count', 'none', false, 'Labelled scores in the bin'),
            ('calibration_bins', 'positives', 'count', 'none', false, 'Positive labels among them'),
            ('calibration_bins', 'score_sum', '1', 'none', false, 'Sum of the scores, each as often as it weighs'),
            ('calibration_bins', 'mean_score', 'ratio', 'none', false, 'score_sum / n_weight: what the scores promise'),
            ('calibration_bins', 'positive_rate', 'ratio', 'none', true, 'positives_weight / n_weight: what the labels say'),
            ('calibration_bins', 'n_weight', 'count', 'none', false, 'Sum of the label weights over n; n itself where weights are ignored'),
            ('calibration_bins', 'positives_weight', 'count', 'none', false, 'Sum of the label weights over positives'),
            ('quality_regression', 'n', 'count', 'none', false, 'Labelled inferences whose prediction and label are numbers'),
            ('quality_regression', 'mean_error', 'label', 'zero', true, 'Mean of prediction - label: positive is too high'),
            ('quality_regression', 'mae', 'label', 'lower', true, 'Mean absolute error'),
            ('quality_regression', 'mse', 'label^2', 'lower', false, 'Mean squared error'),
            ('quality_regression', 'rmse', 'label', 'lower', false, 'Square root of mse'),
            ('quality_regression', 'r2', '1', 'higher', false, 'Share of the labels\' variance that the predictions explain; below 0 they are worse than the mean label'),
            ('quality_regression', 'mape', '1', 'lower', false, 'Mean of |error| / |label| over mape_n, a fraction'),
            ('quality_regression', 'mape_n', 'count', 'none', false, 'Pairs whose label is not 0 (and whose relative error is at most 1e150)'),
            ('quality_regression', 'rmsle', '1', 'lower', false, 'Root of the mean squared difference of log(1 + x) over rmsle_n'),
            ('quality_regression', 'rmsle_n', 'count', 'none', false, 'Pairs whose prediction and label are above -1'),
            ('quality_regression', 'pearson', '1', 'higher', false, 'Correlation of predictions and labels'),
            ('quality_regression', 'abs_error_p50', 'label', 'lower', false, 'Median absolute error, within 1/256 of the exact one'),
            ('quality_regression', 'abs_error_p90', 'label', 'lower', false, '90 % quantile of the absolute error, within 1/256'),
            ('quality_regression', 'abs_error_p99', 'label', 'lower', false, '99 % quantile of the absolute error, within 1/256'),
            ('quality_regression', 'abs_error_max', 'label', 'lower', false, 'Greatest absolute error, at most 1/128 too high'),
            ('quality_regression', 'label_mean', 'label', 'none', false, 'Mean label'),
            ('quality_regression', 'prediction_mean', 'label', 'none', false, 'Mean prediction'),
            ('quality_regression', 'label_sum', 'label', 'none', false, 'Sum of the labels, each as often as it weighs'),
            ('quality_regression', 'prediction_sum', 'label', 'none', false, 'Sum of the predictions, each as often as its label weighs'),
            ('quality_regression', 'abs_error_sum', 'label', 'lower', false, 'Sum of absolute errors: n_weight times mae'),
            ('quality_regression', 'error_square_sum', 'label^2', 'lower', false, 'Sum of squared errors: n_weight times mse'),
            ('quality_regression', 'n_weight', 'count', 'none', false, 'Sum of the label weights over n; n itself where weights are ignored'),
            ('quality_regression', 'mape_n_weight', 'count', 'none', false, 'Sum of the label weights over mape_n'),
            ('quality_regression', 'rmsle_n_weight', 'count', 'none', false, 'Sum of the label weights over rmsle_n'),
            ('quality_regression', 'n_eff', 'count', 'none', false, 'Effective sample size (Kish): n_weight^2 / sum of the squared weights'),
            ('quality_multiclass', 'n', 'count', 'none', false, 'Labelled inferences with a predicted class'),
            ('quality_multiclass', 'correct', 'count', 'none', false, 'Those whose predicted class is the true one'),
            ('quality_multiclass', 'accuracy', 'ratio', 'higher', true, 'correct / n; micro precision, recall and F1 are equal to it'),
            ('quality_multiclass', 'macro_precision', 'ratio', 'higher', false, 'Mean of the precision of all classes that have one'),
            ('quality_multiclass', 'macro_precision_classes', 'count', 'none', false, 'Classes with a precision'),
            ('quality_multiclass', 'macro_recall', 'ratio', 'higher', false, 'Mean of the recall of all classes that have one'),
            ('quality_multiclass', 'macro_recall_classes', 'count', 'none', false, 'Classes with a recall'),
            ('quality_multiclass', 'macro_f1', 'ratio', 'higher', false, 'Mean of the F1 of all classes that have one'),
            ('quality_multiclass', 'macro_f1_classes', 'count', 'none', false, 'Classes with an F1'),
            ('quality_multiclass', 'weighted_precision', 'ratio', 'higher', false, 'Mean precision, weighted by support'),
            ('quality_multiclass', 'weighted_recall', 'ratio', 'higher', false, 'Mean recall, weighted by support'),
            ('quality_multiclass', 'weighted_f1', 'ratio', 'higher', false, 'Mean F1, weighted by support'),
            ('quality_multiclass', 'mcc', '1', 'higher', false, 'Matthews correlation coefficient of several classes'),
            ('quality_multiclass', 'n_scored', 'count', 'none', false, 'Labelled inferences with scores by class'),
            ('quality_multiclass', 'log_loss', '1', 'lower', true, 'Mean of -ln of the score of the true class'),
            ('quality_multiclass', 'log_loss_clipped', 'count', 'lower', false, 'Labelled inferences whose log loss was held to 2^-52'),
            ('quality_multiclass', 'brier', '1', 'lower', false, 'Mean of the sum of (score - truth)^2 over classes'),
            ('quality_multiclass', 'top_2_hits', 'count', 'none', false, 'Inferences whose true class is among the 2 of greatest score'),
            ('quality_multiclass', 'top_2_accuracy', 'ratio', 'higher', true, 'top_2_hits / n_scored'),
            ('quality_multiclass', 'top_3_hits', 'count', 'none', false, 'Inferences whose true class is among the 3 of greatest score'),
            ('quality_multiclass', 'top_3_accuracy', 'ratio', 'higher', true, 'top_3_hits / n_scored'),
            ('quality_multiclass', 'top_5_hits', 'count', 'none', false, 'Inferences whose true class is among the 5 of greatest score'),
            ('quality_multiclass', 'top_5_accuracy', 'ratio', 'higher', true, 'top_5_hits / n_scored'),
            ('quality_multiclass', 'auroc_ovr_macro', '1', 'higher', false, 'Mean of the AUROC of each class against the rest'),
            ('quality_multiclass', 'auroc_ovr_classes', 'count', 'none', false, 'Classes with an AUROC'),
            ('quality_multiclass', 'n_weight', 'count', 'none', false, 'Sum of the label weights over n; n itself where weights are ignored'),
            ('quality_multiclass', 'correct_weight', 'count', 'none', false, 'Sum of the label weights over correct'),
            ('quality_multiclass', 'n_scored_weight', 'count', 'none', false, 'Sum of the label weights over n_scored'),
            ('quality_multiclass', 'top_2_hits_weight', 'count', 'none', false, 'Sum of the label weights over top_2_hits'),
            ('quality_multiclass', 'top_3_hits_weight', 'count', 'none', false, 'Sum of the label weights over top_3_hits'),
            ('quality_multiclass', 'top_5_hits_weight', 'count', 'none', false, 'Sum of the label weights over top_5_hits'),
            ('quality_multiclass', 'n_eff', 'count', 'none', false, 'Effective sample size (Kish): n_weight^2 / sum of the squared weights'),
            ('quality_classes', 'support', 'count', 'none', false, 'Labelled inferences whose true class it is'),
            ('quality_classes', 'predicted', 'count', 'none', false, 'Labelled inferences whose predicted class it is'),
            ('quality_classes', 'tp', 'count', 'none', false, 'True positives: it is both'),
            ('quality_classes', 'precision', 'ratio', 'higher', true, 'tp / predicted'),
            ('quality_classes', 'recall', 'ratio', 'higher', true, 'tp / support'),
            ('quality_classes', 'f1', 'ratio', 'higher', true, '2 tp / (predicted + support)'),
            ('quality_classes', 'auroc', '1', 'higher', true, 'Area under the ROC curve of the class against the rest, from score cells'),
            ('quality_classes', 'auroc_error_bound', '1', 'lower', false, 'Greatest difference of auroc to that of the raw scores'),
            ('quality_classes', 'support_weight', 'count', 'none', false, 'Sum of the label weights over support; support where ignored'),
            ('quality_classes', 'predicted_weight', 'count', 'none', false, 'Sum of the label weights over predicted'),
            ('quality_classes', 'tp_weight', 'count', 'none', false, 'Sum of the label weights over tp'),
            ('confusion', 'n', 'count', 'none', false, 'Labelled inferences of this true and predicted class'),
            ('confusion', 'n_weight', 'count', 'none', false, 'Sum of the label weights over n; n itself where weights are ignored'),
            ('quality_estimated', 'n', 'count', 'none', false, 'Inferences with a score'),
            ('quality_estimated', 'est_tp', 'count', 'none', false, 'Expected true positives, of a binary model'),
            ('quality_estimated', 'est_fp', 'count', 'none', false, 'Expected false positives, of a binary model'),
            ('quality_estimated', 'est_fn', 'count', 'none', false, 'Expected false negatives, of a binary model'),
            ('quality_estimated', 'est_tn', 'count', 'none', false, 'Expected true negatives, of a binary model'),
            ('quality_estimated', 'est_accuracy', 'ratio', 'higher', true, 'Estimated share of right decisions'),
            ('quality_estimated', 'est_precision', 'ratio', 'higher', true, 'Estimated precision'),
            ('quality_estimated', 'est_recall', 'ratio', 'higher', true, 'Estimated recall'),
            ('quality_estimated', 'est_f1', 'ratio', 'higher', true, 'Estimated F1'),
            ('quality_estimated', 'est_auroc', '1', 'higher', true, 'Estimated area under the ROC curve, from score cells; of several classes the mean, each against the rest'),
            ('quality_estimated', 'est_auroc_error_bound', '1', 'lower', false, 'What binning may change of est_auroc at most'),
            ('quality_estimated', 'n_labelled', 'count', 'none', false, 'Labelled inferences with a score'),
            ('quality_estimated', 'realized_accuracy', 'ratio', 'higher', false, 'Share of right decisions of the labelled'),
            ('quality_estimated', 'realized_f1', 'ratio', 'higher', false, 'F1 of the labelled'),
            ('quality_estimated', 'realized_auroc', '1', 'higher', false, 'Area under the ROC curve of the labelled, likewise'),
            ('quality_estimated', 'est_labelled_accuracy', 'ratio', 'higher', false, 'Estimated accuracy of exactly the labelled'),
            ('quality_estimated', 'est_labelled_f1', 'ratio', 'higher', false, 'Estimated F1 of exactly the labelled'),
            ('quality_estimated', 'est_labelled_auroc', '1', 'higher', false, 'Estimated area under the ROC curve of exactly the labelled'),
            ('quality_estimated', 'accuracy_gap', 'ratio', 'zero', false, 'realized_accuracy - est_labelled_accuracy'),
            ('quality_estimated', 'f1_gap', 'ratio', 'zero', false, 'realized_f1 - est_labelled_f1'),
            ('quality_estimated', 'auroc_gap', '1', 'zero', false, 'realized_auroc - est_labelled_auroc'),
            ('quality_estimated', 'accuracy_gap_z', '1', 'zero', false, 'accuracy_gap over its standard deviation: beyond 2 in size the calibration no longer holds'),
            ('quality_estimated', 'blended_accuracy', 'ratio', 'higher', false, 'Realised where labels are in, estimated for the rest'),
            ('data_quality', 'inferences', 'count', 'none', false, 'Accepted inferences'),
            ('data_quality', 'values', 'count', 'none', false, 'Values of its kind'),
            ('data_quality', 'missing', 'count', 'lower', false, 'Inferences without a value: absent, null, NaN or infinite'),
            ('data_quality', 'missing_rate', 'ratio', 'lower', true, 'missing / inferences'),
            ('data_quality', 'non_finite', 'count', 'lower', false, 'NaN, infinite, or beyond 1e150, among the missing'),
            ('data_quality', 'type_errors', 'count', 'lower', false, 'Values of another kind; they enter no other figure'),
            ('data_quality', 'type_error_rate', 'ratio', 'lower', false, 'type_errors / inferences'),
            ('data_quality', 'out_of_range', 'count', 'lower', false, 'Numbers outside the declared range, or else that of the reference'),
            ('data_quality', 'out_of_range_rate', 'ratio', 'lower', false, 'out_of_range / values'),
            ('data_quality', 'new_categories', 'count', 'lower', false, 'Distinct texts that the reference does not have'),
            ('data_quality', 'new_category_values', 'count', 'lower', false, 'Values with such a text'),
            ('data_quality', 'distinct', 'count', 'none', false, 'Distinct values: exact up to 100 beside those of the reference, else estimated. Numbers only where configured'),
            ('data_quality', 'is_constant', 'ratio', 'none', false, '1 if there are at least two values and all are equal, else 0'),
            ('data_quality', 'min', 'feature', 'none', false, 'Least number'),
            ('data_quality', 'max', 'feature', 'none', false, 'Greatest number'),
            ('data_quality', 'mean', 'feature', 'none', false, 'Mean of the numbers'),
            ('data_quality', 'sd', 'feature', 'none', false, 'Standard deviation of the numbers (n - 1)'),
            ('data_quality', 'p01', 'feature', 'none', false, '1 % quantile of the numbers, within 1/64 of the exact one; with a reference inside its cells of 1 %'),
            ('data_quality', 'p25', 'feature', 'none', false, '25 % quantile of the numbers, alike'),
            ('data_quality', 'p50', 'feature', 'none', false, 'Median of the numbers, alike'),
            ('data_quality', 'p75', 'feature', 'none', false, '75 % quantile of the numbers, alike'),
            ('data_quality', 'p99', 'feature', 'none', false, '99 % quantile of the numbers, alike'),
            ('data_quality', 'top_category_n', 'count', 'none', false, 'How often it came; 0 where there is none, or it is not known'),
            ('categories', 'n', 'count', 'none', false, 'Values that are it'),
            ('categories', 'values', 'count', 'none', false, 'Values of the feature\'s kind'),
            ('categories', 'share', 'ratio', 'none', true, 'n / values'),
            ('categories', 'reference_n', 'count', 'none', false, 'Values of the reference that are it'),
            ('categories', 'reference_share', 'ratio', 'none', false, 'reference_n / values of the reference'),
            ('drift', 'value', '1', 'lower', false, 'Distance, statistic or rate, by method'),
            ('drift', 'effect', '1', 'lower', false, 'What thresholds are held against'),
            ('drift', 'p_value', '1', 'none', false, 'How likely chance alone makes as much'),
            ('drift', 'p_adjusted', '1', 'none', false, 'p_value (with rare bins or names not below that of chi2), adjusted for all comparisons of the window by the same method, labels by themselves (Benjamini-Hochberg)'),
            ('drift', 'warn_at', '1', 'none', false, 'The least effect that is worth a warning'),
            ('drift', 'drift_at', '1', 'none', false, 'The least effect that is drift'),
            ('drift', 'alpha', '1', 'none', false, 'Adjusted p-values above it are chance; rates do not use it'),
            ('drift', 'is_primary', 'count', 'none', false, '1 for the one method of each feature that alerts and overviews read'),
            ('drift', 'bins', 'count', 'none', false, 'Bins or categories that hold any value; 0 for rates'),
            ('drift', 'n', 'count', 'none', false, 'Values of the window; of the missing rate its inferences'),
            ('drift', 'reference_n', 'count', 'none', false, 'Those of the reference')
            ],
            'Array(Tuple(family String, metric String, unit String, better String, has_interval Bool, description String))'
        )) AS m
    )
    UNION ALL
    SELECT 'custom', toString(metric), toString(unit), toString(better), false, description, toString(job), expression
    FROM `tidegauge`.custom_metrics FINAL
)
COMMENT 'Every metric of the views: its unit, which way is better, and what it is';

CREATE OR REPLACE VIEW `tidegauge_bi`.`metrics`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `grain` LowCardinality(String) COMMENT 'Length of the window: 5m, 1h, 1d',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `family` LowCardinality(String) COMMENT 'The table that has the figure as a column; custom has it as a row',
    `metric` LowCardinality(String) COMMENT 'The name of that column or row',
    `value` Nullable(Float64) COMMENT 'The count or figure; NULL where it is undefined',
    `lower` Nullable(Float64) COMMENT 'Lower limit of the 95 % interval, where it has one',
    `upper` Nullable(Float64) COMMENT 'Upper limit of the 95 % interval, where it has one',
    `n` UInt64 COMMENT 'How many records it was computed over',
    `reason` LowCardinality(String) COMMENT 'Why the value is NULL; empty where it is not',
    `sealed` Bool COMMENT 'Whether nothing can reach the window any more in any partition'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT window_start, window_end, grain, job, model, version, segment, family, metric, value, lower, upper, n, reason, sealed
FROM
(
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'serving' AS family,
        m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,
        if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', undefined)))[2], '') AS reason,
        sealed
    FROM `tidegauge`.`serving` FINAL
    ARRAY JOIN CAST(
        [
            ('inferences', inferences, NULL, NULL, inferences),
            ('inferences_per_s', inferences_per_s, NULL, NULL, inferences),
            ('errors', errors, NULL, NULL, inferences),
            ('error_rate', error_rate, error_rate_lower, error_rate_upper, inferences),
            ('latency_n', latency_n, NULL, NULL, latency_n),
            ('latency_p50_ms', latency_p50_ms, NULL, NULL, latency_n),
            ('latency_p90_ms', latency_p90_ms, NULL, NULL, latency_n),
            ('latency_p99_ms', latency_p99_ms, NULL, NULL, latency_n),
            ('latency_max_ms', latency_max_ms, NULL, NULL, latency_n),
            ('latency_sum_ms', latency_sum_ms, NULL, NULL, latency_n),
            ('latency_mean_ms', latency_mean_ms, NULL, NULL, latency_n),
            ('freshness_p50_ms', freshness_p50_ms, NULL, NULL, inferences),
            ('freshness_p90_ms', freshness_p90_ms, NULL, NULL, inferences),
            ('freshness_p99_ms', freshness_p99_ms, NULL, NULL, inferences),
            ('freshness_max_ms', freshness_max_ms, NULL, NULL, inferences)
        ],
        'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'
    ) AS m
    UNION ALL
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'labels' AS family,
        m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,
        if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', undefined)))[2], '') AS reason,
        sealed
    FROM `tidegauge`.`labels` FINAL
    ARRAY JOIN CAST(
        [
            ('inferences', inferences, NULL, NULL, inferences),
            ('labelled', labelled, NULL, NULL, inferences),
            ('pending', pending, NULL, NULL, inferences),
            ('expired', expired, NULL, NULL, inferences),
            ('coverage', coverage, NULL, NULL, inferences),
            ('settled_ratio', settled_ratio, NULL, NULL, inferences),
            ('labels_matched', labels_matched, NULL, NULL, labels_matched),
            ('label_corrections', label_corrections, NULL, NULL, labels_matched),
            ('label_duplicates', label_duplicates, NULL, NULL, labels_matched),
            ('label_conflicts', label_conflicts, NULL, NULL, labels_matched),
            ('label_delay_p50_ms', label_delay_p50_ms, NULL, NULL, labelled),
            ('label_delay_p90_ms', label_delay_p90_ms, NULL, NULL, labelled),
            ('label_delay_p99_ms', label_delay_p99_ms, NULL, NULL, labelled),
            ('label_delay_max_ms', label_delay_max_ms, NULL, NULL, labelled),
            ('label_delay_mean_ms', label_delay_mean_ms, NULL, NULL, labelled),
            ('labelled_within_1m', labelled_within_1m, NULL, NULL, inferences),
            ('labelled_within_10m', labelled_within_10m, NULL, NULL, inferences),
            ('labelled_within_1h', labelled_within_1h, NULL, NULL, inferences),
            ('labelled_within_1d', labelled_within_1d, NULL, NULL, inferences),
            ('coverage_positive', coverage_positive, NULL, NULL, inferences_positive),
            ('coverage_negative', coverage_negative, NULL, NULL, inferences_negative),
            ('inferences_positive', inferences_positive, NULL, NULL, inferences),
            ('labelled_positive', labelled_positive, NULL, NULL, inferences_positive),
            ('inferences_negative', inferences_negative, NULL, NULL, inferences),
            ('labelled_negative', labelled_negative, NULL, NULL, inferences_negative)
        ],
        'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'
    ) AS m
    UNION ALL
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'quality_binary' AS family,
        m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,
        if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', undefined)))[2], '') AS reason,
        sealed
    FROM `tidegauge`.`quality_binary` FINAL
    ARRAY JOIN CAST(
        [
            ('n', n, NULL, NULL, n),
            ('tp', tp, NULL, NULL, n),
            ('fp', fp, NULL, NULL, n),
            ('fn', fn, NULL, NULL, n),
            ('tn', tn, NULL, NULL, n),
            ('positives', positives, NULL, NULL, n),
            ('negatives', negatives, NULL, NULL, n),
            ('predicted_positive', predicted_positive, NULL, NULL, n),
            ('accuracy', accuracy, accuracy_lower, accuracy_upper, n),
            ('precision', precision, precision_lower, precision_upper, predicted_positive),
            ('npv', npv, npv_lower, npv_upper, tn + fn),
            ('recall', recall, recall_lower, recall_upper, positives),
            ('specificity', specificity, specificity_lower, specificity_upper, negatives),
            ('prevalence', prevalence, prevalence_lower, prevalence_upper, n),
            ('predicted_positive_rate', predicted_positive_rate, predicted_positive_rate_lower, predicted_positive_rate_upper, n),
            ('f1', f1, f1_lower, f1_upper, tp + fp + fn),
            ('balanced_accuracy', balanced_accuracy, balanced_accuracy_lower, balanced_accuracy_upper, n),
            ('mcc', mcc, NULL, NULL, n),
            ('n_scored', n_scored, NULL, NULL, n_scored),
            ('scored_positives', scored_positives, NULL, NULL, n_scored),
            ('scored_negatives', scored_negatives, NULL, NULL, n_scored),
            ('auroc', auroc, auroc_lower, auroc_upper, n_scored),
            ('auroc_error_bound', auroc_error_bound, NULL, NULL, n_scored),
            ('auroc_se', auroc_se, NULL, NULL, n_scored),
            ('average_precision', average_precision, average_precision_lower, average_precision_upper, n_scored),
            ('average_precision_min', average_precision_min, NULL, NULL, n_scored),
            ('average_precision_max', average_precision_max, NULL, NULL, n_scored),
            ('log_loss', log_loss, log_loss_lower, log_loss_upper, n_scored),
            ('log_loss_clipped', log_loss_clipped, NULL, NULL, n_scored),
            ('brier', brier, brier_lower, brier_upper, n_scored),
            ('decisions_off_threshold', decisions_off_threshold, NULL, NULL, n_scored),
            ('value_sum', value_sum, NULL, NULL, n),
            ('value_per_label', value_per_label, NULL, NULL, n),
            ('n_weight', n_weight, NULL, NULL, n),
            ('tp_weight', tp_weight, NULL, NULL, n),
            ('fp_weight', fp_weight, NULL, NULL, n),
            ('fn_weight', fn_weight, NULL, NULL, n),
            ('tn_weight', tn_weight, NULL, NULL, n),
            ('n_eff', n_eff, NULL, NULL, n),
            ('scored_positives_weight', scored_positives_weight, NULL, NULL, n_scored),
            ('scored_negatives_weight', scored_negatives_weight, NULL, NULL, n_scored)
        ],
        'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'
    ) AS m
    UNION ALL
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'calibration' AS family,
        m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,
        if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', undefined)))[2], '') AS reason,
        sealed
    FROM `tidegauge`.`calibration` FINAL
    ARRAY JOIN CAST(
        [
            ('n_scored', n_scored, NULL, NULL, n_scored),
            ('ece', ece, NULL, NULL, n_scored),
            ('mce', mce, NULL, NULL, n_scored),
            ('score_sum', score_sum, NULL, NULL, n_scored),
            ('positives', positives, NULL, NULL, n_scored),
            ('calibration_bias', calibration_bias, NULL, NULL, n_scored),
            ('calibration_z', calibration_z, NULL, NULL, n_scored),
            ('brier_reliability', brier_reliability, NULL, NULL, n_scored),
            ('brier_resolution', brier_resolution, NULL, NULL, n_scored),
            ('brier_uncertainty', brier_uncertainty, NULL, NULL, n_scored),
            ('brier_residual', brier_residual, NULL, NULL, n_scored),
            ('n_scored_weight', n_scored_weight, NULL, NULL, n_scored),
            ('positives_weight', positives_weight, NULL, NULL, n_scored)
        ],
        'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'
    ) AS m
    UNION ALL
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'quality_regression' AS family,
        m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,
        if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', undefined)))[2], '') AS reason,
        sealed
    FROM `tidegauge`.`quality_regression` FINAL
    ARRAY JOIN CAST(
        [
            ('n', n, NULL, NULL, n),
            ('mean_error', mean_error, mean_error_lower, mean_error_upper, n),
            ('mae', mae, mae_lower, mae_upper, n),
            ('mse', mse, NULL, NULL, n),
            ('rmse', rmse, NULL, NULL, n),
            ('r2', r2, NULL, NULL, n),
            ('mape', mape, NULL, NULL, mape_n),
            ('mape_n', mape_n, NULL, NULL, mape_n),
            ('rmsle', rmsle, NULL, NULL, rmsle_n),
            ('rmsle_n', rmsle_n, NULL, NULL, rmsle_n),
            ('pearson', pearson, NULL, NULL, n),
            ('abs_error_p50', abs_error_p50, NULL, NULL, n),
            ('abs_error_p90', abs_error_p90, NULL, NULL, n),
            ('abs_error_p99', abs_error_p99, NULL, NULL, n),
            ('abs_error_max', abs_error_max, NULL, NULL, n),
            ('label_mean', label_mean, NULL, NULL, n),
            ('prediction_mean', prediction_mean, NULL, NULL, n),
            ('label_sum', label_sum, NULL, NULL, n),
            ('prediction_sum', prediction_sum, NULL, NULL, n),
            ('abs_error_sum', abs_error_sum, NULL, NULL, n),
            ('error_square_sum', error_square_sum, NULL, NULL, n),
            ('n_weight', n_weight, NULL, NULL, n),
            ('mape_n_weight', mape_n_weight, NULL, NULL, mape_n),
            ('rmsle_n_weight', rmsle_n_weight, NULL, NULL, rmsle_n),
            ('n_eff', n_eff, NULL, NULL, n)
        ],
        'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'
    ) AS m
    UNION ALL
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'quality_multiclass' AS family,
        m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,
        if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', undefined)))[2], '') AS reason,
        sealed
    FROM `tidegauge`.`quality_multiclass` FINAL
    ARRAY JOIN CAST(
        [
            ('n', n, NULL, NULL, n),
            ('correct', correct, NULL, NULL, n),
            ('accuracy', accuracy, accuracy_lower, accuracy_upper, n),
            ('macro_precision', macro_precision, NULL, NULL, n),
            ('macro_precision_classes', macro_precision_classes, NULL, NULL, n),
            ('macro_recall', macro_recall, NULL, NULL, n),
            ('macro_recall_classes', macro_recall_classes, NULL, NULL, n),
            ('macro_f1', macro_f1, NULL, NULL, n),
            ('macro_f1_classes', macro_f1_classes, NULL, NULL, n),
            ('weighted_precision', weighted_precision, NULL, NULL, n),
            ('weighted_recall', weighted_recall, NULL, NULL, n),
            ('weighted_f1', weighted_f1, NULL, NULL, n),
            ('mcc', mcc, NULL, NULL, n),
            ('n_scored', n_scored, NULL, NULL, n_scored),
            ('log_loss', log_loss, log_loss_lower, log_loss_upper, n_scored),
            ('log_loss_clipped', log_loss_clipped, NULL, NULL, n_scored),
            ('brier', brier, NULL, NULL, n_scored),
            ('top_2_hits', top_2_hits, NULL, NULL, n_scored),
            ('top_2_accuracy', top_2_accuracy, top_2_accuracy_lower, top_2_accuracy_upper, n_scored),
            ('top_3_hits', top_3_hits, NULL, NULL, n_scored),
            ('top_3_accuracy', top_3_accuracy, top_3_accuracy_lower, top_3_accuracy_upper, n_scored),
            ('top_5_hits', top_5_hits, NULL, NULL, n_scored),
            ('top_5_accuracy', top_5_accuracy, top_5_accuracy_lower, top_5_accuracy_upper, n_scored),
            ('auroc_ovr_macro', auroc_ovr_macro, NULL, NULL, n_scored),
            ('auroc_ovr_classes', auroc_ovr_classes, NULL, NULL, n_scored),
            ('n_weight', n_weight, NULL, NULL, n),
            ('correct_weight', correct_weight, NULL, NULL, n),
            ('n_scored_weight', n_scored_weight, NULL, NULL, n_scored),
            ('top_2_hits_weight', top_2_hits_weight, NULL, NULL, n_scored),
            ('top_3_hits_weight', top_3_hits_weight, NULL, NULL, n_scored),
            ('top_5_hits_weight', top_5_hits_weight, NULL, NULL, n_scored),
            ('n_eff', n_eff, NULL, NULL, n)
        ],
        'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'
    ) AS m
    UNION ALL
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'quality_estimated' AS family,
        m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,
        if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', undefined)))[2], '') AS reason,
        sealed
    FROM `tidegauge`.`quality_estimated` FINAL
    ARRAY JOIN CAST(
        [
            ('n', n, NULL, NULL, n),
            ('est_tp', est_tp, NULL, NULL, n),
            ('est_fp', est_fp, NULL, NULL, n),
            ('est_fn', est_fn, NULL, NULL, n),
            ('est_tn', est_tn, NULL, NULL, n),
            ('est_accuracy', est_accuracy, est_accuracy_lower, est_accuracy_upper, n),
            ('est_precision', est_precision, est_precision_lower, est_precision_upper, n),
            ('est_recall', est_recall, est_recall_lower, est_recall_upper, n),
            ('est_f1', est_f1, est_f1_lower, est_f1_upper, n),
            ('est_auroc', est_auroc, est_auroc_lower, est_auroc_upper, n),
            ('est_auroc_error_bound', est_auroc_error_bound, NULL, NULL, n),
            ('n_labelled', n_labelled, NULL, NULL, n_labelled),
            ('realized_accuracy', realized_accuracy, NULL, NULL, n_labelled),
            ('realized_f1', realized_f1, NULL, NULL, n_labelled),
            ('realized_auroc', realized_auroc, NULL, NULL, n_labelled),
            ('est_labelled_accuracy', est_labelled_accuracy, NULL, NULL, n_labelled),
            ('est_labelled_f1', est_labelled_f1, NULL, NULL, n_labelled),
            ('est_labelled_auroc', est_labelled_auroc, NULL, NULL, n_labelled),
            ('accuracy_gap', accuracy_gap, NULL, NULL, n_labelled),
            ('f1_gap', f1_gap, NULL, NULL, n_labelled),
            ('auroc_gap', auroc_gap, NULL, NULL, n_labelled),
            ('accuracy_gap_z', accuracy_gap_z, NULL, NULL, n_labelled),
            ('blended_accuracy', blended_accuracy, NULL, NULL, n)
        ],
        'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'
    ) AS m
    UNION ALL
    SELECT
        window_start, window_end, grain, job, model, version, segment, 'custom' AS family,
        toString(metric) AS metric, value, CAST(NULL AS Nullable(Float64)) AS lower,
        CAST(NULL AS Nullable(Float64)) AS upper, n, toString(reason) AS reason, sealed
    FROM
    (
        SELECT *, max(row_version) OVER (PARTITION BY job, model, grain, segment, version, window_start) AS newest
        FROM `tidegauge`.`custom` FINAL
    )
    WHERE row_version = newest
)
COMMENT 'Every count and figure of the wide views as a row of its own, and every custom metric';
