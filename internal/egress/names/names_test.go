// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var (
	client   = netip.MustParseAddrPort("192.0.2.1:40000")
	server   = netip.MustParseAddrPort("203.0.113.7:443")
	resolver = netip.MustParseAddrPort("10.96.0.10:53")
	began    = time.Unix(1, 0)
)

// ipPacket is an IPv4 packet of TCP or UDP.
func ipPacket(proto uint8, src, dst netip.AddrPort, seq uint32, data []byte) []byte {
	transport := make([]byte, 8, 32+len(data))
	if proto == protoTCP {
		transport = append(transport, make([]byte, 24)...) // with 12 bytes of options
		binary.BigEndian.PutUint32(transport[4:], seq)
		transport[12] = 8 << 4
	}
	binary.BigEndian.PutUint16(transport[0:], src.Port())
	binary.BigEndian.PutUint16(transport[2:], dst.Port())
	transport = append(transport, data...)
	head := make([]byte, 20)
	head[0], head[9] = 0x45, proto
	binary.BigEndian.PutUint16(head[2:], uint16(len(head)+len(transport)))
	copy(head[12:], src.Addr().AsSlice())
	copy(head[16:], dst.Addr().AsSlice())
	return append(head, transport...)
}

// read is what a reader makes of packets.
type read struct {
	claims  []Claim
	answers []Answer
}

func newRead() (*Reader, *read) {
	out := &read{}
	return NewReader(func(c Claim) { out.claims = append(out.claims, c) }, func(a Answer) { out.answers = append(out.answers, a) }), out
}

// helloOf is what crypto/tls sends first.
func helloOf(t testing.TB, name string, protocols ...string) []byte {
	t.Helper()
	return helloBy(t, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: name == ""})
}

func helloBy(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_ = tls.Client(there, config).Handshake()
		there.Close()
	}()
	buf := make([]byte, 1<<16)
	n, err := here.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	head := int(binary.BigEndian.Uint16(buf[3:])) + 5
	for n < head {
		more, err := here.Read(buf[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += more
	}
	return buf[:n]
}

func long(n int) []string {
	var out []string
	for range n {
		out = append(out, strings.Repeat("x", 200))
	}
	return out
}

// TestClientHellos are read of any length, cut wherever, in whatever order.
func TestClientHellos(t *testing.T) {
	for _, tt := range []struct {
		why       string
		protocols []string
		cut       int
		order     func([][]byte)
	}{
		{"whole", nil, 1 << 16, func([][]byte) {}},
		{"in packets of an MTU of 600", nil, 548, func([][]byte) {}},
		{"the second packet before the first", nil, 700, slices.Reverse[[][]byte]},
		{"byte for byte after the first six", nil, 40, func([][]byte) {}},
		{"of 8 kB in six packets", long(38), 1400, func([][]byte) {}},
	} {
		r, got := newRead()
		all := helloOf(t, "OSS.example.", tt.protocols...)
		var parts [][]byte
		for at := 0; at < len(all); at += tt.cut {
			parts = append(parts, ipPacket(protoTCP, client, server, 0xffffff00+uint32(at), all[at:min(len(all), at+tt.cut)]))
		}
		first := parts[0]
		tt.order(parts[1:])
		for _, p := range append([][]byte{first}, parts[1:]...) {
			r.Packet(p, began)
		}
		want := []Claim{{Tuple{protoTCP, client, server}, "oss.example", BySNI}}
		if !slices.Equal(got.claims, want) || len(r.pending) > 0 {
			t.Errorf("%s: %d bytes in %d packets: %v, %d pending, %+v", tt.why, len(all), len(parts), got.claims, len(r.pending), r.Counts)
		}
	}
}

func TestNoName(t *testing.T) {
	r, got := newRead()
	r.Packet(ipPacket(protoTCP, client, server, 1, helloOf(t, "")), began)
	if len(got.claims) != 1 || got.claims[0].Name != "" {
		t.Errorf("a ClientHello without a name: %v", got.claims)
	}
}

// TestEncryptedClientHello has the name of the outer one, which is that of whoever decrypts the inner one. That a client
// makes up an inner one (GREASE) looks the same.
func TestEncryptedClientHello(t *testing.T) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const extension, x25519, sha256, aes128 = "\xfe\x0d", "\x00\x20", "\x00\x01", "\x00\x01" // of RFC 9849 and RFC 9180
	prefixed := func(text string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text }
	outer := "outer.example"
	config := "\x07" + x25519 + prefixed(string(key.PublicKey().Bytes())) + prefixed(sha256+aes128) + "\x20" + string(rune(len(outer))) + outer + prefixed("")
	hello := helloBy(t, &tls.Config{ServerName: "inner.example", EncryptedClientHelloConfigList: []byte(prefixed(extension + prefixed(config)))})
	if !bytes.Contains(hello, []byte(extension)) || bytes.Contains(hello, []byte("inner.example")) {
		t.Fatal("it is not encrypted")
	}
	r, got := newRead()
	r.Packet(ipPacket(protoTCP, client, server, 1, hello), began)
	if want := []Claim{{Tuple{protoTCP, client, server}, outer, BySNI}}; !slices.Equal(got.claims, want) {
		t.Errorf("%v, want %v", got.claims, want)
	}
}

