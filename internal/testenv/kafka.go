package testenv

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// KafkaImage is the broker that suites run against: TIDINGS_KAFKA_IMAGE, or
// the public image.
func KafkaImage() string { return image("TIDINGS_KAFKA_IMAGE", "apache/kafka:4.3.1") }

// Broker is a single Kafka node, broker and controller in one. It makes no
// topic by itself.
type Broker struct {
	*Container

	// Brokers are the bootstrap addresses of the open, plaintext listener.
	Brokers []string
	// Secure are those of the TLS + SASL listener; nil unless asked for.
	Secure []string
	// TLS trusts the secure listener's certificate; nil unless asked for.
	TLS *tls.Config
}

// KafkaOptions shapes a broker; the zero value is useful.
type KafkaOptions struct {
	// Secure adds a TLS listener that asks for SASL PLAIN or SCRAM (256, 512).
	Secure bool
	// Users may log in there, name to password. Nil with Secure: User, Password.
	Users map[string]string
	// Session is how long the controller keeps a killed broker's registration:
	// a restarted one answers only after it. Zero: 2 s.
	Session time.Duration
	// Env adds or replaces KAFKA_* settings.
	Env map[string]string
}

// The user of a secure listener when KafkaOptions names none.
const (
	User     = "tidings"
	Password = "tidings-secret"
)

const (
	// sharedSession is the session of the broker that tests share.
	sharedSession = 30 * time.Second
	// heartbeat is how often a broker reports to the controller, at least.
	heartbeat = 500 * time.Millisecond
)

// Ports inside the container.
const (
	openPort       = 9092
	controllerPort = 9093
	securePort     = 9094
	// innerPort is for the node's own connections to itself, by which it checks
	// transactions: what it advertises to clients is not reachable from inside.
	innerPort = 9095
)

