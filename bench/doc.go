// Command bench measures Tidings beside its peers, on a real Kafka broker.
//
// Every measure runs both sides in one process run, alternating which goes
// first, for at least three rounds after an uncounted one; the quoted ratio is the median of the
// rounds' ratios, since rates move with the machine and ratios less so. Both
// sides move events of the same size, under the same keys, over the same topic.
//
//	go run . [-only name,name] [-rounds 3] [-seconds 5] [-out results.json] [-list]
//	         [-strict] [-side ours|peer] [-cpuprofile file]
//
// The broker is a container, or BENCH_KAFKA (comma-separated addresses); the
// database of consume-sql likewise, or BENCH_POSTGRES (a URL). The exit code is
// 1 when a measure could not be taken; a goal that is not reached is reported,
// not an error, unless -strict is given.
package main
