// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/weir-mesh/weir/proxy"
)

// nginxConfig is a sidecar that calls the application with the client's address. A program that has
// no option for transparent listeners is given them: systemd's Transparent= and Mark= of a socket unit.
const nginxConfig = `user root;
worker_processes 1;
daemon off;
error_log stderr warn;
pid DIR/nginx.pid;
events { worker_connections 4096; }
http {
	access_log off;
	keepalive_timeout 0;
	client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
	map $server_addr $asked { "~:" "[$server_addr]:$server_port"; default "$server_addr:$server_port"; }
	proxy_set_header X-Forwarded-For $remote_addr;
	proxy_set_header X-Original-Destination "$server_addr:$server_port";
	proxy_set_header Host $host;
	server {
		listen 0.0.0.0:15001; listen [::]:15001 ipv6only=on;
		location / { proxy_pass http://$asked; proxy_set_header X-Proxy outbound; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Original-Destination "$server_addr:$server_port"; }
	}
	server {
		listen 0.0.0.0:15006; listen [::]:15006 ipv6only=on;
		location / { proxy_bind $remote_addr transparent; proxy_pass http://$asked; proxy_set_header X-Proxy inbound; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Original-Destination "$server_addr:$server_port"; }
	}
}
`

// startNginx starts nginx in the pod and in that cgroup, with listeners that are transparent and marked.
func (p *realPod) startNginx(cgroup *os.File) (stop func()) {
	p.Helper()
	dir := p.TempDir()
	var files []*os.File
	var inherited strings.Builder
	err := p.pod.Do(func() error {
		lc := net.ListenConfig{Control: proxy.SocketOptions{Transparent: true, Mark: untrackedMark}.Control}
		lc.SetMultipathTCP(false)
		for _, at := range []string{"0.0.0.0:15001", "[::]:15001", "0.0.0.0:15006", "[::]:15006"} {
			network := "tcp4"
			if at[0] == '[' {
				network = "tcp6"
			}
			ln, err := lc.Listen(context.Background(), network, at)
			if err != nil {
				return err
			}
			defer ln.Close()
			f, err := ln.(*net.TCPListener).File()
			if err != nil {
				return err
			}
			files = append(files, f)
			fmt.Fprintf(&inherited, "%d;", 2+len(files))
		}
		return nil
	})
	if err != nil {
		p.Fatal(err)
	}
	cmd := exec.Command(tool(p, "nginx", "nginx-light"), "-p", dir, "-e", "stderr", "-c", write(p, "nginx.conf", strings.ReplaceAll(nginxConfig, "DIR", dir)))
	cmd.Env = []string{"NGINX=" + inherited.String()}
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	output := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := p.pod.Do(cmd.Start); err != nil {
		p.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	stop = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its worker, too
		_ = cmd.Wait()
		if text := output.String(); p.Failed() && text != "" {
			p.Logf("nginx said:\n%s", text[max(0, len(text)-2000):])
		}
	}
	p.Cleanup(func() { os.Remove(filepath.Join(dir, "nginx.pid")) })
	return stop
}

// TestUntrackedNginx lets nginx be the proxy. It neither marks its upstream sockets, which the cgroup
// program does, nor opens transparent listeners, which it is given; and it calls the application with
// the client's address.
func TestUntrackedNginx(t *testing.T) {
	tool(t, "nginx", "nginx-light")
	requests := howOften(500, 20000)
	path, folder := proxyCgroup(t)
	p := newRealPod(t)
	config := strings.Replace(untrackedConfig, "mark: 0x53d/0xfff", "mark: 0x53d/0xfff, cgroups: ["+path+"], assignMark: true", 1)
	p.untracked(config)
	world := serveWeb(t, p.far, 0, worldPorts...)
	application := serveWeb(t, p.pod, appID, appPort)
	defer p.startNginx(folder)()
	bothWays(t, p, requests, world, application, func(_ family, client netip.Addr) netip.Addr { return client })
	p.untrackedEntries(t)
}
