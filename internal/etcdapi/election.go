package etcdapi

import (
	"bytes"
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	epb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/flotilladb/flotilla/watchfeed"
)

// What etcd's Election service answers by itself.
var (
	errNoLeaderKey = status.Error(codes.Unknown, `"leader" field must be provided`)
	errNotElected  = status.Error(codes.Unknown, "election: not leader")
	errNobodyLeads = status.Error(codes.Unknown, "election: no leader")
)

// electionServer is the Election service: the oldest key of a queue leads, and
// its value is what the leader proclaims.
type electionServer struct {
	epb.UnsafeElectionServer

	*queue
}

// Campaign returns when the caller leads. If it cannot, its key is taken away
// again when the caller has gone.
func (s *electionServer) Campaign(ctx context.Context, r *epb.CampaignRequest) (*epb.CampaignResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	lease, err := s.session(ctx, r.Lease)
	if err != nil {
		return nil, asClient(err)
	}
	prefix := prefixOf(r.Name)
	key := keyOf(prefix, lease)
	txn, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{compareCreated(key, 0)},
		Success: []*pb.RequestOp{opPut(key, r.Value, lease)},
		Failure: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: key})},
	})
	if err != nil {
		return nil, asClient(err)
	}
	created := txn.Header.Revision
	if !txn.Succeeded { // a campaign of the same lease goes on, with a new value
		kv := txn.Responses[0].GetResponseRange().Kvs[0]
		created = kv.CreateRevision
		if !bytes.Equal(kv.Value, r.Value) {
			if _, err := s.proclaim(ctx, key, created, r.Value, lease); err != nil {
				s.giveUp(ctx, key, created)
				return nil, asClient(err)
			}
		}
	}
	if err := s.waitTurn(ctx, prefix, created-1); err != nil {
		if ctx.Err() != nil {
			s.giveUp(ctx, key, created)
		}
		return nil, asClient(err)
	}
	return &epb.CampaignResponse{
		Header: txn.Header,
		Leader: &epb.LeaderKey{Name: r.Name, Key: key, Rev: created, Lease: lease},
	}, nil
}

// giveUp takes a key away for a caller that has gone.
func (s *electionServer) giveUp(ctx context.Context, key []byte, created int64) {
	ctx, cancel := s.cleanup(ctx)
	defer cancel()
	_, _ = s.resign(ctx, key, created) // its lease ends it otherwise
}

func (s *electionServer) proclaim(ctx context.Context, key []byte, created int64, value []byte, lease int64) (*pb.ResponseHeader, error) {
	txn, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{compareCreated(key, created)},
		Success: []*pb.RequestOp{opPut(key, value, lease)},
	})
	if err != nil {
		return nil, err
	}
	if !txn.Succeeded {
		return nil, errNotElected
	}
	return txn.Header, nil
}

// Proclaim gives the leader's key a new value, if it still is the leader's.
func (s *electionServer) Proclaim(ctx context.Context, r *epb.ProclaimRequest) (*epb.ProclaimResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if r.Leader == nil {
		return nil, errNoLeaderKey
	}
	lease, err := s.session(ctx, r.Leader.Lease)
	if err != nil {
		return nil, asClient(err)
	}
	header, err := s.proclaim(ctx, r.Leader.Key, r.Leader.Rev, r.Value, lease)
	if err != nil {
		return nil, asClient(err)
	}
	return &epb.ProclaimResponse{Header: header}, nil
}

func (s *electionServer) resign(ctx context.Context, key []byte, created int64) (*pb.ResponseHeader, error) {
	txn, err := s.kv.Txn(ctx, &pb.TxnRequest{
		Compare: []*pb.Compare{compareCreated(key, created)},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: key}}}},
	})
	if err != nil {
		return nil, err
	}
	return txn.Header, nil
}

// Resign deletes the leader's key. That it was gone already is no fault.
func (s *electionServer) Resign(ctx context.Context, r *epb.ResignRequest) (*epb.ResignResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	if r.Leader == nil {
		return nil, errNoLeaderKey
	}
	header, err := s.resign(ctx, r.Leader.Key, r.Leader.Rev)
	if err != nil {
		return nil, asClient(err)
	}
	return &epb.ResignResponse{Header: header}, nil
}

// Leader returns the key that leads.
func (s *electionServer) Leader(ctx context.Context, r *epb.LeaderRequest) (*epb.LeaderResponse, error) {
	if err := checkCaller(ctx, s.id); err != nil {
		return nil, err
	}
	resp, err := s.kv.Range(ctx, oldest(prefixOf(r.Name)))
	if err != nil {
		return nil, asClient(err)
	}
	if len(resp.Kvs) == 0 {
		return nil, errNobodyLeads
	}
	return &epb.LeaderResponse{Header: resp.Header, Kv: resp.Kvs[0]}, nil
}

// Observe sends what leaders proclaim, in order. It may leave out what was
// proclaimed between two looks, never the last.
func (s *electionServer) Observe(r *epb.LeaderRequest, stream epb.Election_ObserveServer) error {
	ctx, prefix := stream.Context(), prefixOf(r.Name)
	if err := checkCaller(ctx, s.id); err != nil {
		return err
	}
	for {
		resp, err := s.kv.Range(ctx, oldest(prefix))
		if err != nil {
			return asClient(err)
		}
		if len(resp.Kvs) == 0 {
			// The first key that is put ends the watch, and is then looked for: it
			// need not be the oldest of its revision.
			err = s.watch(ctx, watchfeed.CreateRequest{
				Key: prefix, End: prefixEnd(prefix), Start: resp.Header.Revision + 1, NoDelete: true,
			}, func(*pb.ResponseHeader, *mvccpb.Event) (bool, error) { return false, nil })
		} else {
			err = s.follow(ctx, resp.Header, resp.Kvs[0], stream)
		}
		if err != nil {
			return asClient(err)
		}
	}
}

// follow sends what one leader proclaims until its key is gone.
func (s *electionServer) follow(
	ctx context.Context, header *pb.ResponseHeader, kv *mvccpb.KeyValue, stream epb.Election_ObserveServer,
) error {
	if err := stream.Send(&epb.LeaderResponse{Header: header, Kv: kv}); err != nil {
		return err
	}
	return s.watch(ctx, watchfeed.CreateRequest{Key: kv.Key, Start: header.Revision + 1},
		func(header *pb.ResponseHeader, ev *mvccpb.Event) (bool, error) {
			if ev.Type == mvccpb.Event_DELETE {
				return false, nil
			}
			return true, stream.Send(&epb.LeaderResponse{Header: header, Kv: ev.Kv})
		})
}
