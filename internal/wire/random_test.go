package wire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/flotilladb/flotilla/engine"
	"github.com/flotilladb/flotilla/internal/frame"
	"github.com/flotilladb/flotilla/proto/metapb"
	"github.com/flotilladb/flotilla/proto/peerpb"
	"github.com/flotilladb/flotilla/raftgroup"
)

// filler fills values of any of our types with random contents. Where it can,
// every field gets something other than its zero: a field that the codec forgets
// does not come back.
type filler struct {
	rng *rand.Rand
	// large: texts and lists are long.
	large bool
}

func newFiller(seed uint64) *filler { return &filler{rng: rand.New(rand.NewPCG(seed, 7))} }

func (f *filler) number() uint64 {
	return f.rng.Uint64() >> f.rng.IntN(64)
}

func (f *filler) blob() []byte {
	if f.large {
		return make([]byte, 300)
	}
	if f.rng.IntN(8) == 0 {
		return nil
	}
	b := make([]byte, 1+f.rng.IntN(200)>>f.rng.IntN(8))
	for i := range b {
		b[i] = byte(f.rng.Uint32())
	}
	return b
}

func (f *filler) length() int {
	if f.large {
		return 30
	}
	return f.rng.IntN(4)
}

// kinds returns one value of every type that a switch of ours makes.
func kinds[T any](make func(byte) T) (all []T) {
	for k := range 256 {
		if v := make(byte(k)); any(v) != nil && !reflect.ValueOf(v).IsNil() {
			all = append(all, v)
		}
	}
	return all
}

func bodies() []peerpb.Body { return kinds(newBody) }
func replies() []any        { return kinds(newReply) }
func ops() []any            { return kinds(newOp) }

// fill fills what v points to.
func (f *filler) fill(v reflect.Value) {
	switch v.Type() {
	case reflect.TypeFor[raftgroup.RangeMessage]():
		v.Set(reflect.ValueOf(raftgroup.RangeMessage{RangeID: metapb.RangeID(f.number()), Message: f.raft()}))
		return
	case reflect.TypeFor[frame.Lane]():
		v.SetUint(uint64(f.rng.IntN(int(frame.Snapshots) + 1)))
		return
	case reflect.TypeFor[frame.Parting]():
		v.SetUint(uint64(f.rng.IntN(int(frame.Ends) + 1)))
		return
	case reflect.TypeFor[frame.Formats]():
		v.Set(reflect.ValueOf(frame.Formats{Reads: metapb.Format(1 + f.number()/2), Cluster: metapb.Format(f.number())}))
		return
	case reflect.TypeFor[peerpb.Reply]():
		v.Set(reflect.ValueOf(f.reply()))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(f.rng.IntN(4) > 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(f.number()))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(f.number())
	case reflect.String:
		v.SetString(fmt.Sprintf("%x", f.blob()))
	case reflect.Slice:
		f.fillSlice(v)
	case reflect.Pointer:
		if m, ok := v.Interface().(proto.Message); ok {
			m = m.ProtoReflect().New().Interface()
			f.message(m.ProtoReflect(), 4)
			v.Set(reflect.ValueOf(m))
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Interface:
		v.Set(f.choose(v.Type()))
	default:
		panic("no random " + v.Type().String())
	}
}

func (f *filler) fillSlice(v reflect.Value) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(f.blob())
		return
	}
	n := f.length()
	if n == 0 {
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		f.fill(v.Index(i))
	}
}

// choose makes a value of one of the types behind an interface.
func (f *filler) choose(t reflect.Type) reflect.Value {
	switch t {
	case reflect.TypeFor[peerpb.Body]():
		all := bodies()
		return f.filled(all[f.rng.IntN(len(all))])
	case reflect.TypeFor[proto.Message]():
		all := []proto.Message{&pb.PutRequest{}, &pb.DeleteRangeRequest{}, &pb.TxnRequest{}}
		return f.filled(all[f.rng.IntN(len(all))])
	case reflect.TypeFor[error]():
		return reflect.ValueOf(f.error())
	case reflect.TypeFor[any]():
		all := ops()
		return f.filled(all[f.rng.IntN(len(all))])
	}
	panic("nothing to choose for " + t.String())
}

