CREATE DATABASE IF NOT EXISTS `tidegauge` COMMENT 'Tidegauge: states, marks and metric rows; written by the program only';

CREATE TABLE IF NOT EXISTS `tidegauge`.`migrations`
(
    `version` UInt32 COMMENT 'Version of the tables',
    `views` String COMMENT 'Digest of the views',
    `program` String COMMENT 'Version of the program that did it',
    `applied` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When'
)
ENGINE = MergeTree()
ORDER BY (version, applied)
COMMENT 'Which versions of the tables and views were put in place, and when';

CREATE TABLE IF NOT EXISTS `tidegauge`.`jobs`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `generation` UInt16 COMMENT 'Rises with every deliberate rebuild',
    `cluster` String COMMENT 'ID of the Kafka cluster',
    `inference_topic` String COMMENT 'Name of the inference topic',
    `inference_topic_id` String COMMENT 'Kafka\'s ID of the inference topic',
    `label_topic` String COMMENT 'Name of the label topic; empty where there is none',
    `label_topic_id` String COMMENT 'Kafka\'s ID of the label topic',
    `partitions` Int32 COMMENT 'Partitions of each topic',
    `configuration` String COMMENT 'Digest of all options that change what a row says',
    `window_ms` Int64 COMMENT 'Length of the base window in milliseconds',
    `created` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the server wrote the row'
)
ENGINE = MergeTree()
ORDER BY (job, generation, created)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'What each job\'s name is bound to since its first start';

CREATE TABLE IF NOT EXISTS `tidegauge`.`files`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `generation` UInt16 COMMENT 'Generation of the job',
    `stream` LowCardinality(String) COMMENT 'inferences or labels',
    `number` Int64 COMMENT 'Place among the files of the stream, from 0 on',
    `name` String COMMENT 'Path within the folder',
    `bytes` UInt64 COMMENT 'Its size',
    `digest` String COMMENT 'Of its name, its size and all its bytes',
    `first_offset` Int64 COMMENT 'Position of its first record',
    `offsets` Int64 COMMENT 'Positions that it takes up, those of blank lines included',
    `records` UInt64 COMMENT 'Records of it that can be used',
    `rejected` UInt64 COMMENT 'Records of it that can\'t',
    `taken` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the server wrote the row'
)
ENGINE = MergeTree()
ORDER BY (job, generation, stream, number)
SETTINGS non_replicated_deduplication_window = 1000
COMMENT 'Files that jobs took as they came, in that order: positions of marks count through them';