// TestGivesUp: a ClientHello that never ends is counted, and forgotten.
func TestGivesUp(t *testing.T) {
	r, got := newRead()
	part := helloOf(t, "a.example")[:100]
	for i := range maxPending + 10 {
		from := netip.AddrPortFrom(client.Addr(), uint16(i+1000))
		r.Packet(ipPacket(protoTCP, from, server, 1, part), began)
	}
	if len(r.pending) > maxPending || r.Counts.Incomplete != 10 {
		t.Errorf("%d wait, %d given up", len(r.pending), r.Counts.Incomplete)
	}
	r.Tick(began.Add(maxWait + 1))
	if len(r.pending) != 0 || r.Counts.Incomplete != maxPending+10 || len(got.claims) != 0 {
		t.Errorf("later %d wait, %d given up, %v", len(r.pending), r.Counts.Incomplete, got.claims)
	}
}

// TestPortAgain: a port whose ClientHello never ended is used again.
func TestPortAgain(t *testing.T) {
	r, got := newRead()
	r.Packet(ipPacket(protoTCP, client, server, 1, helloOf(t, "a.example")[:100]), began)
	whole := helloOf(t, "b.example")
	r.Packet(ipPacket(protoTCP, client, server, 1<<30, whole[:100]), began)
	r.Packet(ipPacket(protoTCP, client, server, 1<<30+100, whole[100:]), began)
	if len(got.claims) != 1 || got.claims[0].Name != "b.example" || len(r.pending) > 0 || r.Counts.Incomplete != 1 {
		t.Errorf("%v, %d pending, %+v", got.claims, len(r.pending), r.Counts)
	}
}

func TestHosts(t *testing.T) {
	for head, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: Plain.example:8080\r\nCookie: secret\r\n\r\n": "plain.example",
		"GET / HTTP/1.1\r\nHost: cut.example\r\nCookie: is cut in the mi":      "cut.example",
		"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n":                     "2001:db8::1",
		"GET / HTTP/1.0\r\n\r\n": "",
		"GET / HTTP/1.1\r\nHost": "",
		"nonsense\r\n\r\n":       "",
	} {
		r, got := newRead()
		r.Packet(ipPacket(protoTCP, client, netip.MustParseAddrPort("203.0.113.7:80"), 1, []byte(head)), began)
		have := ""
		if len(got.claims) > 0 {
			have = got.claims[0].Name
		}
		if have != want {
			t.Errorf("%q asks for %q, read as %q", head, want, have)
		}
	}
}

// TestKeys are those of RFC 9001, appendix A.1, and RFC 9369, appendix A.1.
func TestKeys(t *testing.T) {
	id, _ := hex.DecodeString("8394c8f03e515708")
	for number, want := range map[uint32][3]string{
		1:          {"1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"},
		0x6b3343cf: {"8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"},
	} {
		key, iv, hp, err := versions[number].keys(id)
		if have := [3]string{hex.EncodeToString(key), hex.EncodeToString(iv), hex.EncodeToString(hp)}; err != nil || have != want {
			t.Errorf("version %#x: %v, want %v: %v", number, have, want, err)
		}
	}
}

