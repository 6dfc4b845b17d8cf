package segment

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(powerCutWriter); dir != "" {
		os.Exit(writeForPowerCut(dir))
	}
	goleak.VerifyTestMain(m)
}
