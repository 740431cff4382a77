import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Sends each line of standard input to a topic: {@code Lines BROKER TOPIC}. Ends with 1 where one was not taken. */
public final class Lines {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "acks", "all");
        var text = new StringSerializer();
        var failed = new java.util.concurrent.atomic.AtomicReference<Exception>();
        try (var producer = new KafkaProducer<String, String>(settings, text, text);
                var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                producer.send(new ProducerRecord<>(arguments[1], line), (sent, error) -> {
                    if (error != null) {
                        failed.set(error);
                    }
                });
            }
        }
        if (failed.get() != null) {
            System.err.println(failed.get());
            System.exit(1);
        }
    }
}
