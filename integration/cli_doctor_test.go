// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/proxy"
	"golang.org/x/sys/unix"
)

type doctorReport struct {
	Failed int
	Checks []struct{ Check, Status, Finding, Remedy string }
}

// findings are the checks that did not pass, as STATUS CHECK.
func (r doctorReport) findings() []string {
	var out []string
	for _, c := range r.Checks {
		if c.Status != "ok" {
			out = append(out, c.Status+" "+c.Check)
		}
	}
	return out
}

// TestDoctor: in each kind of namespace what is wrong is found, and nothing else.
func TestDoctor(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	for _, tt := range []struct {
		why    string
		make   func(*cli)
		args   []string
		failed int
		want   []string
	}{
		{"a fresh namespace", func(*cli) {}, nil, 0, []string{"note IPv6", "skipped proxy's users"}},
		{"one that is tried itself", func(*cli) {}, []string{"--here"}, 0, []string{"note IPv6", "skipped proxy's users"}},
		{"one with rules of weir's", func(c *cli) { c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337") }, nil, 1,
			[]string{"note IPv6", "failed captured traffic"}},
		{"one whose table the kernel passes over", func(c *cli) {
			c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337")
			c.nft("table inet weir { flags dormant; }\n")
		}, nil, 1, []string{"note IPv6", "failed dormant table"}},
		{"one without IPv6", func(c *cli) {
			c.must("1", "tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6")
		}, nil, 0, []string{"note IPv6", "skipped proxy's users"}},
		{"one with left-overs of others", func(c *cli) {
			c.nft("table inet istio-proxy-nat {\nchain istio-output {\n}\n}\n")
			c.must("", "iptables-nft", "-t", "nat", "-N", "PROXY_INIT_OUTPUT")
			c.ip("rule add fwmark 0x539 lookup 133")
		}, nil, 2, []string{"note IPv6", "failed other engines", "failed other engines", "skipped proxy's users"}},
		{"one with left-overs of an apply", func(c *cli) { c.ip("rule add fwmark 1 lookup 133 protocol 119") }, nil, 1,
			[]string{"note IPv6", "failed left-overs", "skipped proxy's users"}},
		{"one in which marks are looked up backwards", func(c *cli) {
			c.ok("apply", "--mode", "sidecar", "--proxy-uids", "1337", "--inbound-via", "tproxy")
			c.must("1", "tee", "/proc/sys/net/ipv4/conf/all/src_valid_mark")
		}, nil, 1, []string{"note IPv6", "note src_valid_mark", "failed captured traffic"}},
		{"one in which that would matter to tproxy, which is not used", func(c *cli) {
			c.must("1", "tee", "/proc/sys/net/ipv4/conf/all/src_valid_mark")
		}, nil, 0, []string{"note IPv6", "note src_valid_mark", "skipped proxy's users"}},
		{"one with an interface of strict reverse paths", func(c *cli) {
			c.ip("link add eth0.7 type veth peer name far")
			c.must("1", "tee", "/proc/sys/net/ipv4/conf/eth0.7/rp_filter")
		}, nil, 0, []string{"note IPv6", "note rp_filter", "skipped proxy's users"}},
		{"one with a table by weir's name", func(c *cli) { c.nft("table inet weir {\nchain c {\n}\n}\n") }, nil, 1,
			[]string{"note IPv6", "failed tables in the way", "skipped proxy's users"}},
		{"one that captures without conntrack, which another table switches on", func(c *cli) {
			c.untrackedWith(untrackedMark)
			c.nft("table ip other {\nchain c {\nct state new counter\n}\n}\n")
		}, nil, 0, []string{"note IPv6", "skipped proxy's users", "note connection tracking"}},
		{"one where a nat table of iptables does", func(c *cli) {
			c.untrackedWith(untrackedMark)
			c.must("", "iptables-nft", "-t", "nat", "-A", "OUTPUT", "-d", "192.0.2.9", "-j", "DNAT", "--to-destination", "192.0.2.8")
		}, nil, 0, []string{"note IPv6", "skipped proxy's users", "note connection tracking"}},
		{"one where iptables-legacy does", func(c *cli) {
			c.untrackedWith(untrackedMark)
			c.must("", "iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", "192.0.2.9", "-j", "REDIRECT", "--to-ports", "9")
		}, nil, 0, []string{"note IPv6", "skipped proxy's users", "note connection tracking"}},
		{"one where rules of iptables do not, which the model does not know", func(c *cli) {
			c.untrackedWith(untrackedMark)
			c.must("", "iptables-nft", "-A", "OUTPUT", "-p", "tcp", "-m", "multiport", "--dports", "1,2", "-j", "ACCEPT")
			c.must("", "iptables-legacy", "-t", "filter", "-A", "OUTPUT", "-d", "192.0.2.9", "-j", "ACCEPT")
		}, nil, 0, []string{"note IPv6", "skipped proxy's users"}},
		{"one where a table does not, though it looks like it", func(c *cli) {
			c.untrackedWith(untrackedMark)
			c.nft("table ip other {\nchain c {\ntype filter hook output priority raw\nnotrack\n}\nchain n {\ntype nat hook output priority -100\n}\n}\n")
		}, nil, 0, []string{"note IPv6", "skipped proxy's users"}},
		{"one whose proxy does not mark its listeners", func(c *cli) { c.untrackedWith(0) }, nil, 1,
			[]string{"note IPv6", "failed captured traffic", "skipped proxy's users"}},
		{"one whose tracker is full", fillTracker, nil, 1, []string{"note IPv6", "skipped proxy's users", "failed conntrack"}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			here := c.elsewhere(t)
			tt.make(here)
			before := here.foreign()
			code := min(tt.failed, 1)
			report := jsonOf[doctorReport](t, here.run(append([]string{"doctor", "--json"}, tt.args...)...).want(t, code).out)
			found := report.findings()
			if oneUser() {
				found = slices.DeleteFunc(found, func(f string) bool { return f == "note users" })
			}
			found = slices.DeleteFunc(found, func(f string) bool { return slices.Contains(lackedByKernel(t), f) })
			if !slices.Equal(found, tt.want) || report.Failed != tt.failed {
				t.Errorf("found %q and counted %d, want %q\n%+v", found, report.Failed, tt.want, report)
			}
			if after := here.foreign(); after != before {
				t.Errorf("the doctor changed the rules:\n%s\nto\n%s", before, after)
			}
		})
	}
}

