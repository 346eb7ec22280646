#!/usr/bin/env bash
# Generates the Go code of every contract. Needs protoc (Debian: protobuf-compiler);
# the plugins are built from their Go modules at the versions below.
#
# The virtual path flotilla/ keeps our files' names apart from other modules':
# two linked files of one name panic at start.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN=$bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
GOBIN=$bin go install github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto@v0.6.0
export PATH="$bin:$PATH"
module=github.com/flotilladb/flotilla
for f in metapb/meta txnpb/txn cmdpb/cmd; do
	protoc -I flotilla/proto=proto --go_out=. --go_opt=module=$module \
		--go-vtproto_out=. --go-vtproto_opt=module=$module,features=marshal+unmarshal+size+unmarshal_unsafe \
		flotilla/proto/$f.proto
done
protoc -I flotilla/proto=proto --go_out=. --go_opt=module=$module \
	--go-grpc_out=. --go-grpc_opt=module=$module flotilla/proto/adminpb/admin.proto