// sealed is an Initial as RFC 9001, section 5, has it.
func sealed(t testing.TB, number uint32, id []byte, packet uint16, frames []byte) []byte {
	t.Helper()
	v := versions[number]
	key, iv, hp, err := v.keys(id)
	if err != nil {
		t.Fatal(err)
	}
	head := binary.BigEndian.AppendUint32([]byte{0xc0 | v.initial<<4 | 1}, number)
	head = append(append(head, byte(len(id))), id...)
	head = append(head, 0, 0) // no source id, no token
	head = binary.BigEndian.AppendUint16(head, uint16(0x4000|2+len(frames)+16))
	at := len(head)
	head = binary.BigEndian.AppendUint16(head, packet)
	nonce := bytes.Clone(iv)
	nonce[10], nonce[11] = nonce[10]^byte(packet>>8), nonce[11]^byte(packet)
	block, _ := aes.NewCipher(key)
	gcm, _ := cipher.NewGCM(block)
	out := gcm.Seal(bytes.Clone(head), nonce, frames, head)
	mask, _ := aes.NewCipher(hp)
	var hidden [16]byte
	mask.Encrypt(hidden[:], out[at+4:at+20])
	out[0] ^= hidden[0] & 0x0f
	out[at], out[at+1] = out[at]^hidden[1], out[at+1]^hidden[2]
	return out
}

func cryptoFrame(offset int, data []byte) []byte {
	out := binary.BigEndian.AppendUint16([]byte{6}, uint16(0x4000|offset))
	out = binary.BigEndian.AppendUint16(out, uint16(0x4000|len(data)))
	return append(out, data...)
}

// TestInitials: a ClientHello in one datagram or in several, its frames in any order between
// others, in both versions.
func TestInitials(t *testing.T) {
	message := helloOf(t, "quic.example")[5:]
	middle := len(message) / 2
	id := []byte("an id of its client")
	for number := range versions {
		for why, datagrams := range map[string][][]byte{
			"one datagram": {sealed(t, number, id, 0, append(cryptoFrame(0, message), 0, 0, 1))},
			"frames turned round": {sealed(t, number, id, 0, slices.Concat([]byte{0, 1}, cryptoFrame(middle, message[middle:]),
				[]byte{2, 5, 1, 0, 0}, cryptoFrame(0, message[:middle])))},
			"two datagrams":       {sealed(t, number, id, 0, cryptoFrame(middle, message[middle:])), sealed(t, number, id, 1, cryptoFrame(0, message[:middle]))},
			"two in one datagram": {slices.Concat(sealed(t, number, id, 0, cryptoFrame(0, message[:middle])), sealed(t, number, id, 1, cryptoFrame(middle, message[middle:])))},
		} {
			r, got := newRead()
			for _, d := range datagrams {
				r.Packet(ipPacket(protoUDP, client, server, 0, d), began)
			}
			if len(got.claims) != 1 || got.claims[0].Name != "quic.example" || got.claims[0].By != ByQUIC || len(r.pending) > 0 {
				t.Errorf("version %#x, %s: %v, %d pending, %+v", number, why, got.claims, len(r.pending), r.Counts)
			}
		}
	}
}

func message(t testing.TB, id uint16, response bool, name string, records ...dnsmessage.Resource) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: id, Response: response},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}, Answers: records}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func record(name string, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET}, Body: body}
}