// untrackedWith captures without connection tracking, to listeners with a mark.
func (c *cli) untrackedWith(mark uint32) {
	c.Helper()
	c.feed(untrackedConfig, "apply", "-f", "-").want(c, 0)
	for _, port := range []uint16{15001, 15006} {
		var l *proxy.Listener
		c.do(func() (err error) {
			l, err = proxy.Listen(c.Context(), netip.AddrPortFrom(netip.IPv4Unspecified(), port), proxy.SocketOptions{Transparent: true, Mark: mark})
			return err
		})
		c.Cleanup(func() { l.Close() })
	}
}

// lackedByKernel are the findings about what only later kernels have.
func lackedByKernel(t *testing.T) (out []string) {
	for _, since := range []struct {
		major, minor int
		feature      string
	}{{5, 12, "tables that go with their owner"}, {5, 13, "socket cgroupv2"}, {6, 3, "destroy commands"}, {6, 9, "tables that outlive their owner"}} {
		if !linux(t, since.major, since.minor) {
			out = append(out, "note "+since.feature)
		}
	}
	return out
}

// fillTracker fills the connection tracker's table up to the machine's limit,
// which is one number for all namespaces and counts in each apart.
func fillTracker(c *cli) {
	c.nft("table inet count {\nchain c {\ntype filter hook output priority 0\nct state new counter\n}\n}\n")
	var limit int
	if _, err := fmt.Sscan(readFile(c, "/proc/sys/net/netfilter/nf_conntrack_max"), &limit); err != nil || limit > 1<<20 {
		c.Skipf("a limit of %d connections is too many to open: %v", limit, err)
	}
	c.do(func() error {
		s, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		defer s.Close()
		for i := range limit + limit/10 {
			to := &net.UDPAddr{IP: net.IPv4(127, byte(1+i>>16), byte(i>>8), byte(i)), Port: 9}
			_, _ = s.WriteToUDP(nil, to) // refused where the table is full: as it should
		}
		return nil
	})
}

