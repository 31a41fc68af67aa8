package event

// KafkaHeader is one record header.
type KafkaHeader struct {
	Key   string
	Value []byte
}

// KafkaRecord is what of a Kafka record the CloudEvents binding speaks of.
type KafkaRecord struct {
	Key     []byte
	Value   []byte
	Headers []KafkaHeader
}
