// SPDX-License-Identifier: Apache-2.0

//go:build linux

package serve

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"golang.org/x/net/dns/dnsmessage"
)

// scene is a pod with the program in it, and the world.
type scene struct {
	t           testing.TB
	pod, world  *scratch.Namespace
	dir         string
	program     string
	ca          string
	certificate tls.Certificate // of the world's servers
	requests    sync.Map        // what the world's web server was asked, by host
	queries     atomic.Int64
	silent      atomic.Bool // the world's DNS server
	serving     *exec.Cmd
	said        chan struct{} // closed once the program has said its last
	log         bytes.Buffer
}

// records are what the world's DNS server knows.
var records = map[string]string{"oss.example": "203.0.113.2", "a.bucket.example": "203.0.113.2", "other.example": "203.0.113.2", "wrong.example": "203.0.113.2", "liar.example": "240.240.0.9"}

var build = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "weir-egress-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "weir-egress")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "../../../cmd/weir-egress")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return os.ReadFile(path)
})

func newScene(t testing.TB) *scene {
	t.Helper()
	if testing.Short() {
		t.Skip("builds weir-egress")
	}
	s := &scene{t: t, pod: scratch.ForTest(t), world: scratch.ForTest(t), dir: t.TempDir()}
	program, err := build()
	scratch.Must(t, err)
	s.program = filepath.Join(s.dir, "weir-egress")
	scratch.Must(t, os.WriteFile(s.program, program, 0o755))
	scratch.Must(t, scratch.Veth(s.pod, "eth0", s.world, "eth0"))
	for ns, addresses := range map[*scratch.Namespace][]string{s.pod: {"203.0.113.1/24", "2001:db8::1/64"}, s.world: {"203.0.113.2/24", "2001:db8::2/64"}} {
		scratch.Must(t, ns.Up("lo"), ns.Up("eth0"))
		for _, a := range addresses {
			scratch.Must(t, ns.AddAddress("eth0", netip.MustParsePrefix(a)))
		}
	}
	scratch.Must(t, s.pod.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("203.0.113.2")}),
		s.pod.AddRoute(scratch.Route{Dst: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("2001:db8::2")}))
	s.web()
	s.dns()
	return s
}

// web has the world serve HTTPS for its names but wrong.example, whose certificate is another's.
func (s *scene) web() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	scratch.Must(s.t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the world"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		DNSNames: []string{"oss.example", "*.bucket.example", "other.example"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	scratch.Must(s.t, err)
	s.ca = filepath.Join(s.dir, "ca.pem")
	scratch.Must(s.t, os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	s.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Store(r.Host+" "+r.Proto, true)
		w.Header().Set("Alt-Svc", `h3=":443"; ma=2592000`)
		switch r.URL.Path {
		case "/":
			fmt.Fprintf(w, "%s by %s", r.Host, r.Proto)
		case "/big":
			_, _ = w.Write(make([]byte, 1<<20))
		case "/bulk":
			for range benchBulk >> 20 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		case "/echo":
			_, _ = io.Copy(w, r.Body)
		default:
			http.NotFound(w, r)
		}
	})
	server := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.certificate}}, ErrorLog: log.New(io.Discard, "", 0)}
	for _, address := range []string{"203.0.113.2:443", "203.0.113.2:8443"} {
		var ln net.Listener
		scratch.Must(s.t, s.world.Do(func() (err error) { ln, err = net.Listen("tcp", address); return err }))
		go func() { _ = server.ServeTLS(ln, "", "") }()
	}
	s.t.Cleanup(func() { _ = server.Close() })
}

// dns has the world answer for its records, over UDP.
func (s *scene) dns() {
	var conn net.PacketConn
	scratch.Must(s.t, s.world.Do(func() (err error) { conn, err = net.ListenPacket("udp", "203.0.113.2:53"); return err }))
	s.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		for b := make([]byte, 4096); ; {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			s.queries.Add(1)
			var m dnsmessage.Message
			if s.silent.Load() || m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			address, known := records[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
			switch {
			case !known:
				m.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5}, Body: &dnsmessage.AResource{A: netip.MustParseAddr(address).As4()}}}
			}
			answer, err := m.Pack()
			if err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
}

// usual is the configuration of most tests.
const usual = `
version: 1
mode: egress
serve:
  dns: {upstream: ["203.0.113.2:53"]}
  virtual: {state: DIR/state.json}
  ca: DIR/ca.pem
  hosts:
  - {name: oss.example, originate: {80: 443}}
  - {name: wrong.example, originate: {80: 443}}
  - {name: liar.example}
  - {name: "*.bucket.example"}
metrics: {listen: "127.0.0.1:15020"}
`

// start starts the program, and returns once it serves, or what it said.
func (s *scene) start(configuration string, more ...string) error {
	s.t.Helper()
	path := filepath.Join(s.dir, "egress.yaml")
	scratch.Must(s.t, os.WriteFile(path, []byte(strings.ReplaceAll(configuration, "DIR", s.dir)), 0o644))
	cmd := exec.Command(s.program, append([]string{"serve", "-f", path, "--app", "ping"}, more...)...)
	errs, err := cmd.StderrPipe()
	scratch.Must(s.t, err, s.pod.Do(cmd.Start))
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		s.log.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "msg=serving") {
			s.serving = cmd
			said := make(chan struct{})
			s.said = said
			go func() {
				defer close(said)
				for lines.Scan() {
					s.log.WriteString(lines.Text() + "\n")
				}
			}()
			s.t.Cleanup(func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				<-said
				_ = cmd.Wait()
				if s.t.Failed() {
					s.t.Logf("the program said:\n%s", s.log.String())
				}
			})
			return nil
		}
	}
	return fmt.Errorf("%w: %s", cmd.Wait(), s.log.String())
}

// curl asks from the pod.
func (s *scene) curl(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("curl", append([]string{"-sS", "--max-time", "60", "--cacert", s.ca, "-w", " [%{http_code} %{remote_ip} HTTP/%{http_version}]"}, args...)...)
	var out []byte
	_ = s.pod.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	s.t.Logf("$ curl %s\n%s", strings.Join(args, " "), out)
	return string(out)
}

func (s *scene) metrics() string {
	s.t.Helper()
	cmd := exec.Command("curl", "-sS", "http://127.0.0.1:15020/stats/prometheus")
	var out []byte
	scratch.Must(s.t, s.pod.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }))
	return string(out)
}

func (s *scene) want(what, text string, parts ...string) {
	s.t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			s.t.Errorf("%s: %q is not in %q", what, p, text)
		}
	}
}

func (s *scene) stop() {
	s.t.Helper()
	scratch.Must(s.t, s.serving.Process.Signal(syscall.SIGTERM))
	<-s.said
}
