package peer;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Reads a topic with Confluent's Parallel Consumer in KEY mode. Each line of standard input, "group
 * milliseconds", is one round: a new group reads the topic from its beginning, and "rate N" is
 * answered, in events per second between its first event and the end of the window, or the topic's
 * last event. The process stays, so that later rounds find their code compiled.
 *
 * <p>Arguments: brokers, topic, how many events it has, concurrency, pause of the handler in
 * milliseconds.
 */
public final class Peer {
  private static final ObjectReader PLACED = new ObjectMapper().readerFor(Placed.class);

  /** What every event carries. */
  public record Placed(int number, String note) {}

  private final String brokers;
  private final String topic;
  private final long events;
  private final int concurrency;
  private final long pause;

  private Peer(String[] arguments) {
    brokers = arguments[0];
    topic = arguments[1];
    events = Long.parseLong(arguments[2]);
    concurrency = Integer.parseInt(arguments[3]);
    pause = Long.parseLong(arguments[4]);
  }

  public static void main(String[] arguments) throws Exception {
    var peer = new Peer(arguments);
    var rounds = new BufferedReader(new InputStreamReader(System.in));
    for (String line = rounds.readLine(); line != null; line = rounds.readLine()) {
      String[] words = line.split(" ");
      System.out.println("rate " + peer.round(words[0], Long.parseLong(words[1])));
      System.out.flush();
    }
  }

  private double round(String group, long window) throws InterruptedException {
    var settings = new Properties();
    settings.put("bootstrap.servers", brokers);
    settings.put("group.id", group);
    settings.put("auto.offset.reset", "earliest");
    settings.put("enable.auto.commit", "false");
    var consumer =
        new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
    ParallelStreamProcessor<String, byte[]> processor =
        ParallelStreamProcessor.createEosStreamProcessor(
            ParallelConsumerOptions.<String, byte[]>builder()
                .consumer(consumer)
                .ordering(ProcessingOrder.KEY)
                .maxConcurrency(concurrency)
                .build());
    var handled = new AtomicLong();
    var first = new CountDownLatch(1);
    var all = new CountDownLatch(1);
    processor.subscribe(List.of(topic));
    processor.poll(
        context -> {
          try {
            PLACED.readValue(context.value());
            if (pause > 0) {
              Thread.sleep(pause);
            }
          } catch (Exception e) {
            throw new IllegalStateException(e);
          }
          long n = handled.incrementAndGet();
          if (n == 1) {
            first.countDown();
          }
          if (n == events) {
            all.countDown();
          }
        });
    try {
      if (!first.await(60, TimeUnit.SECONDS)) {
        throw new IllegalStateException("no event came within a minute");
      }
      long before = handled.get();
      long begun = System.nanoTime();
      all.await(window, TimeUnit.MILLISECONDS);
      return (handled.get() - before) / ((System.nanoTime() - begun) / 1e9);
    } finally {
      processor.closeDontDrainFirst(Duration.ofSeconds(20));
    }
  }
}
