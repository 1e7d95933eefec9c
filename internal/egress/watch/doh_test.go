// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os/exec"
	"testing"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"golang.org/x/net/dns/dnsmessage"
)

// answered is the answer to a query: every name has the host's address.
func answered(query []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, errors.Join(errors.New("not a query"), err)
	}
	m.Response, m.Additionals = true, nil
	if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5}, Body: &dnsmessage.AResource{A: [4]byte{203, 0, 113, 2}}}}
	}
	return m.Pack()
}

// dohAnswers answers DNS over HTTPS.
func dohAnswers(w http.ResponseWriter, r *http.Request) {
	query, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<16))
	if err != nil {
		return
	}
	answer, err := answered(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/dns-message")
	_, _ = w.Write(answer)
}

// TestDNSOverHTTPS: what a client resolves over HTTPS no answer of DNS tells. The resolver has its own name, a host its
// name by the ClientHello, and what says no name stays an address.
func TestDNSOverHTTPS(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	w := newWorld(t, "198.51.100.1/32")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/dns-query" {
			dohAnswers(w, r)
		}
	})
	// One server for both offers HTTP/2 and does not speak it, where it serves without TLS first.
	plain := &http.Server{Handler: handler}
	secure := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}, ErrorLog: log.New(io.Discard, "", 0)}
	t.Cleanup(func() { _, _ = plain.Close(), secure.Close() })
	for address, serve := range map[string]func(net.Listener) error{
		"203.0.113.2:443":  func(ln net.Listener) error { return secure.ServeTLS(ln, "", "") },
		"203.0.113.2:8443": func(ln net.Listener) error { return secure.ServeTLS(ln, "", "") },
		"203.0.113.2:8080": plain.Serve,
	} {
		var ln net.Listener
		scratch.Must(t, w.away.Do(func() (err error) { ln, err = net.Listen("tcp", address); return err }))
		go func() { _ = serve(ln) }()
	}
	watched := startWatch(t, w, modes.Watch{})
	for _, url := range []string{"https://hidden.example:8443/", "http://plain.example:8080/"} {
		scratch.Must(t, w.pod.Do(func() error {
			out, err := exec.Command("curl", "-sSk", "-4", "--max-time", "60", "--resolve", "doh.example:443:203.0.113.2", "--doh-insecure", "--doh-url", "https://doh.example/dns-query", url).CombinedOutput()
			if err != nil {
				t.Logf("curl %s: %s", url, out)
			}
			return err
		}))
	}
	report := w.await(t, watched, func(rows []Row) bool {
		return rowOf(Report{Rows: rows}, "hidden.example").Received > 0 && rowOf(Report{Rows: rows}, "203.0.113.2").Received > 0
	})
	for host, want := range map[string]Row{"doh.example": {Port: 443, By: "sni"}, "hidden.example": {Port: 8443, By: "sni"}, "203.0.113.2": {Port: 8080, By: byAddress}} {
		if row := rowOf(report, host); row.Port != want.Port || row.By != want.By {
			t.Errorf("%s: %+v, want port %d by %s", host, row, want.Port, want.By)
		}
	}
	if len(report.Rows) != 3 {
		t.Errorf("%+v", report.Rows)
	}
}
