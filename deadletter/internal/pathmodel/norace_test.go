//go:build !race

package pathmodel

const raceDetector = false
