// SPDX-License-Identifier: Apache-2.0

//go:build linux

package zds

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Workload is a pod as the proxy knows it.
type Workload struct {
	UID, Name, Namespace, ServiceAccount string
}

func (w Workload) String() string { return w.Namespace + "/" + w.Name }

// Kind is what a request is about. The numbers are the fields of WorkloadRequest.
type Kind protowire.Number

const (
	Add          Kind = 1 // serve the pod, whose namespace comes with the request
	Del          Kind = 2 // serve it no longer
	SnapshotSent Kind = 3 // that was every pod there is
	Keep         Kind = 5 // of a snapshot: the pod is still there; go on with the namespace that you have
)

func (k Kind) String() string {
	switch k {
	case Add:
		return "Add"
	case Del:
		return "Del"
	case SnapshotSent:
		return "SnapshotSent"
	case Keep:
		return "Keep"
	}
	return fmt.Sprintf("request %d", int32(k))
}

// Request is WorkloadRequest. Del and Keep have the workload's UID alone.
type Request struct {
	Kind     Kind
	Workload Workload
}

// Fields of the messages.
const (
	helloVersion = 1
	versionV1    = 1

	addUID, addInfo                         = 1, 2
	infoName, infoNamespace, infoServiceAcc = 1, 2, 3
	delUID                                  = 2
	keepUID                                 = 1

	responseAck = 1
	ackError    = 1
)

// AppendHello appends ZdsHello of version 1.
func AppendHello(b []byte) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, helloVersion, protowire.VarintType), versionV1)
}

// parseHello is an error where a packet is not ZdsHello of version 1.
func parseHello(b []byte) error {
	var version uint64
	err := eachField(b, func(number protowire.Number, v value) {
		if number == helloVersion {
			version = v.number
		}
	})
	if err == nil && version != versionV1 {
		return fmt.Errorf("version %d of the protocol (want %d)", version, versionV1)
	}
	return err
}

// Append appends the request's packet.
func (r Request) Append(b []byte) []byte {
	var body []byte
	switch w := r.Workload; r.Kind {
	case Add:
		info := appendText(appendText(appendText(nil, infoName, w.Name), infoNamespace, w.Namespace), infoServiceAcc, w.ServiceAccount)
		body = appendBytes(appendText(nil, addUID, w.UID), addInfo, info)
	case Del:
		body = appendText(nil, delUID, w.UID)
	case Keep:
		body = appendText(nil, keepUID, w.UID)
	}
	return appendBytes(b, protowire.Number(r.Kind), body)
}

// ParseRequest reads a packet of the server's. A request of a kind that is not known is an error.
func ParseRequest(b []byte) (r Request, err error) {
	var body []byte
	err = eachField(b, func(number protowire.Number, v value) { r.Kind, body = Kind(number), v.bytes })
	if err != nil {
		return r, err
	}
	w := &r.Workload
	switch r.Kind {
	case SnapshotSent:
		return r, nil
	case Del:
		return r, texts(body, map[protowire.Number]*string{delUID: &w.UID})
	case Keep:
		return r, texts(body, map[protowire.Number]*string{keepUID: &w.UID})
	case Add:
		var info []byte
		err := eachField(body, func(number protowire.Number, v value) {
			switch number {
			case addUID:
				w.UID = string(v.bytes)
			case addInfo:
				info = v.bytes
			}
		})
		return r, errors.Join(err, texts(info, map[protowire.Number]*string{infoName: &w.Name, infoNamespace: &w.Namespace, infoServiceAcc: &w.ServiceAccount}))
	}
	return r, fmt.Errorf("%s is not known", r.Kind)
}

// AppendAck appends WorkloadResponse: problem is "" for success.
func AppendAck(b []byte, problem string) []byte {
	return appendBytes(b, responseAck, appendText(nil, ackError, problem))
}

var errNoAck = errors.New("the packet is not an acknowledgement")

// parseAck reads what a proxy has against a request, "" for nothing.
func parseAck(b []byte) (problem string, err error) {
	var ack []byte
	found := false
	err = eachField(b, func(number protowire.Number, v value) {
		if number == responseAck && v.bytes != nil {
			ack, found = v.bytes, true
		}
	})
	switch {
	case err != nil:
		return "", err
	case !found:
		return "", errNoAck
	}
	return problem, texts(ack, map[protowire.Number]*string{ackError: &problem})
}

// value is that of a field: a number, or bytes, which are not nil.
type value struct {
	number uint64
	bytes  []byte
}

// eachField calls for each field of a message that is a number or has a length; others are passed over.
func eachField(b []byte, found func(protowire.Number, value)) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var v value
		switch kind {
		case protowire.VarintType:
			v.number, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			v.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if kind == protowire.VarintType || kind == protowire.BytesType {
			found(number, v)
		}
	}
	return nil
}

func texts(b []byte, into map[protowire.Number]*string) error {
	return eachField(b, func(number protowire.Number, v value) {
		if to := into[number]; to != nil {
			*to = string(v.bytes)
		}
	})
}

func appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
}

// appendText appends a field, which proto3 leaves out where it is empty.
func appendText(b []byte, number protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}
