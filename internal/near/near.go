// Package near suggests names for one that is not there.
package near

import (
	"slices"
	"strconv"
	"strings"
)

// most is how many names a suggestion has.
const most = 3

// Suggest ends an error about a name that is not among have: `; did you mean
// "a", "b"?`. When none is near and have is short, it lists have; else it is
// empty.
func Suggest(name string, have []string) string {
	if list := Names(name, have); len(list) > 0 {
		return "; did you mean " + quoted(list) + "?"
	}
	if len(have) == 0 || len(have) > most {
		return ""
	}
	return "; there are " + quoted(have)
}

// Names are those of have that are near to name, the nearest first, three at
// most.
func Names(name string, have []string) []string {
	type candidate struct {
		name string
		far  int
	}
	var list []candidate
	for _, h := range have {
		far := distance(strings.ToLower(name), strings.ToLower(h))
		if far <= 1+len(name)/3 || h != "" && name != "" && (strings.Contains(h, name) || strings.Contains(name, h)) {
			list = append(list, candidate{h, far})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return a.far - b.far })
	names := make([]string, 0, most)
	for _, c := range list[:min(len(list), most)] {
		names = append(names, c.name)
	}
	return names
}

func quoted(list []string) string {
	texts := make([]string, 0, len(list))
	for _, v := range list {
		texts = append(texts, strconv.Quote(v))
	}
	return strings.Join(texts, ", ")
}

// distance is the number of letters to add, remove or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
