package connection_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tidings-bus/tidings/connection"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValidateNamesTheFieldTheValueAndTheWayOut(t *testing.T) {
	brokers := []string{"localhost:9092"}
	for name, c := range map[string]struct {
		config connection.Config
		want   []string // parts of the error; none: valid
	}{
		"one broker":         {connection.Config{Brokers: brokers}, nil},
		"two brokers, IPv6":  {connection.Config{Brokers: []string{"kafka-1:9092", "[::1]:9093"}}, nil},
		"no broker":          {connection.Config{}, []string{"Brokers is empty", `"localhost:9092"`}},
		"no port":            {connection.Config{Brokers: []string{"kafka"}}, []string{"Brokers[0]", `"kafka"`, "host:port"}},
		"no host":            {connection.Config{Brokers: []string{":9092"}}, []string{"Brokers[0]", "host is missing"}},
		"port out of range":  {connection.Config{Brokers: []string{"a:1", "b:70000"}}, []string{"Brokers[1]", `"b:70000"`, "65535"}},
		"a scheme":           {connection.Config{Brokers: []string{"kafka://a:1"}}, []string{"scheme", "set TLS"}},
		"a list in one":      {connection.Config{Brokers: []string{"a:1,b:1"}}, []string{"several addresses"}},
		"blanks":             {connection.Config{Brokers: []string{" a:1"}}, []string{"blanks"}},
		"SCRAM":              {connection.Config{Brokers: brokers, SASL: &connection.SASL{Mechanism: connection.ScramSHA512, Username: "u", Password: "p"}}, nil},
		"unknown mechanism":  {connection.Config{Brokers: brokers, SASL: &connection.SASL{Mechanism: "GSSAPI", Username: "u", Password: "p"}}, []string{`"GSSAPI"`, "SCRAM-SHA-256"}},
		"no mechanism":       {connection.Config{Brokers: brokers, SASL: &connection.SASL{Username: "u", Password: "p"}}, []string{"SASL.Mechanism is empty", "PLAIN"}},
		"no user":            {connection.Config{Brokers: brokers, SASL: &connection.SASL{Mechanism: connection.Plain, Password: "p"}}, []string{"SASL.Username is empty"}},
		"no password":        {connection.Config{Brokers: brokers, SASL: &connection.SASL{Mechanism: connection.Plain, Username: "ann"}}, []string{"SASL.Password", `"ann"`}},
		"everything at once": {connection.Config{SASL: &connection.SASL{}}, []string{"Brokers is empty", "SASL.Mechanism", "SASL.Username", "SASL.Password"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.config.Validate()
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

func TestThePasswordIsNeverPrinted(t *testing.T) {
	c := connection.Config{
		Brokers: []string{"a:1"},
		SASL:    &connection.SASL{Mechanism: connection.Plain, Username: "ann", Password: "s3cret"},
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		assert.NotContains(t, fmt.Sprintf(verb, c), "s3cret", verb)
		assert.NotContains(t, fmt.Sprintf(verb, *c.SASL), "s3cret", verb)
		assert.NotContains(t, fmt.Sprintf(verb, c.SASL), "s3cret", verb)
	}
	c.SASL.Username = ""
	assert.NotContains(t, c.Validate().Error(), "s3cret")
}

func TestAnEmptyClientIDHasADefault(t *testing.T) {
	assert.Equal(t, "tidings", connection.Config{}.Client())
	assert.Equal(t, "orders", connection.Config{ClientID: "orders"}.Client())
}

func ExampleConfig_Validate() {
	c := connection.Config{Brokers: []string{"kafka://broker:9092"}}
	fmt.Println(c.Validate())
	// Output:
	// connection: Brokers[0] is "kafka://broker:9092": it has a scheme: write host:port alone, and set TLS for an encrypted connection
}
