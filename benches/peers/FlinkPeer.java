import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * The job in Flink SQL, in one process: counts by model, version and 5-minute window of the inference.
 *
 * BROKERS INFERENCES LABELS ROWS CHECKPOINT_FOLDER: reads what the topics hold, in streaming mode, and ends. Inferences
 * and pairs are two parts of a row, so that the join is an inner one and nothing waits for labels that never come.
 */
public final class FlinkPeer {
  public static void main(String[] args) throws Exception {
    String brokers = args[0];
    Configuration settings = new Configuration();
    settings.setString("parallelism.default", "2");
    settings.setString("taskmanager.numberOfTaskSlots", "2");
    settings.setString("state.backend.type", "hashmap");
    settings.setString("execution.checkpointing.interval", "5 s");
    settings.setString("execution.checkpointing.dir", "file://" + args[4]);
    settings.setString("pipeline.object-reuse", "true");
    settings.setString("table.local-time-zone", "UTC");
    settings.setString("rest.port", "0");
    StreamExecutionEnvironment environment =
        StreamExecutionEnvironment.getExecutionEnvironment(settings);
    StreamTableEnvironment tables = StreamTableEnvironment.create(environment);

    String time =
        "event_time AS TO_TIMESTAMP_LTZ(`timestamp`, 3), WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND";
    String source =
        "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', "
            + "'properties.max.poll.records' = '5000'";
    tables.executeSql(
        "CREATE TABLE inferences (request_id STRING, model STRING, version STRING, `timestamp` BIGINT, "
            + "prediction INT, score DOUBLE, " + time + ") " + with(brokers, args[1], source));
    tables.executeSql(
        "CREATE TABLE labels (request_id STRING, `timestamp` BIGINT, label INT, " + time + ") "
            + with(brokers, args[2], source));
    tables.executeSql(
        "CREATE TABLE counts (model STRING, version STRING, window_start BIGINT, part STRING, "
            + "inferences BIGINT, labelled BIGINT, tp BIGINT, fp BIGINT, fn BIGINT, tn BIGINT) "
            + with(brokers, args[3], "'sink.delivery-guarantee' = 'at-least-once'"));
    tables.executeSql(
        "CREATE TEMPORARY VIEW pairs AS SELECT model, version, i.event_time AS event_time, label, "
            + "COALESCE(prediction, CASE WHEN score >= 0.5 THEN 1 ELSE 0 END) AS decision "
            + "FROM inferences AS i JOIN labels AS l ON i.request_id = l.request_id "
            + "AND l.event_time BETWEEN i.event_time AND i.event_time + INTERVAL '1' HOUR");

    StatementSet both = tables.createStatementSet();
    both.addInsertSql(
        counts("inferences", "'inferences', COUNT(*), CAST(0 AS BIGINT), CAST(0 AS BIGINT), "
            + "CAST(0 AS BIGINT), CAST(0 AS BIGINT), CAST(0 AS BIGINT)"));
    both.addInsertSql(
        counts("pairs", "'pairs', CAST(0 AS BIGINT), COUNT(*), " + cell(1, 1) + ", " + cell(1, 0) + ", "
            + cell(0, 1) + ", " + cell(0, 0)));
    both.execute().await();
  }

  private static String with(String brokers, String topic, String more) {
    return "WITH ('connector' = 'kafka', 'format' = 'json', 'properties.bootstrap.servers' = '" + brokers
        + "', 'topic' = '" + topic + "', " + more + ")";
  }

  private static String cell(int decision, int label) {
    return "COUNT(*) FILTER (WHERE decision = " + decision + " AND label = " + label + ")";
  }

  private static String counts(String from, String columns) {
    return "INSERT INTO counts SELECT model, version, "
        + "1000 * UNIX_TIMESTAMP(CAST(window_start AS STRING)), " + columns
        + " FROM TABLE(TUMBLE(TABLE " + from + ", DESCRIPTOR(event_time), INTERVAL '5' MINUTE))"
        + " GROUP BY model, version, window_start, window_end";
  }
}
