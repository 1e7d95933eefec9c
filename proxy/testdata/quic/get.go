// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// get asks for a URL as browsers do that know a server of HTTP/3.
func get(addr netip.AddrPort, url, caFile string) error {
	text, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	config := &tls.Config{RootCAs: roots}
	overQUIC := &http3.Transport{TLSClientConfig: config, Dial: func(ctx context.Context, _ string, tlsConfig *tls.Config, c *quic.Config) (*quic.Conn, error) {
		return quic.DialAddrEarly(ctx, addr.String(), tlsConfig, c)
	}}
	defer overQUIC.Close()
	overTCP := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, addr.String())
	}}
	for _, over := range []http.RoundTripper{overQUIC, overTCP} {
		began := time.Now()
		response, err := (&http.Client{Transport: over, Timeout: patience}).Get(url)
		if err != nil {
			fmt.Printf("failed after %s: %v\n", time.Since(began), err)
			continue
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		fmt.Printf("%s %d %s (%v)\n", response.Proto, response.StatusCode, body, err)
		return nil
	}
	return fmt.Errorf("no way to %s", url)
}
