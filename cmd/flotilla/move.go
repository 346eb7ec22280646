package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/proto/adminpb"
	"github.com/flotilladb/flotilla/proto/metapb"
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
	var now *metapb.Descriptor
	begun := false // an endpoint was asked that did not answer
	err := flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) error {
		var at peer.Peer
		resp, err := c.MoveReplica(ctx, req, grpc.Peer(&at))
		if err == nil {
			now = resp.Descriptor_
			return nil
		}
		if begun && !unreachable(status.Convert(err)) {
			if now = moved(ctx, c, req); now != nil {
				return nil
			}
		}
		begun = begun || at.Addr != nil
		return err
	})
	if err != nil {
		return fmt.Errorf("move a replica of range %d: %w", req.RangeId, err)
	}
	view := viewOf(&adminpb.RangeInfo{Descriptor_: now}, flags.hex)
	if flags.output == "json" {
		return a.printJSON(view.Replicas)
	}
	fmt.Fprintf(a.out, "range %d: replicas %s\n", req.RangeId, formatReplicas(view.Replicas))
	return nil
}

// moved returns the range if it is as a move leaves it, else nil. An endpoint that was asked
// before may have done it, and not have got to say so: the next one, which has nothing to do,
// refuses.
func moved(ctx context.Context, c adminpb.AdminClient, req *adminpb.MoveReplicaRequest) *metapb.Descriptor {
	resp, err := c.ShowRange(ctx, &adminpb.ShowRangeRequest{RangeId: req.RangeId})
	if err != nil {
		return nil
	}
	d := resp.GetRange().GetDescriptor_()
	came := req.ToStoreId == 0
	for _, r := range d.GetReplicas() {
		if r.StoreId == req.FromStoreId {
			return nil
		}
		came = came || r.StoreId == req.ToStoreId && (r.Kind == metapb.ReplicaKind_VOTER || r.Kind == metapb.ReplicaKind_INCOMING)
	}
	if !came {
		return nil
	}
	return d
}

// idOf reads the id of a range or a store.
func idOf(cmd *cobra.Command, text, what string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, &usageError{cmd, fmt.Errorf("%q is not the id of a %s", text, what)}
	}
	return id, nil
}
