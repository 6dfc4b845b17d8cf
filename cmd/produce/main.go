// Command produce appends records; see produce --help.
package main

import (
	"os"

	"lograft/cli"
)

func main() { os.Exit(cli.Main("produce", cli.Hooks{Version: cli.Version()})) }
