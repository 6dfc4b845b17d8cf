package journal

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("JOURNAL_TEST_FULL_DISK"); dir != "" {
		os.Exit(writeUntilFull(dir))
	}
	goleak.VerifyTestMain(m)
}