// Kafka returns the addresses of a broker that all tests of the binary share.
// Nobody may stop it.
func Kafka(t testing.TB) []string {
	t.Helper()
	Docker(t)
	b, err := shared.kafka.get(func() (*Broker, error) {
		// It is never killed: on a busy machine it is late, not dead.
		b, err := startKafka(KafkaOptions{Session: sharedSession})
		if err == nil {
			shared.add(b.Container)
		}
		return b, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Brokers
}

// StartKafka starts a broker for this test alone and removes it at its end.
func StartKafka(t testing.TB, options KafkaOptions) *Broker {
	t.Helper()
	Docker(t)
	b, err := startKafka(options)
	if err != nil {
		t.Fatal(err)
	}
	b.removeAfter(t)
	return b
}

// Name returns a topic or group name nobody else uses, that starts with prefix.
func Name(prefix string) string { return prefix + "-" + uuid.NewString()[:8] }

func startKafka(options KafkaOptions) (*Broker, error) {
	if options.Session == 0 {
		options.Session = 2 * time.Second
	}
	if options.Secure && options.Users == nil {
		options.Users = map[string]string{User: Password}
	}
	b := &Broker{}
	c, err := start(func() (spec, error) { return b.spec(options) })
	if err != nil {
		return nil, err
	}
	b.Container = c
	if options.Secure {
		if err := b.createUsers(options.Users); err != nil {
			ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
			defer cancel()
			return nil, errors.Join(err, b.remove(ctx))
		}
	}
	return b, nil
}

// spec chooses ports and writes the whole configuration: one KAFKA_ property
// replaces the image's defaults.
func (b *Broker) spec(options KafkaOptions) (spec, error) {
	ctx := context.Background()
	open, err := freePort(ctx)
	if err != nil {
		return spec{}, err
	}
	b.Brokers = []string{address(open)}
	s := spec{
		image: KafkaImage(),
		ports: map[int]int{openPort: open},
		wait:  wait.ForLog("Kafka Server started").WithStartupTimeout(startTimeout),
		ready: b.answers,
		env: map[string]string{
			"KAFKA_NODE_ID":                                          "1",
			"KAFKA_PROCESS_ROLES":                                    "broker,controller",
			"KAFKA_CONTROLLER_QUORUM_VOTERS":                         "1@localhost:" + strconv.Itoa(controllerPort),
			"KAFKA_LISTENERS":                                        fmt.Sprintf("OPEN://:%d,INNER://:%d,CONTROLLER://:%d", openPort, innerPort, controllerPort),
			"KAFKA_ADVERTISED_LISTENERS":                             fmt.Sprintf("OPEN://%s,INNER://localhost:%d", address(open), innerPort),
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP":                   "OPEN:PLAINTEXT,INNER:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
			"KAFKA_INTER_BROKER_LISTENER_NAME":                       "INNER",
			"KAFKA_CONTROLLER_LISTENER_NAMES":                        "CONTROLLER",
			"KAFKA_LOG_DIRS":                                         "/var/lib/kafka/data",
			"KAFKA_AUTO_CREATE_TOPICS_ENABLE":                        "false",
			"KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR":                 "1",
			"KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS":                     "4",
			"KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR":         "1",
			"KAFKA_TRANSACTION_STATE_LOG_MIN_ISR":                    "1",
			"KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS":             "4",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
			"KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR":            "1",
			// A lone first member need not wait for others.
			"KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
			// Killed members are noticed soon where a test asks for it.
			"KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS": "500",
			"KAFKA_BROKER_SESSION_TIMEOUT_MS":    strconv.FormatInt(options.Session.Milliseconds(), 10),
			"KAFKA_BROKER_HEARTBEAT_INTERVAL_MS": strconv.FormatInt(min(options.Session/4, heartbeat).Milliseconds(), 10),
			"KAFKA_HEAP_OPTS":                    "-Xms256M -Xmx512M",
		},
	}
	if options.Secure {
		if err := b.secure(ctx, &s, options.Users); err != nil {
			return spec{}, err
		}
	}
	maps.Copy(s.env, options.Env)
	return s, nil
}

// secure adds the TLS + SASL listener. It is not called SASL_SSL: the image's
// start script would then ask for password files of its own.
func (b *Broker) secure(ctx context.Context, s *spec, users map[string]string) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	pair, err := newCertificate(host())
	if err != nil {
		return err
	}
	const keystore = "/tmp/tidings-keystore.pem"
	b.Secure = []string{address(port)}
	b.TLS = &tls.Config{RootCAs: pair.roots, MinVersion: tls.VersionTLS12}
	s.ports[securePort] = port
	s.files = append(s.files, testcontainers.ContainerFile{
		Reader: bytes.NewReader(pair.keystore), ContainerFilePath: keystore, FileMode: 0o644,
	})
	const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	var plain strings.Builder
	plain.WriteString("org.apache.kafka.common.security.plain.PlainLoginModule required")
	for name, password := range users {
		fmt.Fprintf(&plain, " user_%s=%q", name, password)
	}
	plain.WriteString(";")
	s.env["KAFKA_LISTENERS"] += fmt.Sprintf(",SECURE://:%d", securePort)
	s.env["KAFKA_ADVERTISED_LISTENERS"] += ",SECURE://" + address(port)
	maps.Copy(s.env, map[string]string{
		"KAFKA_LISTENER_NAME_SECURE_SSL_KEYSTORE_TYPE":                     "PEM",
		"KAFKA_LISTENER_NAME_SECURE_SSL_KEYSTORE_LOCATION":                 keystore,
		"KAFKA_LISTENER_NAME_SECURE_SASL_ENABLED_MECHANISMS":               "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"KAFKA_LISTENER_NAME_SECURE_PLAIN_SASL_JAAS_CONFIG":                plain.String(),
		"KAFKA_LISTENER_NAME_SECURE_SCRAM___SHA___256_SASL_JAAS_CONFIG":    scram,
		"KAFKA_LISTENER_NAME_SECURE_SCRAM___SHA___512_SASL_JAAS_CONFIG":    scram,
		"KAFKA_LISTENER_NAME_SECURE_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "",
	})
	return nil
}

// createUsers gives each user SCRAM credentials, by way of the open listener.
func (b *Broker) createUsers(users map[string]string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Brokers...))
	if err != nil {
		return fmt.Errorf("connect to Kafka at %s: %w", b.Brokers, err)
	}
	defer cl.Close()
	// One request takes each user only once.
	for _, mechanism := range []kadm.ScramMechanism{kadm.ScramSha256, kadm.ScramSha512} {
		var upserts []kadm.UpsertSCRAM
		for name, password := range users {
			upserts = append(upserts, kadm.UpsertSCRAM{
				User: name, Password: password, Mechanism: mechanism, Iterations: 4096,
			})
		}
		altered, err := kadm.NewClient(cl).AlterUserSCRAMs(ctx, nil, upserts)
		if err == nil {
			err = altered.Error()
		}
		if err != nil {
			return fmt.Errorf("give users SCRAM credentials: %w", err)
		}
	}
	return nil
}

// answers returns when the node is registered and no longer fenced: only then
// do topics have leaders again.
func (b *Broker) answers(ctx context.Context) error {
	return until(ctx, func(ctx context.Context) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(b.Brokers...), kgo.RequestRetries(0))
		if err != nil {
			return fmt.Errorf("connect to Kafka at %s: %w", b.Brokers, err)
		}
		defer cl.Close()
		request := kmsg.NewPtrMetadataRequest()
		request.Topics = []kmsg.MetadataRequestTopic{}
		response, err := request.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		if len(response.Brokers) == 0 {
			return errors.New("the broker is not registered yet")
		}
		return nil
	})
}

func address(port int) string { return net.JoinHostPort(host(), strconv.Itoa(port)) }
