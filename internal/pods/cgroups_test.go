// SPDX-License-Identifier: Apache-2.0

//go:build linux

package pods

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	uid       = "0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
	uidSlice  = "0a1b2c3d_0a1b_0a1b_0a1b_0a1b2c3d4e5f"
	other     = "11111111-2222-3333-4444-555555555555"
	static    = "0123456789abcdef0123456789abcdef"
	container = "aff34703e5e1f89443e9a1bffcc80f43f74d4808a2dd22c8f88c08547b323934"
	node      = "8d461fa5765781bcf5f7eb192f101bc3103d4b932e26236f43feecfa20664f96"
)

func TestPlaceOf(t *testing.T) {
	burstable := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSlice + ".slice"
	for _, tt := range []struct{ why, path, want string }{
		// The layouts of kubelets.
		{"cgroupfs, containerd", "/kubepods/burstable/pod" + uid + "/" + container, uid},
		{"cgroupfs, CRI-O", "/kubepods/besteffort/pod" + uid + "/crio-" + container, uid},
		{"cgroupfs, a guaranteed pod", "/kubepods/pod" + uid + "/" + container, uid},
		{"cgroupfs, a static pod", "/kubepods/burstable/pod" + static + "/" + container, static},
		{"systemd, containerd", burstable + "/cri-containerd-" + container + ".scope", uid},
		{"systemd, CRI-O", burstable + "/crio-" + container + ".scope", uid},
		{"systemd, CRI-O with crun, which makes one more", burstable + "/crio-" + container + ".scope/container", uid},
		{"systemd, cri-dockerd", burstable + "/docker-" + container + ".scope", uid},
		{"systemd, a guaranteed pod", "/kubepods.slice/kubepods-pod" + uidSlice + ".slice/crio-" + container + ".scope", uid},
		{"systemd, a static pod", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static + ".slice/crio-" + container + ".scope", static},
		{"a kubelet of systemd over a containerd of cgroupfs", "/system.slice/containerd.service/kubepods-besteffort-pod" + uidSlice + ".slice:cri-containerd:" + container, uid},
		{"the same at the top", "/kubepods-besteffort-pod" + uidSlice + ".slice:cri-containerd:" + container, uid},
		{"kind, cgroupfs", "/kubelet/kubepods/besteffort/pod" + uid + "/" + container, uid},
		{"kind, cgroupfs, from outside", "/docker/" + node + "/kubepods/besteffort/pod" + uid + "/" + container, uid},
		{"kind, systemd", "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + uidSlice + ".slice/cri-containerd-" + container + ".scope", uid},
		{"kind, systemd, from outside", "/system.slice/docker-" + node + ".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + uidSlice + ".slice/cri-containerd-" + container + ".scope", uid},
		{"Docker Desktop", "/kubepods/kubepods/besteffort/pod" + uid + "/" + container, uid},
		// Below a container.
		{"systemd in the container", "/kubepods/burstable/pod" + uid + "/" + container + "/init.scope", uid},
		{"Docker in the container", burstable + "/cri-containerd-" + container + ".scope/docker/" + node, uid},
		{"a kubelet in the container", "/kubepods/burstable/pod" + uid + "/" + container + "/kubelet/kubepods/burstable/pod" + other + "/" + node, uid},
		// What is none.
		{"the pod's own cgroup", "/kubepods/burstable/pod" + uid, uid + " without a container"},
		{"CRI-O's conmon", "/kubepods/burstable/pod" + uid + "/crio-conmon-" + container, uid + " without a container"},
		{"CRI-O's conmon, systemd", burstable + "/crio-conmon-" + container + ".scope", uid + " without a container"},
		{"a name that no runtime gives", "/kubepods/burstable/pod" + uid + "/mine", uid + " without a container"},
		{"a pod below a pod without a container", "/kubepods/burstable/pod" + uid + "/mine/kubepods/pod" + other + "/" + container, uid + " without a container"},
		{"no kubepods above", "/mine/pod" + uid + "/" + container, ""},
		{"a class of another name", "/kubepods/guaranteed/pod" + uid + "/" + container, ""},
		{"a class without kubepods", "/burstable/pod" + uid + "/" + container, ""},
		{"a slice that is not in its own", "/kubepods-burstable-pod" + uidSlice + ".slice/crio-" + container + ".scope", ""},
		{"a slice in another's", "/user.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSlice + ".slice/crio-" + container + ".scope", ""},
		{"a slice with more in its name", "/kubepods.slice/kubepods-weir-pod" + uidSlice + ".slice/crio-" + container + ".scope", ""},
		{"dashes in a slice", "/kubepods.slice/kubepods-pod" + uid + ".slice/crio-" + container + ".scope", ""},
		{"underscores in a folder", "/kubepods/pod" + uidSlice + "/" + container, ""},
		{"a UID with more behind", "/kubepods/pod" + uid + "0/" + container, ""},
		{"podman's", "/system.slice/podman.service", ""},
		{"the top", "/", ""},
		{"nothing", "", ""},
	} {
		p, ok := placeOf(tt.path)
		got := p.uid
		if ok && !p.container {
			got += " without a container"
		}
		if got != tt.want {
			t.Errorf("%s: %s is of %q, want %q", tt.why, tt.path, got, tt.want)
		}
		if tt.want != "" && !strings.HasPrefix(tt.path, p.pod) {
			t.Errorf("%s: the pod's cgroup is %s", tt.why, p.pod)
		}
	}
}

func TestIsUID(t *testing.T) {
	for word, want := range map[string]bool{uid: true, static: true, uidSlice: false, "": false, "pod" + uid: false, uid + "\n": false, strings.ToUpper(uid): false} {
		if IsUID(word) != want {
			t.Errorf("%q is a UID: %v", word, !want)
		}
	}
}

const (
	v2Mounts     = "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	hybridMounts = "30 23 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" +
		"31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"32 23 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
		"33 23 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)

// TestPod: a cgroup's name is believed where root made it, and all above it.
func TestPod(t *testing.T) {
	slice := "/kubepods.slice/kubepods-pod" + uidSlice + ".slice"
	scope := slice + "/cri-containerd-" + container + ".scope"
	folder := "/kubepods/pod" + uid
	for _, tt := range []struct {
		why, mounts, cgroup string
		users               map[string]uint32 // owners, root's where they are not named
		device              uint64            // of the folders
		want                string
	}{
		{"v2", v2Mounts, "0::" + scope + "\n", nil, 27, uid},
		{"v2, the container is delegated", v2Mounts, "0::" + scope + "/init.scope\n", map[string]uint32{"/sys/fs/cgroup" + scope: 1000}, 27, uid},
		{"v2, the pod is delegated", v2Mounts, "0::" + scope + "\n", map[string]uint32{"/sys/fs/cgroup" + slice: 1000}, 27,
			"kubepods-pod" + uidSlice + ".slice belongs to user 1000, not to root"},
		{"v2, a session's folder named kubepods", v2Mounts, "0::/user.slice/user-1000.slice/user@1000.service" + folder + "/" + container + "\n",
			map[string]uint32{"/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service": 1000}, 27, "user@1000.service belongs to user 1000"},
		{"v2, a top that is delegated", v2Mounts, "0::" + folder + "/" + container + "\n", map[string]uint32{"/sys/fs/cgroup": 7}, 27, "/sys/fs/cgroup belongs to user 7"},
		{"v1, every hierarchy", hybridMounts, "5:pids:" + scope + "\n4:cpu,cpuacct:" + scope + "\n1:name=systemd:" + scope + "\n0::/\n", nil, 0, uid},
		{"v1, one hierarchy", hybridMounts, "5:pids:/\n4:cpu,cpuacct:" + scope + "\n0::/system.slice\n", nil, 27, uid},
		{"v1, a delegated hierarchy beside root's", hybridMounts, "5:pids:/mine" + folder + "/" + container + "\n4:cpu,cpuacct:/kubepods/pod" + other + "/" + container + "\n",
			map[string]uint32{"/sys/fs/cgroup/pids/mine": 1000}, 0, other},
		{"v1, two pods", hybridMounts, "5:pids:" + folder + "/" + container + "\n4:cpu,cpuacct:/kubepods/pod" + other + "/" + container + "\n", nil, 0, "of two pods"},
		{"v1, a hierarchy that is not mounted", hybridMounts, "7:freezer:" + scope + "\n", nil, 27, "no cgroup mount here shows it"},
		{"a container whose top is its own", "31 23 0:27 /docker/a /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n", "0::/docker/a/kubelet" + folder + "/" + container + "\n", nil, 27, uid},
		{"a cgroup beside that", "31 23 0:27 /docker/a /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n", "0::/docker/ab" + folder + "/" + container + "\n", nil, 27, "no cgroup mount here shows it"},
		{"the host's top seen from a namespace below it", "31 23 0:27 /../.. /host/cgroup ro - cgroup2 cgroup2 rw\n", "0::/../.." + folder + "/" + container + "\n", nil, 27, uid},
		{"a neighbour whose upper part is not told", "31 23 0:27 /../.. /host/cgroup ro - cgroup2 cgroup2 rw\n", "0::/../pod" + uid + "/" + container + "\n", nil, 27, "not laid out as by a kubelet"},
		{"a path out of the namespace", v2Mounts, "0::/../.." + folder + "/" + container + "\n", nil, 27, "no cgroup mount here shows it"},
		{"another mount over it", v2Mounts, "0::" + folder + "/" + container + "\n", nil, 99, "no cgroup mount here shows it"},
		{"no mount", "", "0::" + folder + "/" + container + "\n", nil, 27, "no cgroup mount here shows it"},
		{"a name of one's own", v2Mounts, "0::/kubepods-weir-test-pod" + uidSlice + ".slice\n", nil, 27, "is not laid out as by a kubelet"},
		{"no pod", v2Mounts, "0::/system.slice/podman.service\n", nil, 27, ""},
		{"nothing", v2Mounts, "", nil, 27, ""},
	} {
		devices := map[string]uint64{}
		for _, m := range mountsOf([]byte(tt.mounts)) {
			devices[m.point] = m.device
		}
		c := newCgroups([]byte(tt.mounts), func(path string) (at unix.Stat_t, err error) {
			at.Dev, at.Uid = tt.device, tt.users[path]
			for point, device := range devices {
				if tt.device == 0 && (path == point || strings.HasPrefix(path, point+"/")) {
					at.Dev = device
				}
			}
			return at, nil
		})
		got, err := c.Pod([]byte(tt.cgroup))
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && (err == nil || tt.want == "" || !strings.Contains(got, tt.want)) {
			t.Errorf("%s: %q, want %q", tt.why, got, tt.want)
		}
	}
}

func TestOwnersAreLookedAtOnce(t *testing.T) {
	looked := map[string]int{}
	c := newCgroups([]byte(v2Mounts), func(path string) (at unix.Stat_t, err error) {
		looked[path]++
		at.Dev = 27
		if strings.Contains(path, other) {
			return at, fs.ErrNotExist
		}
		return at, nil
	})
	for _, id := range []string{uid, uid, other, other} {
		_, _ = c.Pod(fmt.Appendf(nil, "0::/kubepods/pod%s/%s\n", id, container))
	}
	if len(looked) != 4 { // the top, kubepods and two pods
		t.Errorf("looked at %v", looked)
	}
	for path, times := range looked {
		if times != 1 {
			t.Errorf("looked %d times at %s", times, path)
		}
	}
}
