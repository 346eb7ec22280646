package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// checkedView is what a check says about a replica, as it is printed.
type checkedView struct {
	Replica uint64 `json:"replica"`
	Store   uint64 `json:"store"`
	State   string `json:"state"`
}

func newRangeCheck(a *app, flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "check RANGE",
		Short: "Compare the replicas of a range",
		Long: "Compare what the replicas of a range have. One that differs from most others is\n" +
			"taken out of service and replaced. A range of several GiB takes minutes: the check\n" +
			"goes on when this command has timed out, and the nodes' logs say what came of it.",
		Args: exactly(1, "the id of a range"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			id, err := idOf(cmd, args[0], "range")
			if err != nil {
				return err
			}
			var resp *adminpb.CheckRangeResponse
			err = flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) (err error) {
				resp, err = c.CheckRange(ctx, &adminpb.CheckRangeRequest{RangeId: id})
				return err
			})
			if err != nil {
				return fmt.Errorf("check range %d: %w", id, err)
			}
			return a.printChecked(id, resp, flags.output == "json")
		},
	}
}

// printChecked prints what a check found.
func (a *app) printChecked(id uint64, resp *adminpb.CheckRangeResponse, asJSON bool) error {
	var views []checkedView
	for _, p := range resp.Replicas {
		v := checkedView{Replica: p.ReplicaId, Store: p.StoreId, State: "equal"}
		switch {
		case p.Corrupt:
			v.State = "corrupt"
		case p.Missing:
			v.State = "not compared"
		}
		views = append(views, v)
	}
	if asJSON {
		return a.printJSON(views)
	}
	fmt.Fprintf(a.out, "range %d at index %d\n", id, resp.Index)
	for _, v := range views {
		fmt.Fprintf(a.out, "replica %d on store %d: %s\n", v.Replica, v.Store, v.State)
	}
	return nil
}
