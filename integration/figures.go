package integration

import (
	"context"
	"os/exec"
	"slices"
	"strings"
)

// Spread is the median, the lowest and the highest of figures, zeros if there are none. v stays as it is.
func Spread(v []float64) (mid, low, high float64) {
	if len(v) == 0 {
		return 0, 0, 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2, s[0], s[len(s)-1]
}

// Commit is what the working directory is a checkout of, "unknown" if git can't tell.
func Commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
