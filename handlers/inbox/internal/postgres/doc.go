// Package postgres holds what the PostgreSQL drivers of the inbox share: the
// statements, the check and the upkeep.
package postgres
