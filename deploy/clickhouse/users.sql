-- The users of users.d/tidegauge.xml for servers that keep users by SQL. The passwords are query parameters:
--   clickhouse-client --param_bi_password="$TIDEGAUGE_BI_PASSWORD" --param_password="$TIDEGAUGE_PASSWORD" --queries-file users.sql
-- On a cluster add ON CLUSTER behind each name.

-- For whoever looks. Only what BI tools send of themselves may be changed; limits may be lowered, not raised. Conditions on
-- keys are looked at before rows are merged: dashboards of many models are five times as fast.
CREATE SETTINGS PROFILE IF NOT EXISTS tidegauge_bi SETTINGS
    readonly = 1,
    final = 1,
    optimize_move_to_prewhere_if_final = 1,
    max_execution_time = 60 MIN 1 MAX 300 CHANGEABLE_IN_READONLY,
    max_memory_usage = 4000000000 MIN 1 MAX 4000000000 CHANGEABLE_IN_READONLY,
    max_result_rows = 1048576 MIN 1 MAX 1048576 CHANGEABLE_IN_READONLY,
    result_overflow_mode CHANGEABLE_IN_READONLY,
    select_sequential_consistency CHANGEABLE_IN_READONLY,
    session_timezone CHANGEABLE_IN_READONLY,
    additional_table_filters CHANGEABLE_IN_READONLY;

-- For BI tools.
CREATE USER IF NOT EXISTS tidegauge_bi IDENTIFIED WITH sha256_password BY {bi_password:String} SETTINGS PROFILE 'tidegauge_bi';
GRANT SELECT ON tidegauge_bi.* TO tidegauge_bi;

-- For `tidegauge init`, which replaces views and so needs all of these, and `tidegauge run`, which needs SELECT and
-- INSERT on tidegauge.* only.
CREATE USER IF NOT EXISTS tidegauge IDENTIFIED WITH sha256_password BY {password:String};
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, ALTER, SELECT, INSERT ON tidegauge.* TO tidegauge;
GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP TABLE, DROP VIEW, ALTER, SELECT, INSERT ON tidegauge_bi.* TO tidegauge;
-- On a cluster only: with `engine = "replicated"` `init` needs the last two, and the first where `cluster` is set.
-- GRANT CLUSTER ON *.* TO tidegauge; -- for ON CLUSTER
-- GRANT TABLE ENGINE ON ReplicatedMergeTree TO tidegauge; -- for jobs, files and migrations
-- GRANT TABLE ENGINE ON ReplicatedReplacingMergeTree TO tidegauge; -- for all others
GRANT TABLE ENGINE ON MergeTree TO tidegauge;
GRANT TABLE ENGINE ON ReplacingMergeTree TO tidegauge;