// TestAnswers: only what was asked is believed, and of it what belongs to the name.
func TestAnswers(t *testing.T) {
	right := &dnsmessage.AResource{A: [4]byte{203, 0, 113, 7}}
	for _, tt := range []struct {
		why     string
		proto   uint8
		asked   string
		id      uint16
		from    netip.AddrPort
		answers []dnsmessage.Resource
		want    string
	}{
		{"an answer", protoUDP, "a.example.", 7, resolver, []dnsmessage.Resource{record("A.example.", right)}, "a.example [203.0.113.7]"},
		{"over TCP", protoTCP, "a.example.", 7, resolver, []dnsmessage.Resource{record("a.example.", right)}, "a.example [203.0.113.7]"},
		{"by another name", protoUDP, "a.example.", 7, resolver, []dnsmessage.Resource{
			record("a.example.", &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("cdn.example.")}), record("cdn.example.", right)}, "a.example [203.0.113.7]"},
		{"of another name nothing is believed", protoUDP, "a.example.", 7, resolver, []dnsmessage.Resource{record("bank.example.", right)}, ""},
		{"another id", protoUDP, "a.example.", 8, resolver, []dnsmessage.Resource{record("a.example.", right)}, ""},
		{"another name", protoUDP, "b.example.", 7, resolver, []dnsmessage.Resource{record("b.example.", right)}, ""},
		{"another server", protoUDP, "a.example.", 7, netip.MustParseAddrPort("10.96.0.11:53"), []dnsmessage.Resource{record("a.example.", right)}, ""},
	} {
		framed := func(m []byte) []byte {
			if tt.proto == protoTCP {
				return append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...)
			}
			return m
		}
		r, got := newRead()
		r.Packet(ipPacket(tt.proto, client, resolver, 1, framed(message(t, 7, false, "a.example."))), began)
		answer := ipPacket(tt.proto, tt.from, client, 1, framed(message(t, tt.id, true, tt.asked, tt.answers...)))
		r.Packet(answer, began)
		r.Packet(answer, began) // a second one answers nothing
		have := ""
		for _, a := range got.answers {
			have += fmt.Sprint(a.Name, " ", a.Addresses)
		}
		if have != tt.want {
			t.Errorf("%s: %q, want %q (%+v)", tt.why, have, tt.want, r.Counts)
		}
	}
}

// TestHostile: what a pod makes up costs bounded memory, and no name is believed that no host could have.
func TestHostile(t *testing.T) {
	endless := append([]byte{0x16, 3, 1, 0x40, 0, 1, 1, 0x86, 0xa0, 3, 3}, make([]byte, 100_000)...) // a ClientHello of 100 kB
	at := func(i int) netip.AddrPort { return netip.AddrPortFrom(client.Addr(), uint16(i+1000)) }
	r, got := newRead()
	for i := range maxPending + 1 {
		for offset := 0; offset < len(endless); offset += 32 << 10 {
			r.Packet(ipPacket(protoTCP, at(i), server, 1+uint32(offset), endless[offset:min(len(endless), offset+32<<10)]), began)
		}
	}
	if r.held > maxHeld || len(r.pending) > maxPending || len(got.claims) > 0 {
		t.Errorf("%d bytes of %d ClientHellos without an end are held, %d names", r.held, len(r.pending), len(got.claims))
	}
	r.Tick(began.Add(maxWait + 1))
	if r.held != 0 || len(r.pending) != 0 || r.Counts.Incomplete+r.Counts.Malformed < maxPending {
		t.Errorf("%d bytes of %d are held for good, %+v", r.held, len(r.pending), r.Counts)
	}
	r.Packet(ipPacket(protoTCP, client, server, 1, helloOf(t, "after.example")), began)
	if len(got.claims) != 1 || got.claims[0].Name != "after.example" {
		t.Errorf("a name after them: %v", got.claims)
	}

	initial := sealed(t, 1, []byte("12345678"), 0, cryptoFrame(0, helloOf(t, "q.example")[5:]))
	of := func(version uint32) []byte {
		b := bytes.Clone(initial)
		binary.BigEndian.PutUint32(b[1:], version)
		return b
	}
	tooLong := strings.Repeat("x", maxName-1) + ".example"
	for why, packet := range map[string][]byte{
		"a name that is longer than a host's": ipPacket(protoTCP, client, server, 1, helloOf(t, tooLong)),
		"the same in a request":               ipPacket(protoTCP, client, server, 1, []byte("GET / HTTP/1.1\r\nHost: "+tooLong+"\r\n\r\n")),
		"a request of lines without an end":   ipPacket(protoTCP, client, server, 1, []byte("GET "+strings.Repeat("/", 60_000))),
		"a version of QUIC that is not known": ipPacket(protoUDP, client, server, 0, of(0x0a0a0a0a)),
		"a negotiation of versions":           ipPacket(protoUDP, client, server, 0, of(0)),
		"version 2 under the keys of 1":       ipPacket(protoUDP, client, server, 0, of(0x6b3343cf)),
		"an Initial that was touched":         ipPacket(protoUDP, client, server, 0, append(initial[:len(initial)-1:len(initial)-1], ^initial[len(initial)-1])),
		"DNS that is cut short":               ipPacket(protoUDP, client, resolver, 0, message(t, 7, false, "a.example.")[:14]),
		"DNS of pointers in a circle":         ipPacket(protoUDP, client, resolver, 0, append(message(t, 7, false, "a.example.")[:12], 0xc0, 12, 0, 1, 0, 1)),
		"DNS over TCP of no length":           ipPacket(protoTCP, client, resolver, 0, []byte{0, 0}),
	} {
		r, got := newRead()
		for range 2 {
			r.Packet(packet, began)
		}
		if r.Tick(began.Add(maxWait + 1)); len(got.claims)+len(got.answers)+len(r.pending)+len(r.asked)+r.held > 0 {
			t.Errorf("%s: %v, %d wait, %d asked, %d bytes", why, got.claims, len(r.pending), len(r.asked), r.held)
		}
	}
}

