// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
)

// host is the host that a request asks for, of a head that may be cut short.
func host(head []byte) (string, error) {
	if !bytes.Contains(head, []byte("\r\n\r\n")) {
		end := bytes.LastIndex(head, []byte("\r\n"))
		if end < 0 {
			return "", errMore
		}
		head = append(bytes.Clone(head[:end]), "\r\n\r\n"...)
	}
	request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return "", err
	}
	name := request.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	if name == "" {
		return "", errNoName
	}
	return canonical(name), nil
}
