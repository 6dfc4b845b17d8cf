package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// The test binary plays the three programs when it is called by their names, and the demo itself. All replicas are one file in
// $FAKE_DIR; $FAKE_FAULT names what goes wrong.
func TestMain(m *testing.M) {
	fakes := map[string]func([]string) error{"broker": fakeBroker, "produce": fakeProduce, "consume": fakeConsume}
	name := filepath.Base(os.Args[0])
	if name == "demo" {
		main()
	}
	if fake := fakes[name]; fake != nil {
		if err := fake(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// flagValue is the argument after the named flag.
func flagValue(args []string, name string) string {
	if at := slices.Index(args, name); at >= 0 && at+1 < len(args) {
		return args[at+1]
	}
	return ""
}

func fault(name string) bool { return os.Getenv("FAKE_FAULT") == name }

func fakeLog() string { return filepath.Join(os.Getenv("FAKE_DIR"), "log") }

func fakeBroker(args []string) error {
	switch strings.Join(args[:2], " ") {
	case "topic create":
		return nil
	case "topic describe":
		fmt.Println(`{"partitions":[{"partition":0,"leader":2}]}`)
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if fault("broker ends") {
		return fmt.Errorf("no space on the moon")
	}
	ready := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})
	server := &http.Server{Addr: flagValue(args, "--http-listen"), Handler: ready}
	go server.ListenAndServe()
	<-ctx.Done()
	if fault("broker exits badly") {
		return fmt.Errorf("could not close")
	}
	return server.Close()
}

func fakeProduce(args []string) error {
	log, err := os.OpenFile(fakeLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	lines := bufio.NewReader(os.Stdin)
	for offset := 0; ; offset++ {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := log.WriteString(line); err != nil {
			return err
		}
		switch {
		case fault("record twice") && offset == 5:
			offset++
		case fault("record fails") && offset == 5:
			fmt.Println(`{"error":"no luck","reason":"LUCK","outcome":"failed"}`)
			continue
		case fault("produce ends") && offset == 5:
			return fmt.Errorf("out of breath")
		}
		fmt.Printf("{\"topic\":\"demo\",\"partition\":0,\"offset\":%d}\n", offset)
	}
}

func fakeConsume(args []string) error {
	data, err := os.ReadFile(fakeLog())
	if err != nil {
		return err
	}
	replica := flagValue(args, "--replica")
	switch {
	case fault("byte of 1") && replica == "1", fault("byte of 2") && replica == "2":
		data[len(data)/2] ^= 1
	case fault("short 3") && replica == "3":
		data = data[:len(data)-1]
	}
	_, err = os.Stdout.Write(data)
	return err
}
