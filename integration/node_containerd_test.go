// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nodeEnv is the folder of programs that `make node-test` builds: crictl, containerd 2 and plugins of CNI 1.1.
const nodeEnv = "WEIR_NODE"

const sandboxImage = "localhost/weir/busybox:1"

const containerd1 = `version = 2
root = "@LAB@/root"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.aufs","io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.devmapper","io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/weir/busybox:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "@LAB@/cni"
    conf_dir = "@LAB@/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
`

const containerd2 = `version = 3
root = "@LAB@/root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.devmapper","io.containerd.snapshotter.v1.zfs","io.containerd.snapshotter.v1.blockfile","io.containerd.snapshotter.v1.erofs","io.containerd.nri.v1.nri"]
[grpc]
  address = "/run/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "localhost/weir/busybox:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["@LAB@/cni"]
    conf_dir = "@LAB@/net.d"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "/usr/sbin/runc"
`

// containerdNode is a node with containerd.
type containerdNode struct {
	*nodeLab
	cgroup string // the parent of pods' cgroups
}

// containerds are the versions to test, each with a list of a version that its plugins speak.
var containerds = []struct{ name, daemon, config, plugins, version string }{
	{"1.6", "/usr/bin/containerd", containerd1, debianPlugins, "1.0.0"},
	{"2.4", "", containerd2, "", "1.1.0"}, // of nodeEnv
}

func newContainerd(t testing.TB, version int, env ...string) containerdNode {
	t.Helper()
	return newContainerdOf(t, version, containerds[version].config, env...)
}

// newContainerdOf is a node with a containerd of that configuration, which is started by those words.
func newContainerdOf(t testing.TB, version int, configuration string, by ...string) containerdNode {
	t.Helper()
	built := os.Getenv(nodeEnv)
	if built == "" {
		t.Skip("make node-test runs it: it builds crictl and containerd")
	}
	of := containerds[version]
	if of.daemon == "" {
		of.daemon, of.plugins = filepath.Join(built, "containerd"), built
	}
	busybox, err := os.ReadFile(tool(t, "busybox", "busybox-static"))
	if err != nil {
		t.Fatal(err)
	}
	l := newNodeLab(t)
	l.installPlugins(of.plugins, "bridge", "host-local", "loopback")
	for _, name := range []string{"crictl", "ctr", "containerd-shim-runc-v2"} {
		from := filepath.Join(built, name)
		if of.plugins == debianPlugins && name != "crictl" {
			from = filepath.Join("/usr/bin", name)
		}
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		l.program("bin/"+name, text)
	}
	n := containerdNode{l, fmt.Sprintf("/weirtest%d", l.pid)}
	t.Cleanup(func() { removeCgroups(n.cgroup) })
	config := l.write("containerd.toml", configuration)
	l.write("crictl.yaml", "runtime-endpoint: unix:///run/containerd.sock\nimage-endpoint: unix:///run/containerd.sock\ntimeout: 60\n")
	l.write("net.d/10-lab.conflist", labList(of.version, "bridge", `
      "bridge": "cni0", "isGateway": true, "hairpinMode": true,`))
	l.program("image.tar", imageArchive(t, sandboxImage, busybox))
	l.start(append(by, of.daemon, "-c", config)...)
	l.await("containerd", time.Minute, func() error { _, err := n.crictl("info"); return err })
	n.load(version, filepath.Join(l.dir, "image.tar"))
	return n
}

// load has the runtime load an archive of an image.
func (n containerdNode) load(version int, archive string) {
	n.Helper()
	args := []string{"ctr", "-a", "/run/containerd.sock", "-n", "k8s.io", "images", "import"}
	if containerds[version].plugins != debianPlugins {
		args = append(args, "--local") // without the transfer service, which wants a network
	}
	n.run(append(args, archive)...)
}

// removeCgroups removes what runtimes left of the pods of a test.
func removeCgroups(parent string) {
	hierarchies, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
	for range 3 { // children first
		for _, h := range append(hierarchies, "/sys/fs/cgroup"+parent) {
			_ = filepath.WalkDir(h, func(path string, _ os.DirEntry, err error) error {
				if err == nil {
					_ = os.Remove(path)
				}
				return nil
			})
		}
	}
}

func (n containerdNode) crictl(args ...string) (string, error) {
	return n.try(append([]string{"crictl", "--config", filepath.Join(n.dir, "crictl.yaml")}, args...)...)
}

func (n containerdNode) mustCrictl(args ...string) string {
	n.Helper()
	out, err := n.crictl(args...)
	if err != nil {
		n.Fatalf("crictl %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(out)
}

// sandbox writes the configuration of a pod, and returns its file.
func (n containerdNode) sandbox(name string, annotations map[string]string) string {
	n.Helper()
	text, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"name": name, "namespace": "shop", "uid": "uid-" + name, "attempt": 1}, "log_directory": filepath.Join(n.dir, "logs"),
		"annotations": annotations, "dns_config": map[string]any{"servers": []string{"10.96.0.10"}}, "linux": map[string]any{"cgroup_parent": n.cgroup},
	})
	if err != nil {
		n.Fatal(err)
	}
	return n.write("pods/"+name+".json", string(text))
}

