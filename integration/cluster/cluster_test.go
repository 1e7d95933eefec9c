// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cluster

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/image"
)

// What `make cluster-test` builds before: folders of programs.
const (
	programsEnv = "WEIR_CLUSTER" // the cluster's
	nodeEnv     = "WEIR_NODE"    // containerd and its plugins
	weirEnv     = "WEIR_BIN"     // weir's own, and its images
)

const (
	adminToken = "weir-admin"
	toolImage  = "localhost/weir/tools:1" // a busybox and the tests' own program
)

// cluster is a cluster of one node.
type cluster struct {
	*machine
	*api
	cgroup               string
	standalone           bool // the kubelet has no API server
	programs, node, weir string
}

const containerdConfig = `version = 3
root = "@DIR@/disk/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.devmapper","io.containerd.snapshotter.v1.zfs","io.containerd.snapshotter.v1.blockfile","io.containerd.snapshotter.v1.erofs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/weir/tools:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/opt/cni/bin"]
    conf_dir = "/etc/cni/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "/usr/sbin/runc"
[plugins.'io.containerd.nri.v1.nri']
  disable = false
  socket_path = "/run/nri/nri.sock"
  plugin_path = "@DIR@/disk/nri/plugins"
  plugin_config_path = "@DIR@/disk/nri/conf.d"
`

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: @CGROUP@
failCgroupV1: false
failSwapOn: false
maxPods: 250
kubeAPIQPS: 100
kubeAPIBurst: 200
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {memory.available: "1Mi", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
makeIPTablesUtilChains: false
syncFrequency: 5s
featureGates: {KubeletInUserNamespace: true}
`

const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: weir, cluster: {server: "https://192.0.2.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: @TOKEN@}}]
contexts: [{name: c, context: {cluster: weir, user: u}}]
current-context: c
`

// primaryList is what a primary plugin leaves on the node.
const primaryList = `{
  "cniVersion": "1.1.0",
  "name": "primary",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
      "capabilities": {"io.kubernetes.cri.pod-annotations": true},
      "ipam": {
        "type": "host-local", "dataDir": "/run/cni/host-local",
        "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd88::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
      }
    }
  ]
}
`

// users are who the API server knows by token.
var users = []struct{ name, token, user, group string }{
	{"admin", adminToken, "admin", "system:masters"},
	{"kubelet", "weir-kubelet", "system:node:weirnode", "system:nodes"},
	{"controllers", "weir-controllers", "system:kube-controller-manager", "system:masters"},
	{"scheduler", "weir-scheduler", "system:kube-scheduler", "system:masters"},
}

// newCluster boots a cluster, without a plugin of weir's.
func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := newNode(t)
	start := time.Now()
	c.startDaemons()
	t.Logf("the node is Ready %.1f s after its daemons were started", time.Since(start).Seconds())
	return c
}

