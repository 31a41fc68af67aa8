package testenv

import "context"

// LaunchKafka starts a broker for a program that is no test. The caller removes it.
func LaunchKafka(options KafkaOptions) (*Broker, error) { return startKafka(options) }

// LaunchPostgres starts a server for a program that is no test. The caller removes it.
func LaunchPostgres(options PostgresOptions) (*Server, error) { return startPostgres(options) }

// Remove stops the container and deletes it with its data.
func (c *Container) Remove(ctx context.Context) error { return c.remove(ctx) }
