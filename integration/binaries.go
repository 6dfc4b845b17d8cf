package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Binaries is a folder that holds the broker, produce and consume programs.
type Binaries string

// Path is the file of one program.
func (b Binaries) Path(program string) string { return filepath.Join(string(b), program) }

// Check reports the first program that is missing.
func (b Binaries) Check() error {
	for _, program := range []string{"broker", "produce", "consume"} {
		if _, err := os.Stat(b.Path(program)); err != nil {
			return fmt.Errorf("program %s is missing: build it with: make build: %w", b.Path(program), err)
		}
	}
	return nil
}

// Build makes the programs of the module around the working directory in dir, with the race detector if race says so.
func Build(ctx context.Context, dir string, race bool) (Binaries, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/...")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/...: %w\n%s", err, out)
	}
	return Binaries(dir), nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	file := strings.TrimSpace(string(out))
	if file == "" || file == os.DevNull {
		return "", errors.New("no go.mod around the working directory: run inside the repository")
	}
	return filepath.Dir(file), nil
}
