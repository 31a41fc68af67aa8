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

// PartitionsForTest lists the partitions that s feeds.
func PartitionsForTest(s *Subscriber) []int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []int32
	for sub := range s.subscriptions {
		sub.mu.Lock()
		for id := range sub.partitions {
			ids = append(ids, id)
		}
		sub.mu.Unlock()
	}
	return ids
}

// BytesForTest counts the bytes that s holds.
func BytesForTest(s *Subscriber) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for sub := range s.subscriptions {
		for _, st := range sub.lanes.Stats() {
			n += st.Bytes
		}
	}
	return n
}

// FullForTest tells whether s reads nothing for lack of room.
func FullForTest(s *Subscriber) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sub := range s.subscriptions {
		sub.mu.Lock()
		pollable := sub.pollable
		sub.mu.Unlock()
		if pollable {
			return false
		}
	}
	return len(s.subscriptions) > 0
}

// AheadForTest counts the offsets that s has committed above its watermarks.
func AheadForTest(s *Subscriber) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for sub := range s.subscriptions {
		sub.mu.Lock()
		for id, p := range sub.partitions {
			a, err := decodeAhead(p.note, place{topic: sub.topicID, partition: id, offset: p.committed})
			for _, r := range a.runs {
				if err == nil {
					n += r.To - r.From
				}
			}
		}
		sub.mu.Unlock()
	}
	return n
}
