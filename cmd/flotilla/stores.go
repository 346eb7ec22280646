package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/flotilladb/flotilla/proto/adminpb"
)

// storesView is the stores of a cluster as they are printed.
type storesView struct {
	ClusterFormat uint64      `json:"cluster_format"`
	NewestFormat  uint64      `json:"newest_format"`
	Waiting       []string    `json:"waiting"`
	Stores        []storeView `json:"stores"`
}

type storeView struct {
	ID        uint64 `json:"id"`
	Node      uint64 `json:"node"`
	Name      string `json:"name"`
	Reads     uint64 `json:"reads_format"` // 0: not heard of
	HoldsBack bool   `json:"holds_back"`
	Leaving   bool   `json:"leaving"`
}

func newStore(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look at the stores of a cluster",
		Args:  cobra.ArbitraryArgs,
		RunE:  needCommand,
	}
	flags := &clientFlags{}
	flags.add(cmd)
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List all stores, and the formats that they read",
		Long: "List all stores, and the formats that they read. The cluster writes only what all its\n" +
			"members read. While nodes are upgraded, some things wait for the last of them; this\n" +
			"says for which, and what waits. A store that leaves is of a node that is removed when\n" +
			"its ranges are elsewhere.",
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd); err != nil {
				return err
			}
			var resp *adminpb.ListStoresResponse
			err := flags.ask(cmd.Context(), func(ctx context.Context, c adminpb.AdminClient) (err error) {
				resp, err = c.ListStores(ctx, &adminpb.ListStoresRequest{})
				return err
			})
			if err != nil {
				return fmt.Errorf("list stores: %w", err)
			}
			return a.printStores(flags.output, resp)
		},
	})
	return cmd
}

func (a *app) printStores(output string, resp *adminpb.ListStoresResponse) error {
	v := storesView{
		ClusterFormat: resp.ClusterFormat, NewestFormat: resp.NewestFormat, Waiting: append([]string{}, resp.Waiting...), Stores: []storeView{},
	}
	for _, s := range resp.Stores {
		v.Stores = append(v.Stores, storeView{ID: s.StoreId, Node: s.NodeId, Name: s.Name, Reads: s.ReadsFormat, HoldsBack: s.HoldsBack, Leaving: s.Leaving})
	}
	if output == "json" {
		return a.printJSON(v)
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNODE\tNAME\tSTATE\tREADS FORMAT")
	for _, s := range v.Stores {
		reads := fmt.Sprint(s.Reads)
		if s.Reads == 0 {
			reads = "not heard"
		}
		if s.HoldsBack {
			reads += " (the cluster waits for it)"
		}
		state := "stays"
		if s.Leaving {
			state = "leaves"
		}
		fmt.Fprintf(w, "%d\t%x\t%s\t%s\t%s\n", s.ID, s.Node, s.Name, state, reads)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "The cluster writes format %d, the newest that is read is %d.\n", v.ClusterFormat, v.NewestFormat)
	if len(v.Waiting) > 0 {
		fmt.Fprintf(a.out, "What waits for that: %s.\n", strings.Join(v.Waiting, ", "))
	}
	return nil
}
