package load

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Report is what a run found. Names have their unit last.
type Report struct {
	Mode   string
	names  []string
	values map[string]float64
	wrong  map[string]bool // must be 0
}

func newReport(mode string) *Report {
	return &Report{Mode: mode, values: map[string]float64{}, wrong: map[string]bool{}}
}

func (r *Report) set(name string, value float64) {
	if _, ok := r.values[name]; !ok {
		r.names = append(r.names, name)
	}
	r.values[name] = value
}

// must adds a figure that must be 0.
func (r *Report) must(name string, count int64) {
	r.set(name, float64(count))
	r.wrong[name] = true
}

// latencies adds the percentiles of a histogram.
func (r *Report) latencies(name string, h *Histogram) {
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}} {
		r.set(name+"_"+q.name+"_ms", float64(h.Quantile(q.at))/float64(time.Millisecond))
	}
}

// Get returns a figure, 0 if there is none of that name.
func (r *Report) Get(name string) float64 { return r.values[name] }

// Names are those of all figures in order.
func (r *Report) Names() []string { return r.names }

// Wrong adds up what must be 0.
func (r *Report) Wrong() (total float64) {
	for name := range r.wrong {
		total += r.values[name]
	}
	return total
}

// MarshalJSON makes it one flat object.
func (r *Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Mode    string             `json:"mode"`
		Figures map[string]float64 `json:"figures"`
		Wrong   float64            `json:"wrong"`
	}{r.Mode, r.values, r.Wrong()})
}

// Print writes the figures one to a line.
func (r *Report) Print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range r.names {
		mark := ""
		if r.wrong[name] && r.values[name] != 0 {
			mark = "WRONG: must be 0"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", name, number(r.values[name]), mark)
	}
	return tw.Flush()
}

func number(x float64) string {
	if x == float64(int64(x)) {
		return fmt.Sprintf("%d", int64(x))
	}
	return fmt.Sprintf("%.3f", x)
}
