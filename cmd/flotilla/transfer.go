package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// transferView is one transfer as it is printed.
type transferView struct {
	Range  uint64 `json:"range"`
	Leader uint64 `json:"leader_store"`
}

func newRangeTransfer(a *app, flags *clientFlags) *cobra.Command {
	var to uint64
	cmd := &cobra.Command{
		Use:   "transfer RANGE --to STORE",
		Short: "Hand the leadership of a range to another store",
		Long: "Hand the leadership of a range to a store that has a voting replica of it. Clients\n" +
			"notice nothing but a few milliseconds.",
		Args: exactly(1, "the id of a range"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			id, err := idOf(cmd, args[0], "range")
			if err != nil {
				return err
			}
			if to == 0 {
				return &usageError{cmd, errors.New("--to names the store that is to lead")}
			}
			var resp *adminpb.TransferLeaderResponse
			err = flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) (err error) {
				resp, err = c.TransferLeader(ctx, &adminpb.TransferLeaderRequest{RangeId: id, ToStoreId: to})
				return err
			})
			if err != nil {
				return fmt.Errorf("transfer range %d to store %d: %w", id, to, err)
			}
			if flags.output == "json" {
				return a.printJSON(transferView{id, resp.LeaderStoreId})
			}
			fmt.Fprintf(a.out, "range %d: store %d leads\n", id, resp.LeaderStoreId)
			return nil
		},
	}
	cmd.Flags().Uint64Var(&to, "to", 0, "the store that is to lead")
	return cmd
}