CREATE TABLE IF NOT EXISTS `tidegauge`.`window_state`
(
    `window_start` DateTime64(3, 'UTC') COMMENT 'First millisecond of the window, UTC',
    `window_end` DateTime64(3, 'UTC') COMMENT 'First millisecond after the window, UTC',
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'The model; (other) beyond the cap on models',
    `version` LowCardinality(String) COMMENT 'The model\'s version; empty where records name none',
    `segment` LowCardinality(String) COMMENT 'all, or one value of a segment as region=eu',
    `partition` Int32 COMMENT 'Partition number, the same in both topics',
    `inferences` UInt64 COMMENT 'Accepted inferences',
    `errors` UInt64 COMMENT 'Inferences with a non-empty error',
    `latency_sum_us` UInt64 COMMENT 'Sum of latencies in microseconds',
    `latency_max_us` UInt64 COMMENT 'Greatest latency in microseconds',
    `latency_us_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Inferences by cell of the duration lattice of latency',
    `freshness_max_ms` UInt64 COMMENT 'Greatest freshness in milliseconds',
    `freshness_ms_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Inferences by cell of the duration lattice of freshness',
    `latest_event_time` DateTime64(3, 'UTC') COMMENT 'Greatest event time of the inferences',
    `label_inferences` UInt64 COMMENT 'Accepted inferences that labels are awaited for',
    `labelled` UInt64 COMMENT 'Inferences with a label',
    `expired` UInt64 COMMENT 'Inferences without a label when the window sealed',
    `label_corrections` UInt64 COMMENT 'Later labels that won with another value or weight',
    `label_duplicates` UInt64 COMMENT 'Labels that joined nothing and changed nothing',
    `label_conflicts` UInt64 COMMENT 'Duplicates with another value or weight than the winner',
    `label_delay_sum_ms` UInt64 COMMENT 'Sum of label delays in milliseconds',
    `label_delay_max_ms` UInt64 COMMENT 'Greatest label delay in milliseconds',
    `label_delay_ms_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Inferences by cell of the duration lattice of label delay',
    `labelled_within_1m` UInt64 COMMENT 'Inferences with a label delay of at most one minute',
    `labelled_within_10m` UInt64 COMMENT 'Inferences with a label delay of at most ten minutes',
    `labelled_within_1h` UInt64 COMMENT 'Inferences with a label delay of at most one hour',
    `labelled_within_1d` UInt64 COMMENT 'Inferences with a label delay of at most one day',
    `inferences_positive` UInt64 COMMENT 'Inferences decided positive',
    `labelled_positive` UInt64 COMMENT 'Inferences decided positive, with a label',
    `inferences_negative` UInt64 COMMENT 'Inferences decided negative',
    `labelled_negative` UInt64 COMMENT 'Inferences decided negative, with a label',
    `binary_inferences` UInt64 COMMENT 'Accepted inferences of a binary model',
    `binary_tp` UInt64 COMMENT 'True positives at the own decision',
    `binary_fp` UInt64 COMMENT 'False positives at the own decision',
    `binary_fn` UInt64 COMMENT 'False negatives at the own decision',
    `binary_tn` UInt64 COMMENT 'True negatives at the own decision',
    `decisions_off_threshold` UInt64 COMMENT 'Labelled inferences whose own prediction differs from score >= threshold',
    `threshold_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Labelled scores by other threshold: tp, fp, fn, tn of each',
    `score_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Inferences by cell of the score lattice',
    `score_positive_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Positive labels by cell of the score lattice',
    `score_negative_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Negative labels by cell of the score lattice',
    `brier_sum` String COMMENT 'Exact sum of (score - label)^2, each times its units of weight',
    `brier_square_sum` String COMMENT 'Exact sum of the squares of (score - label)^2, likewise',
    `log_loss_sum` String COMMENT 'Exact sum of log losses, each times its units of weight',
    `log_loss_square_sum` String COMMENT 'Exact sum of the squares of log losses, likewise',
    `log_loss_clipped` UInt64 COMMENT 'Labelled scores whose log loss was held to 2^-52',
    `binary_weight_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Sums of label weights in units of 2^-20, and of their squares, by what they count. Where weights are ignored it is empty, and a record has one unit',
    `calibration_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Labelled scores by bin of tenths',
    `calibration_positive_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Positive labels by bin of tenths',
    `calibration_score_sums` Array(String) COMMENT 'Exact sums by bin of tenths of the scores, each times its units of weight',
    `calibration_variance_sum` String COMMENT 'Exact sum of score (1 - score), each times the square of its units of weight',
    `calibration_brier_sum` String COMMENT 'Exact sum of (score - label)^2, each times its units of weight',
    `calibration_weight_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Sums of label weights in units of 2^-20, and of their squares, by bin: all, positive. Where weights are ignored it is empty, and a record has one unit',
    `regression_inferences` UInt64 COMMENT 'Accepted inferences of a regression model',
    `regression_n` UInt64 COMMENT 'Labelled inferences with two numbers, y and its prediction p',
    `regression_label_sum` String COMMENT 'Exact sum of y, each times its units of weight, as in all sums of pairs',
    `regression_label_square_sum` String COMMENT 'Exact sum of y^2',
    `regression_prediction_sum` String COMMENT 'Exact sum of p',
    `regression_prediction_square_sum` String COMMENT 'Exact sum of p^2',
    `regression_product_sum` String COMMENT 'Exact sum of p y',
    `regression_error_sum` String COMMENT 'Exact sum of e = p - y',
    `regression_error_square_sum` String COMMENT 'Exact sum of e^2',
    `regression_abs_error_sum` String COMMENT 'Exact sum of |e|',
    `regression_relative_error_sum` String COMMENT 'Exact sum of |e| / |y|',
    `regression_log_error_square_sum` String COMMENT 'Exact sum of (log1p p - log1p y)^2',
    `regression_abs_error_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Units of weight of pairs by cell of |e|',
    `regression_relative_n` UInt64 COMMENT 'Pairs with y other than 0',
    `regression_log_n` UInt64 COMMENT 'Pairs with y and p above -1',
    `regression_weight_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Sums of label weights in units of 2^-20, and of their squares, by count. Where weights are ignored it is empty, and a record has one unit',
    `multiclass_inferences` UInt64 COMMENT 'Accepted inferences of a multiclass model',
    `multiclass_correct` UInt64 COMMENT 'Labelled inferences whose predicted class is the true one',
    `classes` Array(String) COMMENT 'Kept classes, in a fixed order',
    `confusion_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Labelled inferences by place of true and predicted class; the place behind the last is (other)',
    `multiclass_scored` UInt64 COMMENT 'Labelled inferences with scores by class',
    `class_log_loss_sum` String COMMENT 'Exact sum of log losses of the true class, each times its units of weight',
    `class_log_loss_square_sum` String COMMENT 'Exact sum of the squares of these log losses, likewise',
    `class_log_loss_clipped` UInt64 COMMENT 'Labelled inferences whose log loss was held to 2^-52',
    `class_brier_sum` String COMMENT 'Exact sum of (score - truth)^2 over inferences and classes, each times its units of weight',
    `top_2_hits` UInt64 COMMENT 'Labelled inferences whose true class has rank 2 or better',
    `top_3_hits` UInt64 COMMENT 'Labelled inferences whose true class has rank 3 or better',
    `top_5_hits` UInt64 COMMENT 'Labelled inferences whose true class has rank 5 or better',
    `scored_classes` Array(String) COMMENT 'Classes whose scores are kept, in a fixed order',
    `class_positive_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Units of weight of the scores of true classes, by class and score cell',
    `class_negative_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Units of weight of the scores of other classes, by class and score cell',
    `scores_kept_out` UInt64 COMMENT 'Units of weight of the scores of classes beyond the cap, modulo 2^64',
    `confusion_weight_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Sums of label weights in units of 2^-20, and of their squares, by true and predicted class. Where weights are ignored it is empty, and a record has one unit',
    `multiclass_weight_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'The same by other count',
    `estimate_counts` Array(Tuple(UInt64, UInt64)) COMMENT 'Inferences with a score: decided negative, positive; the same of the labelled; right negative, positive',
    `estimate_sums` Array(String) COMMENT 'Exact sums of p decided negative, positive, of p (1 - p) likewise; the same of the labelled',
    `estimate_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Sums of p by cell of the score lattice, in units of 2^-32',
    `estimate_labelled_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'The same of the labelled',
    `estimate_score_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Inferences by cell of the score lattice',
    `estimate_negative_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Negative labels by cell of the score lattice',
    `estimate_positive_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Positive labels by cell of the score lattice',
    `class_estimate_counts` Array(Tuple(UInt64, UInt64)) COMMENT 'Inferences with scores by class, labelled ones, those decided right, scores kept out',
    `class_estimate_sums` Array(String) COMMENT 'Exact sums of the probability p of the decided class, of p (1 - p); the same of the labelled',
    `class_estimate_classes` Array(String) COMMENT 'Classes whose estimates are kept, by XXH3-64',
    `class_estimate_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'By score cell, five lists for each class: inferences, sums of p (2^-32), sums of p of the labelled, negatives, positives',
    `features` Array(String) COMMENT 'Names of the features that inferences carry, ascending; i counts them from 0',
    `feature_counts` Array(Tuple(UInt64, UInt64)) COMMENT 'By 5i: numbers, false, true, not finite numbers, numbers out of range',
    `feature_sums` Array(String) COMMENT 'By 2i: exact sum of the numbers, and of their squares',
    `feature_ranges` Array(Tuple(UInt64, UInt64)) COMMENT 'By 2i: bits of the least and the greatest number',
    `feature_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Numbers by 2^16 i + cell, of the reference\'s lattice or else the built-in one',
    `feature_categories` Array(String) COMMENT 'Texts, of one feature after the other, by XXH3-64',
    `feature_category_counts` Array(Tuple(UInt64, UInt64)) COMMENT 'By 2^16 i + k: how often the k-th text of the feature came (from 1), and at k = 0 those not kept; from 2^15 on those of the reference',
    `feature_numbers` Array(Tuple(UInt64, UInt64)) COMMENT 'By 2^16 i + k: bits of the k-th distinct number (from 1) while they are few, and 1 at k = 0 if they are counted',
    `feature_registers` Array(Tuple(UInt64, UInt64)) COMMENT 'By 2^16 i + k: HyperLogLog registers 8k to 8k + 7 of many distinct numbers, from k = 512 on of many texts',
    `prediction_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Predictions by cell or category of the reference, from 2; 0: none, 1: of another kind',
    `label_cells` Array(Tuple(UInt64, UInt64)) COMMENT 'Winning labels by cell or category of the reference, from 2; 1: of another kind',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, version, segment, window_start, partition)