// inspected is what crictl tells of a pod.
type inspected struct {
	Status struct {
		Network struct {
			IP            string
			AdditionalIPs []struct{ IP string }
		}
	}
	Info struct {
		RuntimeSpec struct {
			Linux struct{ Namespaces []struct{ Type, Path string } }
		}
	}
}

func (n containerdNode) inspect(pod string) (netns string, addresses []string) {
	n.Helper()
	var i inspected
	if err := json.Unmarshal([]byte(n.mustCrictl("inspectp", pod)), &i); err != nil {
		n.Fatal(err)
	}
	addresses = []string{i.Status.Network.IP}
	for _, more := range i.Status.Network.AdditionalIPs {
		addresses = append(addresses, more.IP)
	}
	for _, ns := range i.Info.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			netns = ns.Path
		}
	}
	return netns, addresses
}

func (n containerdNode) install(args ...string) {
	n.Helper()
	n.run(append([]string{"weir", "cni", "install", "--bin-dir", filepath.Join(n.dir, "cni"), "--conf-dir", filepath.Join(n.dir, "net.d")}, args...)...)
}

// awaitInfo waits until the runtime knows something of its network.
func (n containerdNode) awaitInfo(what string, want func(info string) bool) {
	n.Helper()
	n.await(what, 30*time.Second, func() error {
		info, err := n.crictl("info")
		if err == nil && !want(info) {
			err = errors.New(info)
		}
		return err
	})
}

func knowsWeir(info string) bool { return strings.Contains(info, `weir-cni`) }

// networkReady is the condition as the runtime reports it.
func networkReady(info string) bool {
	var status struct {
		Status struct {
			Conditions []struct {
				Type   string
				Status bool
			}
		}
	}
	if json.Unmarshal([]byte(info), &status) != nil {
		return false
	}
	for _, c := range status.Status.Conditions {
		if c.Type == "NetworkReady" {
			return c.Status
		}
	}
	return false
}

// leftovers are what pods have left on the node: namespaces, and addresses that are taken.
func (n containerdNode) leftovers() string {
	n.Helper()
	return n.run("sh", "-c", `ls /run/netns; ls /run/cni/host-local/lab 2>/dev/null | grep -v -e lock -e last_reserved; true`)
}

