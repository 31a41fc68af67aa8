// Package metric registers metrics that outlive whoever counts in them.
package metric

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Register puts c into reg, or takes what an earlier part with the same metrics
// left there, so that one that is made again counts on.
func Register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			*c = existing
			return nil
		}
	}
	return err
}