SETTINGS index_granularity = 512
COMMENT 'What one partition knows of a window of the base size: additive state, merged into the metric tables';

CREATE TABLE IF NOT EXISTS `tidegauge`.`seals`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `partition` Int32 COMMENT 'Partition number, the same in both topics',
    `generation` UInt16 COMMENT 'Generation of the job',
    `sealed_until_ms` Int64 COMMENT 'End of the newest sealed window, milliseconds since 1970',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
ENGINE = ReplacingMergeTree(row_version)
ORDER BY (job, partition)
COMMENT 'How far each partition has sealed its windows';

CREATE TABLE IF NOT EXISTS `tidegauge`.`marks`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `partition` Int32 COMMENT 'Partition number, the same in both topics',
    `generation` UInt16 COMMENT 'Generation of the job',
    `inference_position` Int64 COMMENT 'Next offset of the inference topic to count',
    `label_position` Int64 COMMENT 'Next offset of the label topic to count',
    `inference_floor` Int64 COMMENT 'Offset of the inference topic where a replay starts',
    `label_floor` Int64 COMMENT 'Offset of the label topic where a replay starts',
    `inference_clock_n` UInt32 COMMENT 'Timestamps that make the inference topic\'s clock',
    `label_clock_n` UInt32 COMMENT 'Timestamps that make the label topic\'s clock',
    `inference_floor_clock` Array(Int64) COMMENT 'Greatest Kafka timestamps before the floor, ascending',
    `label_floor_clock` Array(Int64) COMMENT 'Greatest Kafka timestamps before the floor, ascending',
    `inference_clock` Array(Int64) COMMENT 'Greatest Kafka timestamps before the position, ascending',
    `label_clock` Array(Int64) COMMENT 'Greatest Kafka timestamps before the position, ascending',
    `sealed_until_ms` Int64 COMMENT 'End of the newest sealed window, milliseconds since 1970',
    `inference_tally` Array(Tuple(model String, accepted Int64, duplicate Int64, late Int64, dead Int64)) COMMENT 'Outcomes of the inferences before the position, by model',
    `label_tally` Array(Tuple(model String, matched Int64, kept Int64, orphan Int64, dead Int64)) COMMENT 'Outcomes of the labels before the position, by model',
    `inference_dead_schemas` Array(Tuple(schema Int64, first_offset Int64, last_offset Int64)) DEFAULT [(-1, 0, 9223372036854775807)] COMMENT 'Schema ids that make inferences from the floor on dead letters; -1 where others may, too',
    `label_dead_schemas` Array(Tuple(schema Int64, first_offset Int64, last_offset Int64)) DEFAULT [(-1, 0, 9223372036854775807)] COMMENT 'The same of labels',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted'
)
ENGINE = ReplacingMergeTree(row_version)
ORDER BY (job, partition)
COMMENT 'Where each partition stands: a start reads it and replays from its floors';

