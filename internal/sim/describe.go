package sim

import (
	"fmt"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/flotilladb/flotilla/internal/model"
)

// describe is a request in one line.
func describe(req any) string {
	if st, ok := req.(model.Stream); ok {
		return "stream " + describe(st.Range)
	}
	m := req.(proto.Message)
	return fmt.Sprintf("%s{%s}", m.ProtoReflect().Descriptor().Name(), cut(prototext.MarshalOptions{}.Format(m)))
}

func describeAnswer(resp proto.Message, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("{%s}", cut(prototext.MarshalOptions{}.Format(resp)))
}

// cut keeps lines readable.
func cut(s string) string {
	const max = 1000
	if len(s) > max {
		return s[:max] + "..."
	}
	return s
}
