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
// The figure that is held against the goal is a ratio, ours to the peer's, unless
// the table says otherwise: a difference, or ours alone where there is no peer. A
// measure may answer with several figures, each a line of the table. Beside the
// median stands its spread, from the least to the largest of the rounds. The file
// of results keeps the lines of measures that were not taken.
//
// The broker is a container, or BENCH_KAFKA (comma-separated addresses); the
// database likewise, or BENCH_POSTGRES (the URL of a superuser): measures make
// databases of their own there, and leave them. The peer of lanes-pc is a Java
// program, in peers, which Maven builds in a temporary directory: without Java or
// Maven the measure is left out, with a note. The members of rebalance are this
// program again, by BENCH_MEMBER.
//
// The exit code is 1 when a measure could not be taken; a goal that is not reached
// is reported, not an error, unless -strict is given.
package main