CREATE TABLE IF NOT EXISTS `tidegauge`.`serving`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start)
COMMENT 'Traffic, errors, latency and freshness of each model, version, segment and window';

CREATE TABLE IF NOT EXISTS `tidegauge`.`labels`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start)
COMMENT 'Which inferences have a label, how long it took, and how often labels were corrected or repeated';

CREATE TABLE IF NOT EXISTS `tidegauge`.`quality_binary`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start)
COMMENT 'Quality of binary models, of the labelled inferences, with 95 % intervals';

CREATE TABLE IF NOT EXISTS `tidegauge`.`quality_threshold`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, threshold)
COMMENT 'Quality of binary models, if scores were decided at another threshold: one row for each configured one';

CREATE TABLE IF NOT EXISTS `tidegauge`.`calibration`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start)
COMMENT 'Whether binary scores are the probabilities that they claim to be, of the labelled scores';

CREATE TABLE IF NOT EXISTS `tidegauge`.`calibration_bins`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, bin)
COMMENT 'Mean score and rate of positives in each tenth of the scores: the points of a reliability diagram';

CREATE TABLE IF NOT EXISTS `tidegauge`.`quality_regression`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start)
COMMENT 'Quality of models that predict numbers, of the labelled inferences, with 95 % intervals';

CREATE TABLE IF NOT EXISTS `tidegauge`.`quality_multiclass`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start)
COMMENT 'Quality of models that decide between several classes, of the labelled inferences, with 95 % intervals';

