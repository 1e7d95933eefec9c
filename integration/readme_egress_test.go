// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// calls are what the application of the manual's page on egress calls: by name, over TLS and without, and an address.
var calls = []struct {
	url  string
	body int
}{
	{"https://oss.example/", 20_000_000},
	{"https://cdn.example/", 1_500_000},
	{"http://plain.example/", 5_000},
	{"http://203.0.113.3:9000/", 400_000},
}

// egressPod is a pod with the program in it, and hosts that answer its calls.
func (c *cli) egressPod() *cli {
	c.Helper()
	program, err := build("./cmd/weir-egress", "")
	if err != nil {
		c.Fatal(err)
	}
	installAs(c, filepath.Join(filepath.Dir(c.program), "weir-egress"), program)
	pod, world := c.elsewhere(c), newNamespace(c)
	pod.ip(fmt.Sprintf("link add eth0 type veth peer name eth0 netns /proc/%d/fd/%d", os.Getpid(), world.file.Fd()))
	for n, addresses := range map[*namespace][]string{pod.namespace: {"203.0.113.1/24"}, world: {"203.0.113.2/24", "203.0.113.3/24"}} {
		n.ip("link set eth0 up")
		for _, a := range addresses {
			n.ip("addr add " + a + " dev eth0")
		}
	}
	var bodies http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		for _, call := range calls {
			if strings.Contains(call.url, "//"+r.Host+"/") {
				_, _ = w.Write(make([]byte, call.body))
			}
		}
	}
	for _, port := range []string{"443", "80", "9000"} {
		var ln net.Listener
		world.do(func() (err error) { ln, err = net.Listen("tcp4", ":"+port); return err })
		server := httptest.NewUnstartedServer(bodies)
		server.Listener = ln
		if port == "443" {
			server.StartTLS()
		} else {
			server.Start()
		}
		c.Cleanup(server.Close)
	}
	return pod
}

// calling starts a line of the console, has the application call its hosts while it runs, and returns both.
func (c *cli) calling(line string) (*exec.Cmd, func() string) {
	c.Helper()
	cmd, out, errs := c.command("")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "exec " + line}
	c.launch(cmd)
	c.eventually("the watch", func() bool { return len(c.tables()) == 1 })
	for _, call := range calls {
		args := []string{"-sSko", "/dev/null", "--http1.1", "--resolve", "*:443:203.0.113.2", "--resolve", "*:80:203.0.113.3", "--noproxy", "*", call.url}
		c.must("", "curl", args...)
	}
	return cmd, func() string {
		_ = cmd.Wait()
		return out.String() + errs.String()
	}
}

// watched is what weir-egress prints of the calls.
func (c *cli) watched() string {
	pod := c.egressPod()
	const line = "weir-egress watch --once"
	for range 5 { // a loaded machine calls too late for an interval
		_, ended := pod.calling(line)
		if out := ended(); strings.Count(out, "\n") > len(calls) {
			return "```console\n$ " + line + "\n" + out + "```\n"
		}
	}
	c.Fatal("not every call is in a report")
	return ""
}

// scraped is what a scrape of weir-egress has of the calls.
func (c *cli) scraped() string {
	pod := c.egressPod()
	cmd, ended := pod.calling("weir-egress watch --metrics 127.0.0.1:15020")
	const line = "curl -s 127.0.0.1:15020/metrics | sed -n '/^istio_tcp.*oss.example/s/source_w.*name_source/..., name_source/p'"
	defer func() { _ = cmd.Process.Signal(os.Interrupt); ended() }()
	pod.eventually("the connections' end", func() bool { return strings.Contains(pod.shell(line), "connections_closed") })
	return pod.session(line)
}
