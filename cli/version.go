package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionTemplate is what --version says; builtWith is its second half.
const versionTemplate = "{{.Name}} {{.Version}}, "

func builtWith() string { return runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH }

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{Use: "version", Short: "Show the version", Args: noArgs, Example: "  broker version\n  broker version --format json", RunE: func(*cobra.Command, []string) error {
		if err := a.checkFormat(); err != nil {
			return err
		}
		if a.format == "json" {
			return a.writeJSON(map[string]string{"version": a.hooks.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
		}
		_, err := fmt.Fprintln(a.Out, a.hooks.Version)
		return err
	}}
	a.formatFlag(c)
	return c
}

// Version is this program's version: of the module, or the commit that it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