// TestDoctorUnprivileged: without the capability, and in a user namespace.
func TestDoctorUnprivileged(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	t.Run("without CAP_NET_ADMIN", func(t *testing.T) {
		needUsers(t)
		here := c.elsewhere(t).with(func(c *cli) { c.uid = 65534 })
		report := jsonOf[doctorReport](t, here.run("doctor", "--json").want(t, 1).out)
		want := []string{"failed CAP_NET_ADMIN", "skipped nftables", "note IPv6", "skipped other engines", "skipped proxy's users"}
		if got := report.findings(); !slices.Equal(got, want) {
			t.Errorf("found %q, want %q\n%+v", got, want, report)
		}
	})
	t.Run("in a user namespace", func(t *testing.T) {
		cmd := exec.Command(c.program, "doctor", "--json")
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		var failed *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &failed) || failed.ExitCode() != 1 { // of lo, which was not set up
			t.Fatalf("%v: %s", err, &out)
		}
		report := jsonOf[doctorReport](t, out.String())
		want := []string{"note users", "failed lo", "note IPv6", "skipped proxy's users"}
		if got := report.findings(); !slices.Equal(got, want) {
			t.Errorf("found %q, want %q\n%+v", got, want, report)
		}
	})
	t.Run("in the machine's own namespace", func(t *testing.T) {
		needUsers(t)
		// The tests run in a namespace of their own; who started them does not.
		report := jsonOf[doctorReport](t, c.run("doctor", "--json", "--pid", fmt.Sprint(os.Getppid())).out)
		if host := slices.Contains(report.findings(), "note namespace"); !host {
			t.Log("the tests were started in a container: its namespace is looked at instead")
		}
		for _, check := range report.Checks {
			if check.Status == "failed" && !slices.Contains(ofTheMachine, check.Check) {
				t.Errorf("invented %+v", check)
			}
		}
	})
}

// ofTheMachine are the checks that a machine may fail by what it is.
var ofTheMachine = []string{"other engines", "left-overs", "conntrack", "IPv6"}

// TestDoctorSharedUser: another process in the namespace is the proxy's user.
func TestDoctorSharedUser(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	start := func() {
		sleep := exec.Command("sleep", "60")
		sleep.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1337, Gid: 1337}}
		c.do(sleep.Start)
		t.Cleanup(func() { _ = sleep.Process.Kill(); _ = sleep.Wait() })
	}
	args := []string{"doctor", "--mode", "sidecar", "--proxy-uids", "1337"}
	start()
	c.ok(args...)
	start()
	c.run(args...).want(t, 1).prints(t, "user 1337 is that of 2 processes that have nothing to do with each other")
}

// TestDoctorTraffic: real packets of each class land where explain --all says.
func TestDoctorTraffic(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	for _, args := range [][]string{
		{"--mode", "sidecar", "--proxy-uids", "1337"},
		{"--mode", "sidecar", "--proxy-uids", "1337", "--inbound-via", "tproxy", "--inbound-exclude-ports", "15020-15021", "--dns-capture", "all", "--outbound-exclude-cidrs", "10.0.0.0/8"},
		{"--mode", "sidecar", "--proxy-gids", "1337", "--dns-capture", "servers", "--dns-servers", "10.96.0.10", "--outbound-include-cidrs", "10.0.0.0/8,fd00::/8"},
		{"--mode", "sidecar", "--proxy-uids", "1337", "--interfaces-exclude", "net1", "--drop-invalid=enabled", "--ipv6", "disabled"},
		{"--mode", "ambient-pod", "--dns-capture", "all"},
		{"--mode", "ambient-host"},
		{"--mode", "none"},
	} {
		t.Run(strings.Join(args[1:], " "), func(t *testing.T) {
			report := jsonOf[doctorReport](t, c.run(append([]string{"doctor", "--json", "--traffic"}, args...)...).want(t, 0).out)
			last := report.Checks[len(report.Checks)-1]
			if last.Check != "traffic" || last.Status != "ok" || !strings.Contains(last.Finding, "land where explain --all says") {
				t.Errorf("found %+v", last)
			}
			t.Log(last.Finding)
		})
	}
	c.run("doctor", "--traffic").want(t, 2).says(t, "--traffic: there is no configuration")
	report := jsonOf[doctorReport](t, c.with(func(c *cli) { c.uid = 65534 }).run(append([]string{"doctor", "--json", "--traffic"}, "--mode", "none")...).want(t, 1).out)
	if last := report.Checks[len(report.Checks)-1]; last.Check != "traffic" || last.Status != "skipped" {
		t.Errorf("without privileges: %+v", last)
	}
}
