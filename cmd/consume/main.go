// Command consume reads records; see consume --help.
package main

import (
	"os"

	"lograft/cli"
)

func main() { os.Exit(cli.Main("consume", cli.Hooks{Version: cli.Version()})) }
