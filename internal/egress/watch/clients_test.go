// SPDX-License-Identifier: Apache-2.0

//go:build linux

package watch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/capture"
	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/internal/sockdiag"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/rules"
)

const big2M = 2 << 20 // bytes of what servers answer with

// authority is a certificate authority of a test, and what it signs.
type authority struct {
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir-ca-*") // which other users may enter
	scratch.Must(t, err, os.Chmod(dir, 0o755))
	t.Cleanup(func() { scratch.Must(t, os.RemoveAll(dir)) })
	a := authority{dir: dir}
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	scratch.Must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a test's"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, a.key.Public(), a.key)
	scratch.Must(t, err)
	a.certificate, err = x509.ParseCertificate(der)
	scratch.Must(t, err)
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a authority) write(t *testing.T, name, typ string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	scratch.Must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der}), 0o644))
	return path
}

// sign writes a certificate for names, with its key, to one file.
func (a authority) sign(t *testing.T, names ...string) (path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	scratch.Must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, a.certificate, key.Public(), a.key)
	scratch.Must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	scratch.Must(t, err)
	path = filepath.Join(a.dir, "server.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	scratch.Must(t, os.WriteFile(path, text, 0o644))
	return path
}

// run starts a program of a namespace, which ends with the test.
func run(t *testing.T, ns *scratch.Namespace, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	scratch.Must(t, ns.Do(cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, output.String())
		}
	})
}

// servers are nginx for the first pair of addresses and HAProxy for the second.
func (w world) servers(t *testing.T, a authority) {
	t.Helper()
	for _, p := range []string{"nginx", "haproxy", "curl", "openssl", "/usr/bin/python3"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s", p)
		}
	}
	names := []string{"*.wild.example"}
	for _, c := range a.clients() {
		names = append(names, c.name)
	}
	pem := a.sign(t, names...)
	scratch.Must(t, os.WriteFile(filepath.Join(a.dir, "big"), make([]byte, big2M), 0o644))
	write := func(name, text string) string {
		path := filepath.Join(a.dir, name)
		scratch.Must(t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", a.dir)), 0o644))
		return path
	}
	conf := write("nginx.conf", `daemon off; pid DIR/nginx.pid; error_log stderr; user root;
events {}
http { access_log off; client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR; uwsgi_temp_path DIR; scgi_temp_path DIR;
client_max_body_size 100m;
server { listen 203.0.113.2:443 ssl http2; listen [2001:db8::2]:443 ssl http2; listen 203.0.113.2:80; ssl_certificate `+pem+`; ssl_certificate_key `+pem+`; root DIR;
location /up { proxy_pass http://203.0.113.2:80/sink; } location /sink { return 204; } } }
`)
	run(t, w.away, "nginx", "-c", conf, "-p", a.dir)
	conf = write("haproxy.cfg", `defaults
	mode http
	timeout connect 5s
	timeout client 20s
	timeout server 20s
listen tls
	bind 203.0.113.3:443 ssl crt `+pem+` alpn h2,http/1.1
	server nginx 203.0.113.2:80
`)
	run(t, w.away, "haproxy", "-db", "-f", conf)
	for _, address := range []string{"203.0.113.2:443", "[2001:db8::2]:443", "203.0.113.2:80", "203.0.113.3:443"} {
		scratch.Eventually(t, "a server at "+address, func() bool {
			return w.away.Do(func() error {
				c, err := net.Dial("tcp", address)
				if err == nil {
					c.Close()
				}
				return err
			}) == nil
		})
	}
}

// asGoClient has the test's own program be a client of net/http.
const asGoClient = "WEIR_GO_CLIENT"

