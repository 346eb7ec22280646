package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// trustView is what was done, as it is printed.
type trustView struct {
	Range uint64 `json:"range"`
	Store uint64 `json:"trusted_store"`
}

func newRangeTrust(a *app, flags *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "trust RANGE STORE",
		Short: "Say which replica of an undecided range is the right one",
		Long: "If the replicas of a range differ and no majority agrees, the range is undecided: none\n" +
			"of them is in service. This command says that the replica of a store is the right one.\n" +
			"It is in service again, and what the others have is thrown away: they are replaced by\n" +
			"its snapshot. There is no way back.\n\n" +
			"The store first reads all that it has of the range. If this command ends before that,\n" +
			"or too few stores answer, ask again.",
		Args: exactly(2, "the ids of a range and of a store"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			req := &adminpb.TrustReplicaRequest{}
			var err error
			if req.RangeId, err = idOf(cmd, args[0], "range"); err != nil {
				return err
			}
			if req.StoreId, err = idOf(cmd, args[1], "store"); err != nil {
				return err
			}
			err = flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) error {
				_, err := c.TrustReplica(ctx, req)
				return err
			})
			if err != nil {
				return fmt.Errorf("trust the replica of range %d on store %d: %w", req.RangeId, req.StoreId, err)
			}
			if flags.output == "json" {
				return a.printJSON(trustView{req.RangeId, req.StoreId})
			}
			fmt.Fprintf(a.out, "range %d: the replica on store %d is in service, the others are replaced\n", req.RangeId, req.StoreId)
			return nil
		},
	}
}
