-- The job in ClickHouse's own Kafka engine. The runner puts BROKERS, INFERENCES, LABELS and GROUP in, and asks for the
-- join (join.sql) once all records are in.
CREATE DATABASE peer;
CREATE TABLE peer.inferences (request_id String, model LowCardinality(String), version LowCardinality(String), at DateTime64(3, 'UTC'), decision UInt8) ENGINE = MergeTree ORDER BY (toStartOfFiveMinutes(at), request_id);
CREATE TABLE peer.labels (request_id String, at DateTime64(3, 'UTC'), label UInt8) ENGINE = MergeTree ORDER BY (toStartOfFiveMinutes(at), request_id);
CREATE TABLE peer.inferences_topic (request_id String, model String, version String, timestamp Int64, prediction Nullable(UInt8), score Float64) ENGINE = Kafka SETTINGS kafka_broker_list = 'BROKERS', kafka_topic_list = 'INFERENCES', kafka_group_name = 'GROUP', kafka_format = 'JSONEachRow', kafka_num_consumers = 2, kafka_thread_per_consumer = 1, kafka_max_block_size = 262144, kafka_flush_interval_ms = 2000;
CREATE TABLE peer.labels_topic (request_id String, timestamp Int64, label UInt8) ENGINE = Kafka SETTINGS kafka_broker_list = 'BROKERS', kafka_topic_list = 'LABELS', kafka_group_name = 'GROUP', kafka_format = 'JSONEachRow', kafka_num_consumers = 2, kafka_thread_per_consumer = 1, kafka_max_block_size = 262144, kafka_flush_interval_ms = 2000;
CREATE MATERIALIZED VIEW peer.inferences_in TO peer.inferences AS SELECT request_id, model, version, fromUnixTimestamp64Milli(timestamp, 'UTC') AS at, ifNull(prediction, score >= 0.5) AS decision FROM peer.inferences_topic;
CREATE MATERIALIZED VIEW peer.labels_in TO peer.labels AS SELECT request_id, fromUnixTimestamp64Milli(timestamp, 'UTC') AS at, label FROM peer.labels_topic;
