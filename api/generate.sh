#!/bin/sh
# Makes the Go code of api/ anew. Needs protoc; the plugins are tools of go.mod. The result is committed.
set -eu
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
find api -name '*.proto' | sort | sed 's|^api/||' | PATH="$bin:$PATH" xargs protoc -I api --go_out=. --go_opt=module=lograft --go-grpc_out=. --go-grpc_opt=module=lograft
