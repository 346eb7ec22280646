package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

func newRangeAdd(a *app, flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "add RANGE STORE",
		Short: "Give a store a replica of a range",
		Args:  exactly(2, "the ids of a range and of a store"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.moveReplica(cmd, flags, args[0], nil, &args[1])
		},
	}
}

func newRangeRemove(a *app, flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "remove RANGE STORE",
		Short: "Take a store's replica of a range away",
		Args:  exactly(2, "the ids of a range and of a store"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.moveReplica(cmd, flags, args[0], &args[1], nil)
		},
	}
}

func newRangeMove(a *app, flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "move RANGE FROM TO",
		Short: "Move a replica of a range from one store to another",
		Args:  exactly(3, "the ids of a range and of two stores"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.moveReplica(cmd, flags, args[0], &args[1], &args[2])
		},
	}
}

// moveReplica takes a replica from a store, gives one to another, or both. An argument that
// is there and empty is none of these wishes: a variable of a script was not set.
func (a *app) moveReplica(cmd *cobra.Command, flags *clientFlags, rangeArg string, from, to *string) error {
	if err := flags.check(cmd); err != nil {
		return err
	}
	req := &adminpb.MoveReplicaRequest{}
	for _, arg := range []struct {
		text *string
		what string
		id   *uint64
	}{{&rangeArg, "range", &req.RangeId}, {from, "store", &req.FromStoreId}, {to, "store", &req.ToStoreId}} {
		if arg.text == nil {
			continue
		}
		var err error
		if *arg.id, err = idOf(cmd, *arg.text, arg.what); err != nil {
			return err
		}
	}
	if req.FromStoreId == req.ToStoreId {
		return &usageError{cmd, fmt.Errorf("store %d is named twice: a replica moves to another store", req.ToStoreId)}
	}
	var resp *adminpb.MoveReplicaResponse
	err := flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) (err error) {
		resp, err = c.MoveReplica(ctx, req)
		return err
	})
	if err != nil {
		return fmt.Errorf("move a replica of range %d: %w", req.RangeId, err)
	}
	view := viewOf(&adminpb.RangeInfo{Descriptor_: resp.Descriptor_}, flags.hex)
	if flags.output == "json" {
		return a.printJSON(view.Replicas)
	}
	fmt.Fprintf(a.out, "range %d: replicas %s\n", req.RangeId, formatReplicas(view.Replicas))
	return nil
}

// idOf reads the id of a range or a store.
func idOf(cmd *cobra.Command, text, what string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, &usageError{cmd, fmt.Errorf("%q is not the id of a %s", text, what)}
	}
	return id, nil
}
