package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/keys"
	"github.com/flotilladb/flotilla/internal/rpc"
	"github.com/flotilladb/flotilla/internal/stop"
	"github.com/flotilladb/flotilla/placement"
	"github.com/flotilladb/flotilla/proto/metapb"
)

// A node without data joins a cluster that runs: it asks any node of it for ids,
// which that one gets from the system range, and begins when they are durable on
// both sides. It names itself by a nonce that is in its folder before it asks, so
// whoever is interrupted asks again and gets the same.

// peerQuestion is what a process asks of a node before it has lanes to it. It is JSON:
// asked once in a node's life, and of nodes of other versions.
type peerQuestion struct {
	// Kind is askJoin or askWho.
	Kind string
	// Cluster is the asker's, 0 if it has none; Self is its id there, 0: it has none, or
	// is of an older version.
	Cluster uint64
	Self    metapb.NodeID
	Name    string
	// Nonce is that of the asker's folder, 0: it has none, or is of an older version.
	Nonce                uint64
	PeerURLs, ClientURLs []string
	// Reads is the highest format that the asker reads, 0: it is of a version that does not
	// say so.
	Reads metapb.Format
}

// The kinds of questions.
const (
	askJoin = "join" // let me in
	askWho  = "who"  // who are you?
)

// peerAnswer answers a question.
type peerAnswer struct {
	Cluster uint64
	Node    metapb.NodeID
	Store   metapb.StoreID
	Members []placement.Member
	// Refused says why not; with Final it is of no use to ask again.
	Refused string
	Final   bool
	// Member: Self is a member, as far as this node knows. Removed: it was one. OtherFolder:
	// it is one, and had another folder. OldVersion: the cluster writes what it does not read.
	Member, Removed, OtherFolder, OldVersion bool
}

// ErrNotLetIn says that a cluster does not take this node.
var ErrNotLetIn = errors.New("the cluster does not let this node in")

// ErrJoinBegun says that a folder is between two clusters.
var ErrJoinBegun = errors.New("the data folder belongs to a node that was about to join a cluster; give --join again, or another --data-dir")

// ErrNoFolder says that a node of a cluster that is there has no data and nobody to ask.
var ErrNoFolder = errors.New("--initial-cluster-state is existing, the data folder is empty, and no other node is named that could let this one in; " +
	"correct --data-dir, name the others with --initial-cluster or --join, or say new to begin a cluster")

// rowJoined is the store's row of a node that joined, or is about to: a format (1),
// then its nonce.
const (
	rowJoined    = "joined"
	joinedFormat = 1
)

// nonce is what tells a folder from others.
type nonce uint64

func (v *nonce) decode(b []byte) error {
	if len(b) != 9 || b[0] != joinedFormat {
		return errors.New("the row is damaged or of a newer version")
	}
	*v = nonce(binary.BigEndian.Uint64(b[1:]))
	return nil
}

// identify returns who the store is, and joins a cluster if that is not known yet.
func identify(ctx context.Context, cfg *Config, eng engine.Engine) (*metapb.StoreIdent, error) {
	var mine nonce
	joined, err := readRow(eng, keys.StoreRow(rowJoined), mine.decode)
	if err != nil {
		return nil, fmt.Errorf("how the node joined: %w", err)
	}
	ident := &metapb.StoreIdent{}
	known, err := readRow(eng, keys.StoreIdent(), ident.UnmarshalVT)
	switch {
	case err != nil:
		return nil, fmt.Errorf("store identity: %w", err)
	case known && joined:
		return ident, checkFormat(ident)
	case !known && len(cfg.Join) > 0:
		return join(ctx, cfg, eng, mine)
	case joined:
		return nil, ErrJoinBegun
	case !known && cfg.Existing:
		return nil, ErrNoFolder
	}
	return IdentifyStatic(eng, &Static{Token: cfg.ClusterToken, Members: cfg.Members, Nonce: rand.Uint64() | 1}, cfg.Name)
}