CREATE TABLE IF NOT EXISTS `tidegauge`.`quality_classes`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, class)
COMMENT 'Quality of models that decide between several classes: one row for each true or predicted class';

CREATE TABLE IF NOT EXISTS `tidegauge`.`confusion`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, true_class, predicted_class)
COMMENT 'Confusion matrix of models that decide between several classes: one row for each cell with a count';

CREATE TABLE IF NOT EXISTS `tidegauge`.`quality_estimated`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start)
COMMENT 'Quality of models with classes estimated without labels, from scores that the reference calibrates, beside what labels say';

CREATE TABLE IF NOT EXISTS `tidegauge`.`data_quality`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, feature)
COMMENT 'What each feature of the inferences holds: missing values, wrong types, range, distribution';

CREATE TABLE IF NOT EXISTS `tidegauge`.`categories`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, feature, category)
COMMENT 'How often each category of a feature came, beside the reference: the 20 most frequent, and all others';

CREATE TABLE IF NOT EXISTS `tidegauge`.`drift`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, kind, feature, method)
COMMENT 'How far features, scores, predictions and labels lie from those of the model\'s reference, by each method, and whether that is drift';

CREATE TABLE IF NOT EXISTS `tidegauge`.`custom`
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
ENGINE = ReplacingMergeTree(row_version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (job, model, grain, segment, version, window_start, metric)
COMMENT 'Metrics that the configuration defines: one row for each, with the reason where it is undefined';

CREATE TABLE IF NOT EXISTS `tidegauge`.`alerts`
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
    `n` Nullable(UInt64) COMMENT 'Records behind the figure; NULL where the table has no count',
    `announced` UInt32 COMMENT 'Changes of state that were announced so far',
    `row_version` UInt64 COMMENT 'Of several rows of one key the greatest is the truth: versions of all windows up to the last evaluated, plus their number'
)
ENGINE = ReplacingMergeTree(row_version)
ORDER BY (job, rule, model, version, segment, feature, grain, opened_window)
COMMENT 'What rules of the configuration say about metric rows: one row for each alert, with its state';

CREATE TABLE IF NOT EXISTS `tidegauge`.`notifications`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `idempotency_key` String COMMENT 'The change: the same in every attempt and at every target',
    `target` LowCardinality(String) COMMENT 'Name of the target in the configuration; empty: the change itself',
    `payload` String COMMENT 'The change as JSON, as generic webhooks receive it',
    `answer` String COMMENT 'What the target said when it took it, or why it was given up',
    `status` LowCardinality(String) COMMENT 'pending, delivered, or given_up',
    `created` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the server wrote the row',
    `row_version` UInt64 COMMENT '1 while pending, then 2'
)
ENGINE = ReplacingMergeTree(row_version)
ORDER BY (job, idempotency_key, target)
COMMENT 'Changes of alerts and who was told of them: what is not delivered is sent again';

CREATE TABLE IF NOT EXISTS `tidegauge`.`custom_metrics`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `metric` LowCardinality(String) COMMENT 'Name of the metric',
    `expression` String COMMENT 'What it is computed from',
    `models` String COMMENT 'Names and globs of the models that have it',
    `segments` String COMMENT 'Globs of the segments that have it',
    `unit` LowCardinality(String) COMMENT 'What it is in',
    `better` LowCardinality(String) COMMENT 'higher, lower, zero (the nearer to 0 the better) or none',
    `description` String COMMENT 'What it says',
    `created` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the server wrote the row'
)
ENGINE = ReplacingMergeTree(created)
ORDER BY (job, metric)
COMMENT 'Metrics that configurations define, as they were at the job\'s last start: what the table custom holds';

CREATE TABLE IF NOT EXISTS `tidegauge`.`reference_profiles`
(
    `job` LowCardinality(String) COMMENT 'The job that wrote the row',
    `model` LowCardinality(String) COMMENT 'Name or glob of the models that it is for',
    `reference_id` String COMMENT 'The profile, as in drift: name and digest of what it says',
    `name` LowCardinality(String) COMMENT 'The name that it was given',
    `generation` UInt16 COMMENT 'A changed profile of one name has a higher one',
    `format` UInt32 COMMENT 'Version of the document\'s form',
    `document` String COMMENT 'The whole profile as JSON',
    `created` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the server wrote the row'
)
ENGINE = ReplacingMergeTree(created)
ORDER BY (job, model, reference_id)
COMMENT 'Reference profiles that configurations name, each as the job\'s first start with it found it';