// TestAnswersOfBefore: what was asked before the first packet is not held against anybody.
func TestAnswersOfBefore(t *testing.T) {
	r, got := newRead()
	answer := ipPacket(protoUDP, resolver, client, 1, message(t, 7, true, "a.example.", record("a.example.", &dnsmessage.AResource{A: [4]byte{1, 2, 3, 4}})))
	r.Packet(answer, began)
	r.Packet(answer, began.Add(maxEarly))
	if r.Counts.Unasked != 0 || len(got.answers) != 0 {
		t.Errorf("at first: %v, %+v", got.answers, r.Counts)
	}
	if r.Packet(answer, began.Add(maxEarly+1)); r.Counts.Unasked != 1 || len(got.answers) != 0 {
		t.Errorf("later: %v, %+v", got.answers, r.Counts)
	}
}

// FuzzPacket: whatever is copied, state stays bounded and names are names of the packet.
func FuzzPacket(f *testing.F) {
	f.Add(ipPacket(protoTCP, client, server, 1, helloOf(f, "a.example")))
	f.Add(ipPacket(protoTCP, client, netip.MustParseAddrPort("203.0.113.7:80"), 1, []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n")))
	f.Add(ipPacket(protoUDP, client, resolver, 1, message(f, 7, false, "a.example.")))
	f.Add(ipPacket(protoUDP, client, server, 0, sealed(f, 1, []byte("12345678"), 0, cryptoFrame(0, helloOf(f, "q.example")[5:]))))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, got := newRead()
		for range 2 {
			r.Packet(b, began)
		}
		if r.Tick(began.Add(maxWait / 2)); len(r.pending) > 1 || len(r.asked) > 1 || len(got.answers) > 0 || r.held > maxHello {
			t.Errorf("%d pending, %d asked, answers %v of one packet", len(r.pending), len(r.asked), got.answers)
		}
	})
}

// FuzzHello reads records, and the frames of an Initial.
func FuzzHello(f *testing.F) {
	whole := helloOf(f, "a.example")
	f.Add(whole)
	f.Add(whole[:40])
	f.Add(cryptoFrame(0, whole[5:]))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, err := hello(b); (name == "") == (err == nil) {
			t.Errorf("the name %q and %v", name, err)
		}
		p, r := &pending{parts: map[int][]byte{}}, &Reader{}
		_ = cryptoFrames(b, func(offset int, data []byte) { r.add(p, offset, data) })
		if len(p.parts) > maxParts || len(p.whole()) > maxHello || p.size != r.held {
			t.Errorf("%d parts, %d bytes", len(p.parts), len(p.whole()))
		}
	})
}

// FuzzHost reads heads of requests.
func FuzzHost(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, err := host(b); (name == "") == (err == nil) {
			t.Errorf("the name %q and %v", name, err)
		}
	})
}