// join asks the join addresses, one after the other and for ever, until one lets
// this node in.
func join(ctx context.Context, cfg *Config, eng engine.Engine, mine nonce) (*metapb.StoreIdent, error) {
	if mine == 0 {
		mine = nonce(rand.Uint64() | 1)
		if err := writeRow(eng, rowJoined, binary.BigEndian.AppendUint64([]byte{joinedFormat}, uint64(mine))); err != nil {
			return nil, fmt.Errorf("begin to join: %w", err)
		}
	}
	caller, err := newCaller(cfg)
	if err != nil {
		return nil, err
	}
	defer caller.stop()
	q := &peerQuestion{Kind: askJoin, Name: cfg.Name, Nonce: uint64(mine), PeerURLs: cfg.PeerURLs, ClientURLs: cfg.ClientURLs, Reads: cfg.reads}
	told, toldAt, pause := "", time.Time{}, joinPauseMin
	for {
		var failed []string
		for _, addr := range cfg.Join {
			r, err := caller.ask(ctx, addr, q)
			switch {
			case ctx.Err() != nil:
				return nil, fmt.Errorf("join %s: %w", strings.Join(cfg.Join, ","), ctx.Err())
			case err != nil:
				failed = append(failed, err.Error())
			case r.Final:
				return nil, fmt.Errorf("%w: %s says: %s", ErrNotLetIn, addr, r.Refused)
			case r.Refused != "":
				failed = append(failed, addr+": "+r.Refused)
			default:
				cfg.Logger.Info("joined a cluster", "by", addr, "cluster", fmt.Sprintf("%x", r.Cluster), "node", r.Node, "store", r.Store)
				return WriteJoined(eng, r.Cluster, &placement.JoinReply{Node: r.Node, Store: r.Store}, r.Members)
			}
		}
		if text := strings.Join(failed, "; "); text != told || time.Since(toldAt) >= joinTell {
			cfg.Logger.Warn("no node at the join addresses lets this one in yet, trying again for ever",
				"join", strings.Join(cfg.Join, ","), "error", text)
			told, toldAt = text, time.Now()
		}
		if sleep(ctx, pause/2+rand.N(pause)) != nil {
			continue // the next attempt says so
		}
		pause = min(2*pause, joinPauseMax)
	}
}

const (
	joinPauseMin = 200 * time.Millisecond
	joinPauseMax = 5 * time.Second
	// joinTell is after how long the same failure is told again.
	joinTell = 30 * time.Second
	// callTimeout bounds one question.
	callTimeout = 5 * time.Second
)

// WriteJoined makes an empty folder the store that it was let in as.
func WriteJoined(eng engine.Engine, cluster uint64, ids *placement.JoinReply, members []placement.Member) (*metapb.StoreIdent, error) {
	ident := &metapb.StoreIdent{
		ClusterId: cluster, NodeId: uint64(ids.Node), StoreId: uint64(ids.Store), FormatVersion: FormatVersion,
	}
	raw, err := ident.MarshalVT()
	if err != nil {
		return nil, err
	}
	book, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	b := eng.NewBatch()
	defer b.Close()
	b.Set(keys.StoreIdent(), raw)
	b.Set(keys.StoreRow(rowBook), book)
	return ident, eng.Commit(b, true)
}

func writeRow(eng engine.Engine, name string, value []byte) error {
	b := eng.NewBatch()
	defer b.Close()
	b.Set(keys.StoreRow(name), value)
	return eng.Commit(b, true)
}

// caller asks nodes while this one has no place among them.
type caller struct {
	t       *rpc.Transport
	stopper *stop.Stopper
}

func newCaller(cfg *Config) (*caller, error) {
	c := &caller{stopper: stop.New(context.Background())}
	var err error
	c.t, err = rpc.New(rpc.Config{
		Resolve: func(metapb.StoreID) (string, bool) { return "", false },
		Deliver: func(metapb.StoreID, rpc.Lane, []byte) bool { return false },
		TLS:     cfg.PeerTLS, Stopper: c.stopper, Logger: cfg.Logger.With("part", "join"),
	})
	return c, err
}

func (c *caller) stop() { c.stopper.Stop() }

func (c *caller) ask(ctx context.Context, addr string, q *peerQuestion) (*peerAnswer, error) {
	return ask(ctx, c.t, addr, q)
}

func ask(ctx context.Context, t *rpc.Transport, addr string, q *peerQuestion) (*peerAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if raw, err = t.Call(ctx, addr, raw); err != nil {
		return nil, err
	}
	r := &peerAnswer{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%s is no node of this version: %w", addr, err)
	}
	if r.Refused == "" && (r.Cluster == 0 || q.Kind == askJoin && (r.Node == 0 || r.Store == 0)) {
		return nil, fmt.Errorf("%s gives no ids", addr)
	}
	return r, nil
}
