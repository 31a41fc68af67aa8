package subscriber

// PendingForTest counts what s has read and not finished.
func PendingForTest(s *Subscriber) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for sub := range s.subscriptions {
		for _, st := range sub.lanes.Stats() {
			n += st.Pending
		}
	}
	return n
}

// PartitionsForTest counts the partitions that s feeds.
func PartitionsForTest(s *Subscriber) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for sub := range s.subscriptions {
		sub.mu.Lock()
		n += len(sub.partitions)
		sub.mu.Unlock()
	}
	return n
}
