import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.processor.TimestampExtractor;

/**
 * The job in the DSL of Kafka Streams: counts by model, version and 5-minute window of the inference.
 *
 * BROKERS INFERENCES LABELS ROWS STATE_FOLDER FACTS: ends when so many inferences and pairs are counted and flushed.
 * Inferences are counted beside the join, so that only the join holds state for each of them.
 */
public final class StreamsPeer {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final long WINDOW_MS = 300_000;
  private static final Duration LABEL_WAIT = Duration.ofHours(1);

  /** What an inference is to the join. */
  record Inference(String key, boolean positive) {
    static Inference of(byte[] json) {
      JsonNode node = parse(json);
      long start = Math.floorDiv(node.get("timestamp").asLong(), WINDOW_MS) * WINDOW_MS;
      JsonNode prediction = node.get("prediction");
      boolean positive = prediction == null ? node.get("score").asDouble() >= 0.5 : prediction.asInt() == 1;
      return new Inference(node.get("model").asText() + "\t" + node.get("version").asText() + "\t" + start, positive);
    }

    byte[] bytes() {
      byte[] text = key.getBytes(StandardCharsets.UTF_8);
      return ByteBuffer.allocate(text.length + 1).put((byte) (positive ? 1 : 0)).put(text).array();
    }

    static Inference ofBytes(byte[] bytes) {
      String key = new String(bytes, 1, bytes.length - 1, StandardCharsets.UTF_8);
      return new Inference(key, bytes[0] == 1);
    }
  }

  /** Inferences, labelled, tp, fp, fn, tn. */
  private static long[] plus(long[] left, long[] right) {
    long[] sum = new long[6];
    for (int i = 0; i < 6; i++) sum[i] = left[i] + right[i];
    return sum;
  }

  private static long[] pair(boolean predicted, boolean label) {
    return new long[] {
      0, 1, predicted && label ? 1 : 0, predicted && !label ? 1 : 0, !predicted && label ? 1 : 0, !predicted && !label ? 1 : 0
    };
  }

  private static JsonNode parse(byte[] json) {
    try {
      return JSON.readTree(json);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static final Serde<long[]> COUNTS =
      Serdes.serdeFrom(
          (topic, counts) -> {
            if (counts == null) return null;
            ByteBuffer out = ByteBuffer.allocate(48);
            for (long count : counts) out.putLong(count);
            return out.array();
          },
          (topic, bytes) -> {
            if (bytes == null) return null;
            long[] counts = new long[6];
            ByteBuffer.wrap(bytes).asLongBuffer().get(counts);
            return counts;
          });

  private static final Serde<Inference> INFERENCE =
      Serdes.serdeFrom(
          (topic, it) -> it == null ? null : it.bytes(),
          (topic, bytes) -> bytes == null ? null : Inference.ofBytes(bytes));

  public static void main(String[] args) throws Exception {
    String brokers = args[0], rows = args[3];
    long facts = Long.parseLong(args[5]);
    AtomicLong counted = new AtomicLong();
    CountDownLatch done = new CountDownLatch(1);

    TimestampExtractor stamp = (record, before) -> record.timestamp();
    Consumed<String, byte[]> source =
        Consumed.with(Serdes.String(), Serdes.ByteArray()).withTimestampExtractor(stamp);
    StreamsBuilder builder = new StreamsBuilder();
    KStream<String, Inference> inferences =
        builder.stream(args[1], source).mapValues(Inference::of);
    KStream<String, byte[]> labels =
        builder.stream(args[2], source)
            .mapValues(json -> new byte[] {(byte) parse(json).get("label").asInt()});

    KStream<String, long[]> alone =
        inferences.map((id, it) -> KeyValue.pair(it.key(), new long[] {1, 0, 0, 0, 0, 0}));
    KStream<String, long[]> pairs =
        inferences
            .join(
                labels,
                (it, label) -> KeyValue.pair(it.key(), pair(it.positive(), label[0] == 1)),
                JoinWindows.ofTimeDifferenceWithNoGrace(LABEL_WAIT).before(Duration.ZERO),
                StreamJoined.with(Serdes.String(), INFERENCE, Serdes.ByteArray()))
            .map((id, pair) -> pair);
    alone
        .merge(pairs)
        .groupByKey(Grouped.with(Serdes.String(), COUNTS))
        .aggregate(
            () -> new long[6],
            (key, fact, sum) -> {
              if (counted.incrementAndGet() == facts) done.countDown();
              return plus(sum, fact);
            },
            Materialized.with(Serdes.String(), COUNTS))
        .toStream()
        .mapValues(StreamsPeer::row)
        .to(rows, Produced.with(Serdes.String(), Serdes.String()));

    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, rows + "-app");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 5_000);
    settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
    try (KafkaStreams streams = new KafkaStreams(builder.build(settings), settings)) {
      streams.setUncaughtExceptionHandler(error -> {
        error.printStackTrace();
        System.exit(1);
        return null;
      });
      streams.start();
      done.await();
    } // to close it is to flush it
  }

  private static String row(String key, long[] counts) {
    String[] parts = key.split("\t", -1);
    StringBuilder text = new StringBuilder();
    text.append("{\"model\":\"").append(parts[0]).append("\",\"version\":\"").append(parts[1]);
    text.append("\",\"window_start\":").append(parts[2]).append(",\"part\":\"all\"");
    String[] names = {"inferences", "labelled", "tp", "fp", "fn", "tn"};
    for (int i = 0; i < 6; i++) text.append(",\"").append(names[i]).append("\":").append(counts[i]);
    return text.append("}").toString();
  }
}
