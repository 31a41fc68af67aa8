package cli

import "time"

// AnswerWithin gives members another time to answer, until restore is called.
func AnswerWithin(d time.Duration) (restore func()) {
	was := answerWithin
	answerWithin = d
	return func() { answerWithin = was }
}