func TestMain(m *testing.M) {
	if os.Getenv(asGoClient) == "" {
		os.Exit(m.Run())
	}
	if err := goClient(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// goClient fetches by HTTP/2 what the name has, from that address.
func goClient(name, address, ca string) error {
	text, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("https://" + name + "/big")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n != big2M || response.ProtoMajor != 2 {
		return fmt.Errorf("%d bytes by %s: %v", n, response.Proto, err)
	}
	return nil
}

// client is a program that calls a name at an address.
type client struct {
	why, name, address string
	by                 string
	user               uint32
	args               []string
}

const firstUser = 1000

var podAddresses = []netip.Addr{netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("2001:db8::1")}

func (a authority) clients() []client {
	ca, dir := filepath.Join(a.dir, "ca.pem"), a.dir
	curl := func(why, name, address, path, version string, more ...string) client {
		at := netip.MustParseAddrPort(address)
		host := at.Addr().String()
		if at.Addr().Is6() {
			host = "[" + host + "]"
		}
		return client{why, name, address, "sni", firstUser, append([]string{"curl", "-sSf", version, "--cacert", ca, "-o", "/dev/null",
			"--resolve", fmt.Sprintf("%s:%d:%s", name, at.Port(), host), fmt.Sprintf("https://%s:%d%s", name, at.Port(), path)}, more...)}
	}
	const python = `import ssl,socket,sys
c=ssl.create_default_context(cafile=sys.argv[1]); s=c.wrap_socket(socket.create_connection((sys.argv[2],443)),server_hostname=sys.argv[3])
s.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
n=0
while (b:=s.recv(65536)): n+=len(b)
assert n>2<<20, n`
	return []client{
		curl("curl, HTTP/1.1, IPv4, nginx", "h1v4.example", "203.0.113.2:443", "/big", "--http1.1"),
		curl("curl, HTTP/2, IPv4, nginx", "h2v4.example", "203.0.113.2:443", "/big", "--http2"),
		curl("curl, HTTP/1.1, IPv6, nginx", "h1v6.example", "[2001:db8::2]:443", "/big", "--http1.1"),
		curl("curl, HTTP/2, IPv6, nginx", "h2v6.example", "[2001:db8::2]:443", "/big", "--http2"),
		curl("curl, HAProxy", "haproxy.example", "203.0.113.3:443", "/big", "--http2"),
		curl("a name of a wildcard", "a.wild.example", "203.0.113.2:443", "/big", "--http1.1"),
		curl("an upload", "upload.example", "203.0.113.2:443", "/up", "--http1.1", "--data-binary", "@"+dir+"/big"),
		{"curl, without TLS", "plain.example", "203.0.113.2:80", "http", firstUser, []string{"curl", "-sSf", "-o", "/dev/null", "--resolve", "plain.example:80:203.0.113.2", "http://plain.example/big"}},
		{"openssl s_client", "openssl.example", "203.0.113.3:443", "sni", firstUser + 1, []string{"sh", "-c", "printf 'GET /big HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n' | openssl s_client -quiet -connect 203.0.113.3:443 -servername openssl.example -CAfile " + ca + " 2>/dev/null | wc -c"}},
		{"Go, HTTP/2, IPv6", "go.example", "[2001:db8::2]:443", "sni", 0, []string{"/proc/self/exe", "go.example", "[2001:db8::2]:443", ca}},
		{"Python", "python.example", "203.0.113.2:443", "sni", firstUser + 1, []string{"/usr/bin/python3", "-c", python, ca, "203.0.113.2", "python.example"}},
	}
}

// TestRealClients: each name is seen, with its user, and its bytes are those that the kernel of the
// server counts, within 1 %, as is the payload that the sets' bytes and packets tell of an address.
func TestRealClients(t *testing.T) {
	w := newWorld(t, "203.0.113.3/24")
	a := newAuthority(t)
	w.servers(t, a)
	server, err := openSockets(t.Context(), w.awayNamespace(t))
	scratch.Must(t, err)
	defer func() { _ = server.close() }()
	own, err := openSockets(t.Context(), w.ns)
	scratch.Must(t, err)
	defer func() { _ = own.close() }()
	watched, err := Start(t.Context(), w.ns, modes.Config{Mode: modes.ModeEgress, Watch: modes.Watch{Resolvers: []string{"203.0.113.2"}}}, capture.Options{}, nil)
	scratch.Must(t, err)
	t.Cleanup(func() { scratch.Must(t, watched.Close(context.Background())) })

	clients := a.clients()
	moved := map[string]share{} // by name, as the server's kernel counts it
	perAddress := map[netip.AddrPort]share{}
	sentAgain, receivedAgain := map[netip.AddrPort]uint64{}, map[netip.AddrPort]uint64{} // which the sets count, and tcp_info apart
	for _, c := range clients {
		cmd := exec.Command(c.args[0], c.args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.user, Gid: c.user}}
		cmd.Env = append(os.Environ(), "HOME=/tmp", asGoClient+"=1")
		if err := w.pod.Do(func() error {
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%s: %w: %s", c.why, err, out)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		at := netip.MustParseAddrPort(c.address)
		var all share
		scratch.Eventually(t, c.why+": the server's end of it", func() bool {
			ended, _, err := sockdiag.Ended(server.events)
			scratch.Must(t, err)
			for _, one := range ended {
				if one.Local == at && one.Remote.Port() != 0 && slices.Contains(podAddresses, one.Remote.Addr()) { // not nginx's and HAProxy's own
					all.Conns, all.Sent, all.Received = all.Conns+1, all.Sent+one.Traffic.Received, all.Received+one.Traffic.Sent
					receivedAgain[at] += one.Traffic.SentAgain
				}
			}
			return all.Conns > 0 && all.Sent+all.Received > big2M
		})
		moved[c.name] = all
		p := perAddress[at]
		perAddress[at] = share{p.Conns + all.Conns, 0, p.Sent + all.Sent, p.Received + all.Received}
	}

	find := func(c client) share {
		return watched.shared.of(Destination{rules.TCP, netip.MustParseAddrPort(c.address), fmt.Sprint(c.user)}, c.name)
	}
	w.await(t, watched, func([]Row) bool {
		for _, c := range clients {
			if find(c).Closed == 0 {
				return false
			}
		}
		return true
	})
	ended, _, err := sockdiag.Ended(own.events)
	scratch.Must(t, err)
	for _, one := range ended {
		sentAgain[one.Remote] += one.Traffic.SentAgain
	}
	report, err := watched.Report(t.Context())
	scratch.Must(t, err)
	for _, c := range clients {
		got, want := find(c), moved[c.name]
		t.Logf("%-28s %-16s sent %8d of %8d, received %8d of %8d", c.why, c.name, got.Sent, want.Sent, got.Received, want.Received)
		if !within(got.Sent, want.Sent) || !within(got.Received, want.Received) || got.Conns != want.Conns {
			t.Errorf("%s: counted %+v, the server's kernel %+v", c.why, got, want)
		}
		if row := rowOf(report, c.name); row.By != c.by || row.Owner != fmt.Sprint(c.user) {
			t.Errorf("%s: %+v", c.why, row)
		}
	}
	totals := map[netip.AddrPort]Total{}
	for d, x := range owned(watched.counts.totals) {
		totals[d.Addr] = totals[d.Addr].plus(x)
	}
	for at, want := range perAddress {
		got := totals[at]
		sent, received := got.Payload(at.Addr().Is6())
		t.Logf("%-20s payload by sets: sent %8d of %8d and %d again, received %8d of %8d and %d again", at, sent, want.Sent, sentAgain[at], received, want.Received, receivedAgain[at])
		if want.Received > 1<<20 && !between(received, want.Received, receivedAgain[at]) || want.Sent > 1<<20 && !between(sent, want.Sent, sentAgain[at]) {
			t.Errorf("%s: the sets tell %d and %d, the server's kernel %+v", at, sent, received, want)
		}
	}
	if report.Lost+report.Overflow+report.Incomplete != 0 || report.Unheard {
		t.Errorf("the report: %+v", report)
	}
}

// within reports whether two numbers differ by 1 % at most, or by what a TLS session's end takes.
func within(got, want uint64) bool {
	difference := max(got, want) - min(got, want)
	return difference <= want/100 || difference <= 64
}

// between is within, where some bytes were sent again: those whose first packet was counted too count twice.
func between(got, want, again uint64) bool {
	return within(got, want) || within(got, want+again) || want < got && got < want+again
}

func rowOf(r Report, host string) Row {
	for _, row := range r.Rows {
		if row.Host == host {
			return row
		}
	}
	return Row{}
}

// chromium calls a page without asking anybody else.
func chromium(t *testing.T, ns *scratch.Namespace, name, address string) {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs chromium")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--user-data-dir="+t.TempDir(),
		"--ignore-certificate-errors", "--host-resolver-rules=MAP * "+address, "--dump-dom", "https://"+name+"/")
	cmd.Stderr = io.Discard
	if err := ns.Do(cmd.Run); err != nil {
		t.Fatalf("chromium: %v", err)
	}
}

// TestBrowser: Chromium, which sends a post-quantum ClientHello of two packets with a made-up
// Encrypted Client Hello, and quic-go.
func TestBrowser(t *testing.T) {
	if os.Getenv("WEIR_SOAK") == "" {
		t.Skip("starts a browser and builds quic-go (WEIR_SOAK=1)")
	}
	w := newWorld(t, "203.0.113.3/24")
	w.servers(t, newAuthority(t))
	watched, err := Start(t.Context(), w.ns, modes.Config{Mode: modes.ModeEgress, Watch: modes.Watch{Resolvers: []string{"203.0.113.2"}}}, capture.Options{}, nil)
	scratch.Must(t, err)
	t.Cleanup(func() { scratch.Must(t, watched.Close(context.Background())) })
	program := filepath.Join(t.TempDir(), "quic")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "../../../proxy/testdata/quic"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	stdin, _ := io.Pipe()
	server := exec.Command(program, "server", "203.0.113.2:443")
	server.Stdin = stdin
	ready, err := server.StdoutPipe()
	scratch.Must(t, err, w.away.Do(server.Start))
	t.Cleanup(func() { _ = server.Process.Kill(); stdin.Close(); _ = server.Wait() })
	_, err = ready.Read(make([]byte, 16))
	scratch.Must(t, err)

	chromium(t, w.pod, "chromium.example", "203.0.113.2")
	cmd := exec.Command(program, "client", "203.0.113.2:443", "20")
	if err := w.pod.Do(func() error { out, err := cmd.CombinedOutput(); t.Logf("quic-go: %s", out); return err }); err != nil {
		t.Fatal(err)
	}
	report := w.await(t, watched, func(rows []Row) bool {
		return rowOf(Report{Rows: rows}, "chromium.example").Received > 0 && rowOf(Report{Rows: rows}, "quic.example").Received > 20<<14
	})
	for _, row := range report.Rows {
		t.Logf("%+v", row)
	}
	if a, b := rowOf(report, "chromium.example"), rowOf(report, "quic.example"); a.By != "sni" || b.By != "quic" || report.Incomplete > 0 {
		t.Errorf("%+v, %+v, %d incomplete", a, b, report.Incomplete)
	}
}
