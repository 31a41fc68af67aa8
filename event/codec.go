package event

import (
	"encoding/json"
	"fmt"
)

// Codec turns payloads into data and back. It must be safe for concurrent use.
// JSON is built in; Protobuf or Avro fit behind the same seam.
type Codec interface {
	// ContentType is the media type it writes, without parameters, such as
	// "application/json". Data of that type, and of any type with its subtype
	// as suffix ("application/vnd.acme+json"), are read by it.
	ContentType() string
	// Marshal encodes a payload of a registered type, given by value.
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into v, a pointer to a registered type. It must
	// not keep data.
	Unmarshal(data []byte, v any) error
}

// JSON is the codec of application/json by encoding/json.
type JSON struct{}

// ContentType returns application/json.
func (JSON) ContentType() string { return DefaultContentType }

// Marshal is json.Marshal.
func (JSON) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T as JSON: %w", v, err)
	}
	return b, nil
}

// Unmarshal is json.Unmarshal: members without a field are ignored, so that a
// producer may add some.
func (JSON) Unmarshal(data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode JSON into %T: %w", v, err)
	}
	return nil
}
