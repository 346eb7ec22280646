package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// ErrNoNet says that namespaces cannot be made here.
var ErrNoNet = errors.New("networks of their own need root and the program ip (iproute2)")

// Net is a bridge with a network namespace for each node on it, and this machine
// itself as one more port. A wire between two nodes can be cut in either
// direction: whoever is cut off is sent nothing, and is told nothing about it.
// Used by one goroutine at a time.
type Net struct {
	id    string
	nodes int
	macs  []string
	cuts  map[[2]int]bool
	lossy map[int]bool
}

// nowhere is nobody's hardware address: what is sent there is lost.
const nowhere = "02:00:00:00:00:fe"

// NewNet makes namespaces for so many nodes. Close removes them.
func NewNet(nodes int) (*Net, error) {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		return nil, ErrNoNet
	}
	// Names of interfaces have at most 15 bytes, and tests run side by side.
	n := &Net{nodes: nodes, cuts: make(map[[2]int]bool), lossy: make(map[int]bool)}
	for try := range 100 {
		n.id = fmt.Sprintf("fl%d", (os.Getpid()+try)%0x100)
		if err := ip("link", "add", n.bridge(), "type", "bridge"); err == nil {
			return n, n.open()
		} else if try == 99 {
			return nil, errors.Join(ErrNoNet, err)
		}
	}
	panic("unreachable")
}

// StartNet makes a net that is removed when the test ends, or skips the test.
func StartNet(t testing.TB, nodes int) *Net {
	t.Helper()
	n, err := NewNet(nodes)
	if errors.Is(err, ErrNoNet) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *Net) bridge() string        { return n.id + "br" }
func (n *Net) port(i int) string     { return fmt.Sprintf("%sp%d", n.id, i) }
func (n *Net) space(i int) string    { return fmt.Sprintf("%sn%d", n.id, i) }
func (n *Net) subnet() string        { return "198.18." + n.id[2:] + "." } // set aside for tests by RFC 2544
func (n *Net) Addr(i int) string     { return fmt.Sprintf("%s%d", n.subnet(), i+1) }
func (n *Net) within(i int) []string { return []string{"ip", "netns", "exec", n.space(i)} }

func (n *Net) open() error {
	err := n.commands(
		"link set "+n.bridge()+" up",
		"addr add "+n.subnet()+"254/24 dev "+n.bridge(),
	)
	for i := 0; i < n.nodes && err == nil; i++ {
		space, port := n.space(i), n.port(i)
		mac := fmt.Sprintf("02:00:00:00:01:%02x", i+1)
		n.macs = append(n.macs, mac)
		err = n.commands(
			"netns add "+space,
			"link add "+port+" type veth peer name eth0 netns "+space+" address "+mac,
			"link set "+port+" master "+n.bridge()+" up",
			"-n "+space+" link set lo up",
			"-n "+space+" link set eth0 up",
			"-n "+space+" addr add "+n.Addr(i)+"/24 dev eth0",
		)
	}
	if err != nil {
		return errors.Join(err, n.Close())
	}
	return nil
}

// Cut loses what node from sends to node to from now on, and nothing else.
func (n *Net) Cut(from, to int) error {
	n.cuts[[2]int{from, to}] = true
	return ip("-n", n.space(from), "neigh", "replace", n.Addr(to), "lladdr", nowhere, "dev", "eth0", "nud", "permanent")
}

// CutBoth cuts both directions.
func (n *Net) CutBoth(a, b int) error { return errors.Join(n.Cut(a, b), n.Cut(b, a)) }

// Isolate cuts a node off from all others, in both directions. This machine
// still reaches it.
func (n *Net) Isolate(i int) error {
	var errs []error
	for other := range n.nodes {
		if other != i {
			errs = append(errs, n.CutBoth(i, other))
		}
	}
	return errors.Join(errs...)
}

// Lose has a node's wire take little at a time: of what the node sends at once,
// to nodes or to clients, some packets are lost.
func (n *Net) Lose(i int) error {
	n.lossy[i] = true
	return run("tc", "-n", n.space(i), "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "3mbit", "burst", "4kb", "limit", "6kb")
}

// Heal makes all wires whole.
func (n *Net) Heal() error {
	var errs []error
	for i := range n.lossy {
		errs = append(errs, run("tc", "-n", n.space(i), "qdisc", "del", "dev", "eth0", "root"))
	}
	clear(n.lossy)
	for cut := range n.cuts {
		from, to := cut[0], cut[1]
		errs = append(errs, ip("-n", n.space(from), "neigh", "replace", n.Addr(to), "lladdr", n.macs[to], "dev", "eth0", "nud", "reachable"))
	}
	clear(n.cuts)
	return errors.Join(errs...)
}

// Close removes namespaces and bridge; the processes in them have ended.
func (n *Net) Close() error {
	var errs []error
	for i := range n.macs {
		// A namespace takes its wires away later, when the next net may want their names.
		errs = append(errs, ip("link", "del", n.port(i)), ip("netns", "del", n.space(i)))
	}
	n.macs = nil
	return errors.Join(append(errs, ip("link", "del", n.bridge()))...)
}

func (n *Net) commands(lines ...string) error {
	for _, line := range lines {
		if err := ip(strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

func ip(args ...string) error { return run("ip", args...) }

func run(program string, args ...string) error {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
