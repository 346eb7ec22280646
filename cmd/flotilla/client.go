package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// clientFlags are the flags of commands that talk to a node.
type clientFlags struct {
	endpoints string
	timeout   time.Duration
	output    string
	hex       bool
}

func (c *clientFlags) add(cmd *cobra.Command) {
	fs := cmd.PersistentFlags()
	fs.StringVar(&c.endpoints, "endpoints", "127.0.0.1:2379", "gRPC endpoints, separated by commas; the first that answers is asked")
	fs.DurationVar(&c.timeout, "command-timeout", 5*time.Second, "time for each endpoint to answer")
	fs.StringVarP(&c.output, "output", "o", "table", "table or json")
	fs.BoolVar(&c.hex, "hex", false, "keys in hexadecimal, given and printed")
}

func (c *clientFlags) check(cmd *cobra.Command) error {
	if c.output != "table" && c.output != "json" {
		return &usageError{cmd, fmt.Errorf("--output: %q: want table or json", c.output)}
	}
	if len(c.targets()) == 0 {
		return &usageError{cmd, errors.New("--endpoints: want host:port, or several separated by commas")}
	}
	return nil
}

// targets are the endpoints without the scheme that etcdctl allows.
func (c *clientFlags) targets() (out []string) {
	for _, e := range strings.Split(c.endpoints, ",") {
		if e = strings.TrimPrefix(strings.TrimSpace(e), "http://"); e != "" {
			out = append(out, e)
		}
	}
	return out
}

// ask calls one endpoint after the other until one gives an answer, be it that
// the request is wrong.
func (c *clientFlags) ask(ctx context.Context, do func(context.Context, adminpb.AdminClient) error) error {
	var failed []error
	for _, target := range c.targets() {
		answered, err := c.askOne(ctx, target, do)
		if answered {
			return err
		}
		failed = append(failed, fmt.Errorf("%s: %w", target, err))
	}
	return errors.Join(failed...)
}

func (c *clientFlags) askOne(ctx context.Context, target string, do func(context.Context, adminpb.AdminClient) error) (answered bool, err error) {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err = do(ctx, adminpb.NewAdminClient(conn))
	if err == nil {
		return true, nil
	}
	st := status.Convert(err)
	return !unreachable(st), errors.New(st.Message())
}

// key reads a key from the command line.
func (c *clientFlags) key(cmd *cobra.Command, arg string) ([]byte, error) {
	if !c.hex {
		return []byte(arg), nil
	}
	key, err := hex.DecodeString(arg)
	if err != nil {
		return nil, &usageError{cmd, fmt.Errorf("%q is not hexadecimal", arg)}
	}
	return key, nil
}

// printJSON prints a value for other programs.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