// filled fills a value behind a pointer anew.
func (f *filler) filled(p any) reflect.Value {
	v := reflect.New(reflect.TypeOf(p)).Elem()
	f.fill(v)
	if w, ok := v.Interface().(*peerpb.Write); ok { // keep the kind
		if old := p.(*peerpb.Write).Req; old != nil {
			w.Req = f.filled(old).Interface().(proto.Message)
		}
	}
	return v
}

func (f *filler) reply() peerpb.Reply {
	r := peerpb.Reply{ID: f.number()}
	if f.rng.IntN(4) == 0 {
		r.Err = f.error()
		return r
	}
	all := replies()
	r.Body = f.filled(all[f.rng.IntN(len(all))]).Interface()
	return r
}

func (f *filler) error() error {
	all := sentinels()
	switch f.rng.IntN(9) {
	case 8:
		return &peerpb.NotLeaderError{Range: 7, Leader: metapb.StoreID(f.number()), Term: f.number()}
	case 0:
		e := &peerpb.MovedError{}
		f.fill(reflect.ValueOf(e).Elem())
		return e
	case 1:
		return &peerpb.RefusedRevisionError{Closed: metapb.Revision(f.number())}
	case 2:
		return &engine.CorruptionError{Path: "p", Err: &RemoteError{Text: "damaged"}}
	case 3:
		return &RemoteError{Text: "something else"}
	case 4:
		return &RemoteError{Text: "put: it was not", Kind: all[f.rng.IntN(len(all))].err}
	}
	return all[f.rng.IntN(len(all))].err
}

// message fills a message of a contract or of etcd's API.
func (f *filler) message(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		nested := fd.Kind() == protoreflect.MessageKind
		switch {
		case fd.ContainingOneof() != nil && f.rng.IntN(2) > 0, nested && depth == 0, f.rng.IntN(10) == 0:
		case fd.IsList():
			l := m.Mutable(fd).List()
			for range f.length() {
				if nested {
					e := l.NewElement()
					f.message(e.Message(), depth-1)
					l.Append(e)
				} else {
					l.Append(f.scalar(fd))
				}
			}
		case nested:
			f.message(m.Mutable(fd).Message(), depth-1)
		default:
			m.Set(fd, f.scalar(fd))
		}
	}
}

func (f *filler) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(f.rng.IntN(2) > 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(f.rng.IntN(fd.Enum().Values().Len())))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(f.number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(f.number()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(f.number()))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(f.number())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(f.blob())
	}
	panic("no random " + fd.Kind().String())
}

// frame makes a random frame.
func (f *filler) frame() *frame.Frame {
	v := &frame.Frame{}
	f.fill(reflect.ValueOf(v).Elem())
	return v
}

// show writes a value out so that two of the same contents look the same. Empty
// and missing bytes and lists do.
func show(v any) string {
	var b strings.Builder
	showValue(&b, reflect.ValueOf(v))
	return b.String()
}

func showValue(b *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Invalid:
		b.WriteString("nil")
	case reflect.Interface:
		showValue(b, v.Elem())
	case reflect.Pointer:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		fmt.Fprintf(b, "&%s", v.Type().Elem())
		switch x := v.Interface().(type) {
		case proto.Message:
			data, err := proto.MarshalOptions{Deterministic: true}.Marshal(x)
			fmt.Fprintf(b, "(%x %v)", data, err)
		case error:
			if errors.Unwrap(x) == nil && v.Elem().NumField() == 1 && !v.Elem().Field(0).CanInterface() {
				fmt.Fprintf(b, "(%v at %p)", x, x) // a sentinel is one by its address
				return
			}
			showValue(b, v.Elem())
		default:
			showValue(b, v.Elem())
		}
	case reflect.Slice:
		b.WriteString("[")
		for i := range v.Len() {
			showValue(b, v.Index(i))
			b.WriteString(" ")
		}
		b.WriteString("]")
	case reflect.Struct:
		b.WriteString("{")
		for i := range v.NumField() {
			b.WriteString(v.Type().Field(i).Name + ":")
			showValue(b, v.Field(i))
			b.WriteString(" ")
		}
		b.WriteString("}")
	default:
		fmt.Fprintf(b, "%v", v.Interface())
	}
}