// newNode boots a machine that could be a cluster: none of its daemons runs.
func newNode(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{programs: os.Getenv(programsEnv), node: os.Getenv(nodeEnv), weir: os.Getenv(weirEnv)}
	if c.programs == "" || c.node == "" || c.weir == "" {
		t.Skip("make cluster-test runs it: it builds a cluster's programs")
	}
	if os.Getuid() != 0 {
		t.Skip("takes root")
	}
	dir, err := os.MkdirTemp("", "weir-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c.cgroup = fmt.Sprintf("/weircluster%d", os.Getpid())
	t.Cleanup(func() { removeCgroups(c.cgroup) })
	c.machine = newMachine(t, dir)
	c.api = newAPI(c.machine)
	c.furnish()
	return c
}

// furnish writes what the daemons read.
func (c *cluster) furnish() {
	c.Helper()
	for _, d := range []string{"bin", "log", "k8s", "disk/etcd", "disk/nri/plugins", "disk/nri/conf.d"} {
		if err := os.MkdirAll(c.path(d), 0o755); err != nil {
			c.Fatal(err)
		}
	}
	for _, name := range []string{"crictl", "ctr", "containerd", "containerd-shim-runc-v2"} {
		if err := os.Symlink(filepath.Join(c.node, name), c.path("bin/"+name)); err != nil {
			c.Fatal(err)
		}
	}
	for _, path := range []string{filepath.Join(c.programs, "kubectl"), os.Getenv(helmEnv)} {
		if err := os.Symlink(path, c.path("bin/"+filepath.Base(path))); err != nil {
			c.Fatal(err)
		}
	}
	for _, name := range []string{"weir", "weir-cni"} {
		c.program("bin/"+name, filepath.Join(c.weir, name))
	}
	for _, name := range []string{"bridge", "host-local", "loopback"} {
		c.program("disk/opt/cni/bin/"+name, filepath.Join(c.node, name))
	}
	c.write("disk/etc/cni/net.d/10-primary.conflist", primaryList)
	c.write("containerd.toml", containerdConfig)
	c.write("crictl.yaml", "runtime-endpoint: unix:///run/containerd/containerd.sock\nimage-endpoint: unix:///run/containerd/containerd.sock\ntimeout: 60\n")
	c.write("k8s/kubelet.yaml", strings.ReplaceAll(kubeletConfig, "@CGROUP@", c.cgroup))
	var tokens strings.Builder
	for _, u := range users {
		fmt.Fprintf(&tokens, "%s,%s,%s,%s\n", u.token, u.user, u.name, u.group)
		c.write("k8s/"+u.name+".kubeconfig", strings.ReplaceAll(kubeconfig, "@TOKEN@", u.token))
	}
	c.write("k8s/tokens.csv", tokens.String())
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		c.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		c.Fatal(err)
	}
	c.write("k8s/sa.key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	c.write("k8s/sa.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
	c.writeToolImage()
	if archive := filepath.Join(c.weir, "weir-node.oci.tar"); fileExists(archive) {
		c.program("weir-node.tar", archive)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (c *cluster) writeToolImage() {
	c.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		c.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		c.Fatal(err)
	}
	if err := os.WriteFile(c.path("play"), self, 0o755); err != nil {
		c.Fatal(err)
	}
	i := image.Image{Name: toolImage, Architecture: runtime.GOARCH, Config: image.Config{Cmd: []string{"/bin/busybox", "sleep", "1000000"}}, Files: []image.File{
		{Name: "bin/busybox", Text: busybox}, {Name: "play", Text: self}, {Name: "tmp/", Mode: 0o1777},
		{Name: "etc/passwd", Mode: 0o644, Text: []byte("root:x:0:0:root:/:/bin/sh\nproxy:x:1337:1337::/:/bin/sh\n")},
	}}
	var b bytes.Buffer
	if err := i.Write(&b); err != nil {
		c.Fatal(err)
	}
	if err := os.WriteFile(c.path("tools.tar"), b.Bytes(), 0o644); err != nil {
		c.Fatal(err)
	}
}

// cgroupHierarchies are where a cgroup's folders are.
func cgroupHierarchies(parent string) []string {
	var dirs []string
	roots, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, root := range append(roots, "/sys/fs/cgroup") {
		if info, err := os.Stat(filepath.Join(root, "cgroup.procs")); err == nil && info.Mode().IsRegular() {
			dirs = append(dirs, filepath.Join(root, parent))
		}
	}
	return dirs
}

// removeCgroups removes the cgroups of a machine that is off. Its last processes may still be ending.
func removeCgroups(parent string) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left := false
		for _, dir := range cgroupHierarchies(parent) {
			var found []string
			_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					found = append(found, path)
				}
				return nil
			})
			for _, path := range slices.Backward(found) { // children first
				if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
					left = true
				}
			}
		}
		if !left {
			return
		}
	}
}

// startDaemons starts all that a node and a control plane have, and waits until the node is Ready.
func (c *cluster) startDaemons() {
	c.Helper()
	c.makeCgroups()
	c.startControlPlane()
	c.startRuntime()
	c.startKubelet()
	await(c, "the node is Ready", 3*time.Minute, c.nodeReady)
	await(c, "the default service account", time.Minute, func() error { return c.get("/api/v1/namespaces/default/serviceaccounts/default", nil) })
}

