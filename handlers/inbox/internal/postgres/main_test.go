package postgres_test

import (
	"testing"

	"github.com/tidings-bus/tidings/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
