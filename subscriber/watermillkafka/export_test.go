package watermillkafka

// HeldForTest is how many messages of a partition are read and not finished.
func HeldForTest(s *Subscriber, id int32) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subscriptions {
		for _, st := range sub.lanes.Stats() {
			if st.ID == id {
				return st.Pending
			}
		}
	}
	return 0
}