// TestContainerd: a captured pod, its connections in both families, from its container too; a pod that
// cannot be captured, which leaves nothing; and what the runtime sees of lists and of STATUS.
func TestContainerd(t *testing.T) {
	for i, of := range containerds {
		t.Run(of.name, func(t *testing.T) {
			n := newContainerd(t, i)
			n.install()
			n.awaitInfo("the list with weir", knowsWeir)
			began := time.Now()
			pod := n.mustCrictl("runp", n.sandbox("cart", captureLab))
			t.Logf("runp took %s", time.Since(began))
			netns, addresses := n.inspect(pod)
			if len(addresses) != 2 {
				t.Fatalf("addresses %v", addresses)
			}
			n.serve("", 0, "world 9999 3306")
			gateways := []string{"10.77.0.1", "fd77::1"}
			n.checkCaptured(netns, gateways, addresses)
			app := n.write("pods/app.json", `{"metadata":{"name":"app"},"image":{"image":"`+sandboxImage+`"},"command":["/bin/busybox","sleep","3600"],"log_path":"app.log"}`)
			container := n.mustCrictl("create", pod, app, filepath.Join(n.dir, "pods/cart.json"))
			n.mustCrictl("start", container)
			for port, want := range map[string]string{"9999": "proxy:15001", "3306": "world:3306"} {
				if got := n.mustCrictl("exec", container, "/bin/busybox", "nc", "-w", "2", gateways[0], port); got != want {
					t.Errorf("from the container to %s: %q, want %q", port, got, want)
				}
			}
			out, err := n.crictl("runp", n.sandbox("wrong", map[string]string{"sidecar.istio.io/status": "{}", "sidecar.istio.io/interceptionMode": "TPROXi"}))
			if want := `pod shop/wrong is not captured: annotation sidecar.istio.io/interceptionMode: "TPROXi" is not a mode (want REDIRECT, TPROXY or NONE)`; err == nil ||
				!strings.Contains(strings.ReplaceAll(out, `\`, ""), want) {
				t.Errorf("%v\n%s\nwant %s", err, out, want)
			}
			n.mustCrictl("stopp", pod) // a DEL, and another one by rmp without the namespace
			n.mustCrictl("rmp", pod)
			n.mustCrictl("rmp", "-a", "-f")
			if got := n.leftovers(); strings.TrimSpace(got) != "" {
				t.Errorf("left on the node:\n%s", got)
			}
			n.checkLists(of.version)
		})
	}
}

// checkLists: the runtime sees a list that install wrote, and not one that is renamed from another folder;
// STATUS takes the node's network away only for a configuration that means nothing.
func (n containerdNode) checkLists(version string) {
	n.Helper()
	trap := n.write("elsewhere/00-trap.conflist", strings.ReplaceAll(labList(version, "bridge", ""), `"lab"`, `"trap"`))
	into := filepath.Join(n.dir, "net.d/00-trap.conflist")
	if err := os.Rename(trap, into); err != nil {
		n.Fatal(err)
	}
	for range 10 {
		if info, err := n.crictl("info"); err != nil || strings.Contains(info, `trap`) {
			n.Errorf("a list that was renamed from elsewhere is seen (%v): the trap is none any more", err)
			break
		}
	}
	if err := os.Remove(into); err != nil {
		n.Fatal(err)
	}
	n.install("--conflist-mode", "own")
	n.awaitInfo("weir's own list", func(info string) bool {
		return strings.Contains(info, "00-weir.conflist") || knowsWeir(info) && networkReady(info)
	})
	wrong := n.write("wrong.json", `{}`)
	n.run("sed", "-i", `s/"type": "weir-cni",/"type": "weir-cni", "timeout": "1h",/`, filepath.Join(n.dir, "net.d/00-weir.conflist"))
	if version == "1.1.0" { // with which runtimes call STATUS
		n.awaitInfo("a STATUS that fails", func(info string) bool { return !networkReady(info) })
	}
	n.install("--conflist-mode", "own", "--settings", wrong)
	n.awaitInfo("a STATUS that passes", networkReady)
	n.run("weir", "cni", "uninstall", "--wait", "0s", "--bin-dir", filepath.Join(n.dir, "cni"), "--conf-dir", filepath.Join(n.dir, "net.d"))
	n.awaitInfo("the list without weir", func(info string) bool { return !knowsWeir(info) && networkReady(info) })
	pod := n.mustCrictl("runp", n.sandbox("plain", captureLab))
	n.mustCrictl("stopp", pod)
	n.mustCrictl("rmp", pod)
}

// realEnv is the plugin that role reaper runs.
const realEnv = "WEIR_TEST_REAL"

// playReaper is the plugin in place of weir: it runs weir and kills it at a random moment of an ADD, and then
// itself, so that the runtime sees a plugin that was killed.
func playReaper() error {
	runtime.LockOSThread() // the signal of a parent's death is the thread's
	cmd := exec.Command(os.Getenv(realEnv))
	cmd.Args[0] = "weir-cni"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), roleEnv+"=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	if os.Getenv("CNI_COMMAND") == "ADD" {
		time.AfterFunc(time.Duration(rand.Int64N(int64(40*time.Millisecond))), func() { _ = cmd.Process.Kill() })
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if exit.ExitCode() < 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		os.Exit(exit.ExitCode())
	}
	return err
}

// TestContainerdKill: whenever the plugin is killed, a pod that started is captured, and one that failed has
// left nothing.
func TestContainerdKill(t *testing.T) {
	kills := 500
	if n, err := strconv.Atoi(os.Getenv("WEIR_KILLS")); err == nil {
		kills = n
	}
	for i, of := range containerds[1:] {
		t.Run(of.name, func(t *testing.T) {
			n := newContainerd(t, i+1, roleEnv+"=reaper", realEnv+"=/run/real/weir-cni")
			n.install()
			n.awaitInfo("the list with weir", knowsWeir)
			plugin := filepath.Join(n.dir, "cni/weir-cni")
			n.run("sh", "-c", "mkdir -p /run/real && mv "+plugin+" /run/real/weir-cni && cp "+n.self()+" "+plugin)
			started, failed := 0, 0
			for k := range kills {
				pod, err := n.crictl("runp", n.sandbox(fmt.Sprintf("p%d", k), captureLab))
				if err != nil {
					failed++
					if !strings.Contains(pod, "weir-cni") {
						t.Fatalf("it failed for another reason: %s", pod)
					}
				} else {
					started++
					netns, _ := n.inspect(strings.TrimSpace(pod))
					if out, err := n.try("weir", "verify", "--netns", netns); err != nil || !strings.Contains(n.run("nsenter", "--net="+netns, "nft", "list", "table", "inet", "weir"), "redirect to :15001") {
						t.Errorf("pod %d started, and is not captured: %v\n%s", k, err, out)
					}
				}
				n.mustCrictl("rmp", "-a", "-f")
				if got := strings.TrimSpace(n.leftovers()); got != "" {
					t.Fatalf("pod %d left on the node:\n%s", k, got)
				}
			}
			t.Logf("of %d pods %d started and are captured, %d failed and left nothing", kills, started, failed)
			if kills >= 50 && (started == 0 || failed == 0) {
				t.Errorf("started %d, failed %d: the moments are not random enough", started, failed)
			}
		})
	}
}
