// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"

	"github.com/weir-mesh/weir/internal/escape"
	"github.com/weir-mesh/weir/proxy"
)

const (
	headerTime   = 10 * time.Second
	keepAlive    = time.Minute
	maxHeader    = 64 << 10 // bytes
	maxIdle      = 256      // connections to hosts
	maxIdleOfOne = 16
	dialTime     = 10 * time.Second
	flushAfter   = 10 * time.Millisecond // that a part of a body waits for more, where its length is known
	copyBuffer   = 32 << 10
)

// buffers are those that bodies are copied by.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if one, is := b.pool.Get().(*[copyBuffer]byte); is {
		return one[:]
	}
	return make([]byte, copyBuffer)
}

func (b *buffers) Put(one []byte) { b.pool.Put((*[copyBuffer]byte)(one)) }

// originator is a web server that passes requests on to their hosts over TLS.
type originator struct {
	server *Server
	http   *http.Server
	conns  chan net.Conn
	closed chan struct{}
	done   sync.WaitGroup
}

type targetKey struct{}

func newOriginator(s *Server) *originator {
	o := &originator{server: s, conns: make(chan net.Conn), closed: make(chan struct{})}
	transport := &http.Transport{
		DialContext:     o.dial,
		TLSClientConfig: &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12},
		// A client's TLSClientConfig and DialContext keep net/http from HTTP/2 unless it is asked for.
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        maxIdle,
		MaxIdleConnsPerHost: maxIdleOfOne,
		IdleConnTimeout:     keepAlive,
		TLSHandshakeTimeout: dialTime,
		DisableCompression:  true, // bodies stay as they are
	}
	quiet := log.New(nowhere{}, "", 0)
	pass := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			t := r.In.Context().Value(targetKey{}).(target)
			r.Out.URL.Scheme, r.Out.URL.Host = "https", net.JoinHostPort(t.series.Host, strconv.Itoa(int(t.port)))
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del("Alt-Svc") // which names servers of HTTP/3, and none is served here (RFC 7838)
			return nil
		},
		Transport: transport, ErrorHandler: o.refuse, ErrorLog: quiet, FlushInterval: flushAfter, BufferPool: &buffers{},
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	o.http = &http.Server{Handler: o.counted(pass), ReadHeaderTimeout: headerTime, IdleTimeout: keepAlive, MaxHeaderBytes: maxHeader, ErrorLog: quiet, Protocols: &protocols,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, targetKey{}, c.(*served).target)
		}}
	o.done.Go(func() { _ = o.http.Serve(o) }) // until it is closed
	return o
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

// dial connects to a host, for requests that may come long after one another.
func (o *originator) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, word, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(word, 10, 16)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := o.server.connect(ctx, helloFollows, proxy.ConnInfo{}, host, uint16(port))
	if err != nil {
		return nil, err
	}
	_ = conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) // as Go has it; fails where the connection is closed
	return conn, nil
}

// refuse answers for a host that could not be asked, with the reason.
func (o *originator) refuse(w http.ResponseWriter, r *http.Request, err error) {
	t := r.Context().Value(targetKey{}).(target)
	o.server.failed(fmt.Errorf("request for %s: %w", t.series.Host, err))
	http.Error(w, fmt.Sprintf("weir-egress: https to %s port %d: %s", t.series.Host, t.port, escape.Text(err.Error())), http.StatusBadGateway)
}

// counted counts each request with the code of its answer. CONNECT is for proxies that clients ask for.
func (o *originator) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		a := &answered{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			if m := o.server.Metrics; m != nil {
				m.Requested(r.Context().Value(targetKey{}).(target).series, r.Method, a.code, time.Since(began))
			}
		}()
		if r.Method == http.MethodConnect {
			http.Error(a, "weir-egress: CONNECT is not served", http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(a, r)
	})
}

// answered remembers the code of an answer.
type answered struct {
	http.ResponseWriter
	code  int
	wrote bool
}

func (a *answered) WriteHeader(code int) {
	if !a.wrote && (code >= 200 || code == http.StatusSwitchingProtocols) {
		a.code, a.wrote = code, true
	}
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap is for [http.ResponseController], by which connections change their protocol.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// served is a connection that tells when it is closed.
type served struct {
	net.Conn
	target target
	once   sync.Once
	done   chan struct{}
}

func (c *served) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { close(c.done) })
	return err
}

// serve has the web server serve a connection, and returns once it is closed.
func (o *originator) serve(ctx context.Context, c *proxy.Conn, t target) error {
	one := &served{Conn: c.TCPConn, target: t, done: make(chan struct{})}
	select {
	case o.conns <- one:
	case <-ctx.Done():
		return one.Close()
	}
	select {
	case <-one.done:
	case <-ctx.Done():
		return one.Close()
	}
	return nil
}

// Accept, Close and Addr are of [net.Listener].
func (o *originator) Accept() (net.Conn, error) {
	select {
	case c := <-o.conns:
		return c, nil
	case <-o.closed:
		return nil, net.ErrClosed
	}
}

func (o *originator) Close() error   { return nil }
func (o *originator) Addr() net.Addr { return &net.TCPAddr{} }

func (o *originator) close() {
	close(o.closed)
	_ = o.http.Close()
	o.done.Wait()
}
