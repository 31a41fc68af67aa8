package lanes

// cell is what a tenant has in one partition.
type cell[V any] struct {
	tally
}
