package load

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// CPU is the user and system time that a process used so far.
func CPU(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold blanks: count from behind it.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("load: /proc/%d/stat is short", pid)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("load: /proc/%d/stat has no times", pid)
	}
	return time.Duration(user+system) * (time.Second / 100), nil
}

// RSS is the memory that a process holds now, in bytes.
func RSS(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("load: process %d has no memory", pid)
}

// usage is what the server used at a moment; zero without a process id.
type usage struct {
	cpu time.Duration
	rss int64
	// counters are those of serverCounters that the server has.
	counters map[string]float64
}

// serverCounters are the counters of a server that a report shows, by their names
// there: watches that were too slow to be given an event as it came, and reads
// for watches that catch up.
var serverCounters = map[string]string{
	"flotilla_watch_fell_behind_total": "watch_fell_behind",
	"flotilla_watch_scans_total":       "watch_scans",
}

func (t *Target) usage() (u usage, err error) {
	if t.PID == 0 {
		return u, nil
	}
	if u.cpu, err = CPU(t.PID); err == nil {
		u.rss, err = RSS(t.PID)
	}
	u.counters = t.counters()
	return u, err
}

// counters asks the first endpoint for serverCounters. A server that has none, or
// shows no metrics there, has none of them in the report.
func (t *Target) counters() map[string]float64 {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + t.Endpoints[0] + "/metrics")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil
	}
	found := make(map[string]float64)
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if short := serverCounters[name]; short != "" {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				found[short] = v
			}
		}
	}
	return found
}

// usageSince adds what the server used since a moment, per operation and per
// thing that it now holds more of.
func (r *Report) usageSince(t *Target, before usage, ops, held int64, op, thing string) error {
	if t.PID == 0 {
		return nil
	}
	after, err := t.usage()
	if err != nil {
		return err
	}
	for name, v := range after.counters {
		r.set(name, v-before.counters[name])
	}
	r.set("server_cpu_s", (after.cpu - before.cpu).Seconds())
	if ops > 0 {
		r.set("server_cpu_per_"+op+"_us", float64((after.cpu-before.cpu).Microseconds())/float64(ops))
	}
	r.set("server_rss_mb", float64(after.rss)/1e6)
	r.set("server_rss_growth_mb", float64(after.rss-before.rss)/1e6)
	if held > 0 {
		r.set("server_rss_per_"+thing+"_bytes", float64(after.rss-before.rss)/float64(held))
	}
	return nil
}