// makeCgroups makes the parent of the pods' cgroups, which the kubelet wants to be there.
func (c *cluster) makeCgroups() {
	c.Helper()
	for _, dir := range cgroupHierarchies(c.cgroup) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			c.Fatal(err)
		}
	}
}

// startRuntime starts containerd with the images that were written.
func (c *cluster) startRuntime() {
	c.Helper()
	c.start("containerd", "containerd", "-c", c.path("containerd.toml"))
	await(c, "containerd", time.Minute, func() error { _, err := c.crictl("info"); return err })
	archives, _ := filepath.Glob(c.path("*.tar"))
	for _, a := range archives {
		c.importImage(a)
	}
}

// importImage gives containerd the images of an archive.
func (c *cluster) importImage(archive string) {
	c.Helper()
	c.run("ctr", "-a", "/run/containerd/containerd.sock", "-n", "k8s.io", "images", "import", "--local", archive)
}

func (c *cluster) startControlPlane() {
	c.Helper()
	c.start("etcd", "etcd", "--data-dir", c.path("disk/etcd"), "--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380")
	c.startAPIServer()
	await(c, "the API server", 2*time.Minute, func() error { return c.get("/readyz", new(string)) })
	c.start("controllers", filepath.Join(c.programs, "kube-controller-manager"), "--kubeconfig="+c.path("k8s/controllers.kubeconfig"), "--service-account-private-key-file="+c.path("k8s/sa.key"),
		"--use-service-account-credentials=false", "--leader-elect=false", "--root-ca-file="+c.path("k8s/certs/apiserver.crt"), "--bind-address=127.0.0.1", "--kube-api-qps=200", "--kube-api-burst=400")
	c.start("scheduler", filepath.Join(c.programs, "kube-scheduler"), "--kubeconfig="+c.path("k8s/scheduler.kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1")
}

func (c *cluster) startAPIServer() {
	c.Helper()
	c.start("apiserver", filepath.Join(c.programs, "kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", "--secure-port=6443", "--bind-address=0.0.0.0", "--advertise-address="+nodeAddress,
		"--cert-dir="+c.path("k8s/certs"), "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+c.path("k8s/sa.pub"), "--service-account-signing-key-file="+c.path("k8s/sa.key"),
		"--service-cluster-ip-range=10.96.0.0/16", "--kubelet-preferred-address-types=InternalIP", "--authorization-mode=Node,RBAC", "--token-auth-file="+c.path("k8s/tokens.csv"), "--allow-privileged=true")
}

func (c *cluster) startKubelet() {
	c.Helper()
	c.start("kubelet", filepath.Join(c.programs, "kubelet"), "--config="+c.path("k8s/kubelet.yaml"), "--kubeconfig="+c.path("k8s/kubelet.kubeconfig"), "--hostname-override=weirnode", "--node-ip="+nodeAddress,
		"--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki", "--v=2")
}

func (c *cluster) nodeReady() error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := c.get("/api/v1/nodes/weirnode", &node); err != nil {
		return err
	}
	for _, cond := range node.Status.Conditions {
		if cond.Type == "Ready" {
			if cond.Status == "True" {
				return nil
			}
			return errors.New(cond.Message)
		}
	}
	return errors.New("the node has no condition")
}

func (c *cluster) crictl(args ...string) (string, error) {
	return c.try(append([]string{"crictl", "--config", c.path("crictl.yaml")}, args...)...)
}

// reboot ends every process, and starts the daemons again with what is on the disk.
func (c *cluster) reboot() {
	c.Helper()
	c.off()
	removeCgroups(c.cgroup)
	c.client.CloseIdleConnections()
	c.boot()
	if c.standalone {
		c.startStandalone()
	} else {
		c.startDaemons()
	}
}

// serveWorld listens on the node as what is outside of the mesh.
func (c *cluster) serveWorld() {
	c.Helper()
	c.start("world", c.path("play"), "role", "serve", "world", "9999", "3306")
	await(c, "the world", 10*time.Second, func() error {
		conn, err := c.dial(c.Context(), "tcp", net.JoinHostPort(nodeAddress, "9999"))
		if err == nil {
			conn.Close()
		}
		return err
	})
}
