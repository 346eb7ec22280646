package watchfeed

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/datadriven"

	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
)

// doFeeds reads what has to do with feeds of other stores, in order, one a line:
//
//	lost 2                       located a m 2     (a span, "-" being no key, "inf" no end, and a store)
//	begin 2 7 a m 5              feed 7 of store 2, from a to m, after 5
//	end 2 7                      want 2 7 9        taken 2 1 100
//	news 2 7 9 k=v@8             feed 7 is told up to 9, by store 2
//	over 2 7 [compacted]
func (s *script) doFeeds(d *datadriven.TestData) error {
	st := Step{Compacted: s.compacted, Current: s.core.current, Asks: true}
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		if f[0] == "located" {
			l := &Located{Start: []byte(strings.TrimPrefix(f[1], "-")), Store: metapb.StoreID(number(f[3]))}
			if f[2] != "inf" {
				l.End = []byte(f[2])
			}
			st.Feeds = append(st.Feeds, FeedInput{Located: l})
			continue
		}
		in := FeedInput{Store: metapb.StoreID(number(f[1]))}
		switch f[0] {
		case "lost":
			in.Lost = true
		case "begin":
			b := peerpb.FeedBegin{Feed: uint64(number(f[2])), Start: []byte(f[3]), After: Revision(number(f[5]))}
			if f[4] != "inf" {
				b.End = []byte(f[4])
			}
			in.Ask = &peerpb.FeedAsk{Begin: []peerpb.FeedBegin{b}}
		case "end":
			in.Ask = &peerpb.FeedAsk{End: []uint64{uint64(number(f[2]))}}
		case "want":
			in.Ask = &peerpb.FeedAsk{Wants: []peerpb.FeedWant{{Feed: uint64(number(f[2])), Revision: Revision(number(f[3]))}}}
		case "taken":
			in.Ask = &peerpb.FeedAsk{TakenCount: int(number(f[2])), TakenBytes: int(number(f[3]))}
		case "news":
			ch := peerpb.FeedChange{Feed: uint64(number(f[2])), Through: Revision(number(f[3]))}
			for _, word := range f[4:] {
				ch.Events = append(ch.Events, s.feedEvents(word)...)
			}
			in.News = &peerpb.FeedNews{Count: 1, Bytes: 1 << 20, Changes: []peerpb.FeedChange{ch}}
		case "over":
			ch := peerpb.FeedChange{Feed: uint64(number(f[2])), Over: true}
			if len(f) > 3 {
				ch.Compacted = Revision(number(f[3]))
			}
			in.News = &peerpb.FeedNews{Count: 1, Changes: []peerpb.FeedChange{ch}}
		default:
			return fmt.Errorf("unknown line %q", line)
		}
		st.Feeds = append(st.Feeds, in)
	}
	s.core.Step(&st)
	return nil
}

func number(word string) int64 {
	n, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// feedEvents makes the events of one change.
func (s *script) feedEvents(word string) (out []peerpb.FeedEvent) {
	u := s.update([]string{word})
	for _, m := range u.Mutations {
		out = append(out, peerpb.FeedEvent{
			Row: peerpb.Row{Key: m.Key, Value: m.Value, CreateRevision: m.CreateRevision, ModRevision: u.Revision, Version: m.Version},
			Sub: m.Sub, Tombstone: m.Tombstone,
		})
	}
	return out
}

func describeFeed(o *FeedOutput) string {
	var out strings.Builder
	if l := o.Locate; l != nil {
		fmt.Fprintf(&out, "> locate [%s, %s)", l.Start, l.End)
		if l.Not != 0 {
			fmt.Fprintf(&out, " not %d", l.Not)
		}
		out.WriteString("\n")
	}
	if a := o.Ask; a != nil {
		fmt.Fprintf(&out, "> store %d:", o.Store)
		for _, b := range a.Begin {
			fmt.Fprintf(&out, " begin %d [%s, %s) after %d", b.Feed, b.Start, b.End, b.After)
		}
		for _, id := range a.End {
			fmt.Fprintf(&out, " end %d", id)
		}
		for _, w := range a.Wants {
			fmt.Fprintf(&out, " want %d up to %d", w.Feed, w.Revision)
		}
		if a.TakenCount > 0 {
			fmt.Fprintf(&out, " taken %d", a.TakenCount)
		}
		out.WriteString("\n")
	}
	if o.News != nil {
		for _, ch := range o.News.Changes {
			fmt.Fprintf(&out, "> store %d: feed %d", o.Store, ch.Feed)
			for _, e := range ch.Events {
				fmt.Fprintf(&out, " %s=%s@%d", e.Row.Key, e.Row.Value, e.Row.ModRevision)
				if e.Prev != nil {
					fmt.Fprintf(&out, "(was %s)", e.Prev.Value)
				}
			}
			switch {
			case ch.Compacted != 0:
				fmt.Fprintf(&out, " over, compacted %d", ch.Compacted)
			case ch.Over:
				out.WriteString(" over")
			default:
				fmt.Fprintf(&out, " up to %d", ch.Through)
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

func describeParts(parts []Part) (out string) {
	for _, p := range parts {
		out += fmt.Sprintf(" %s[%s, %s)", map[bool]string{true: "here ", false: "elsewhere "}[p.Here], p.Start, p.End)
	}
	return out
}
