// SPDX-License-Identifier: Apache-2.0

//go:build linux

package integration

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	podHostUser = 100_000 // on the host, the pod's root
	fileLimit   = 8 << 20 // of what is read
)

// hostilePod is a process with a root of its own, another user's, in user, mount
// and network namespaces of its own, and whatever it likes in its file system.
type hostilePod struct {
	t    *testing.T
	root string
	pid  int
	// chroot is where the mounts put the root, "" for where it is.
	chroot string
	// mounts are made in the pod's mount namespace before the process starts.
	mounts []func() error
}

// newHostilePod has the files that an image has, and is not started.
func newHostilePod(t *testing.T) *hostilePod {
	t.Helper()
	p := &hostilePod{t: t, root: podRoot(t)}
	for _, dir := range []string{"run", "proc", "dev", "data"} {
		p.check(os.Mkdir(p.at(dir), 0o755))
	}
	p.write("/etc/passwd", "root:x:0:0::/:\nenvoy:x:4242:4242::/:\n")
	p.write("/etc/group", "root:x:0:\nmesh:x:4343:\n")
	p.write("/etc/resolv.conf", "nameserver 10.96.0.10\n")
	return p
}

func (p *hostilePod) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *hostilePod) at(path string) string { return filepath.Join(p.root, path) }

func (p *hostilePod) write(path, text string) {
	p.t.Helper()
	p.check(os.WriteFile(p.at(path), []byte(text), 0o644))
}

// instead removes a file, for something else to take its place.
func (p *hostilePod) instead(path string) string {
	p.t.Helper()
	p.check(os.RemoveAll(p.at(path)))
	return p.at(path)
}

func (p *hostilePod) link(path, to string) {
	p.t.Helper()
	p.check(os.Symlink(to, p.instead(path)))
}

func (p *hostilePod) node(path string, mode uint32, device int) {
	p.t.Helper()
	p.check(unix.Mknod(p.instead(path), mode, device))
}

// bind mounts a folder or file of the host's at a path of the pod's.
func (p *hostilePod) bind(from, path string) {
	p.mounts = append(p.mounts, func() error { return unix.Mount(from, p.at(path), "", unix.MS_BIND, "") })
}

// start starts the process, which waits until the test is over.
func (p *hostilePod) start() {
	p.t.Helper()
	cmd := exec.Command("/weir", "apply", "--config", "-") // which waits for its standard input
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot:      cmp.Or(p.chroot, p.root),
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: podHostUser, Size: 1000}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: podHostUser, Size: 1000}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	in, err := cmd.StdinPipe()
	p.check(err)
	p.check(inMounts(func() error {
		for _, mount := range p.mounts {
			if err := mount(); err != nil {
				return err
			}
		}
		return cmd.Start()
	}))
	p.t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p.pid = cmd.Process.Pid
}

// runWithin is a run of the program that ends within a time, whether or not its
// last threads can.
func (c *cli) runWithin(limit time.Duration, args ...string) outcome {
	c.Helper()
	began := time.Now()
	o := c.run(args...)
	if took := time.Since(began); took > limit {
		c.Errorf("it took %s: %s", took, o)
	}
	return o
}

// TestHostilePodsFiles: whatever a pod's /etc holds, a command on the node neither
// waits for it nor reads a file of the host's nor opens a device, and says why a
// name is not known.
func TestHostilePodsFiles(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	outside := sharedDir(t) // of the host's; the pods have no such folder
	for name, text := range map[string]string{"passwd": "envoy:x:666:666::/:\n", "group": "mesh:x:666:\n", "resolv.conf": "nameserver 192.0.2.66\n"} {
		if err := os.WriteFile(filepath.Join(outside, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const up = "../../../../../../../../../.."
	for _, tt := range []struct {
		why  string
		make func(p *hostilePod, path string)
		says string // why the file is not read
	}{
		{"a FIFO", func(p *hostilePod, path string) { p.node(path, unix.S_IFIFO|0o666, 0) }, "it is a FIFO, not a regular file"},
		{"a link to a FIFO", func(p *hostilePod, path string) {
			p.node("/data/fifo", unix.S_IFIFO|0o666, 0)
			p.link(path, "/data/fifo")
		}, "it is a FIFO, not a regular file"},
		{"a character device", func(p *hostilePod, path string) { p.node(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) }, "it is a device, not a regular file"},
		{"a block device", func(p *hostilePod, path string) { p.node(path, unix.S_IFBLK|0o666, int(unix.Mkdev(7, 250))) }, "it is a device, not a regular file"},
		{"a socket", func(p *hostilePod, path string) { p.node(path, unix.S_IFSOCK|0o666, 0) }, "it is a socket, not a regular file"},
		{"a directory", func(p *hostilePod, path string) { p.check(os.Mkdir(p.instead(path), 0o755)) }, "it is a directory, not a regular file"},
		{"no file", func(p *hostilePod, path string) { p.instead(path) }, "no such file or directory"},
		{"an absolute link to a file of the host's", func(p *hostilePod, path string) { p.link(path, filepath.Join(outside, filepath.Base(path))) }, "no such file or directory"},
		{"a link that climbs to it", func(p *hostilePod, path string) { p.link(path, up+outside+"/"+filepath.Base(path)) }, "no such file or directory"},
		{"a directory that is a link to its folder", func(p *hostilePod, path string) {
			p.link("/data/out", outside)
			p.link(path, "/data/out/"+filepath.Base(path))
		}, "no such file or directory"},
		{"/etc is a link to its folder", func(p *hostilePod, _ string) { p.link("/etc", outside) }, "no such file or directory"},
		{"a link to itself", func(p *hostilePod, path string) { p.link(path, filepath.Base(path)) }, "its links lead in a circle"},
		{"two links to each other", func(p *hostilePod, path string) {
			p.link("/data/a", "/data/b")
			p.link("/data/b", "/data/a")
			p.link(path, "/data/a")
		}, "its links lead in a circle"},
		{"a huge file of holes", func(p *hostilePod, path string) { p.check(os.Truncate(p.at(path), 1<<40)) }, "it is larger than 8 MiB"},
		{"a file a little too large", func(p *hostilePod, path string) { p.check(os.Truncate(p.at(path), fileLimit+1)) }, "it is larger than 8 MiB"},
		{"a link through a process's root", func(p *hostilePod, path string) {
			p.bind("/proc", "/proc")
			p.link(path, fmt.Sprintf("/proc/%d/root", os.Getpid())+filepath.Join(outside, filepath.Base(path)))
		}, "it leads into /proc"},
		{"a link through the reader's own root", func(p *hostilePod, path string) {
			p.bind("/proc", "/proc")
			p.link(path, "/proc/self/root"+filepath.Join(outside, filepath.Base(path)))
		}, "it leads into /proc"},
		{"a link through the reader's descriptors", func(p *hostilePod, path string) {
			p.bind("/proc", "/proc")
			p.link(path, "/proc/self/fd/0")
		}, "it leads into /proc"},
		{"a link to what the reader was started with", func(p *hostilePod, path string) {
			p.bind("/proc", "/proc")
			p.link(path, "/proc/self/environ")
		}, "it leads into /proc"},
		{"a link to a file of the kernel's that waits", func(p *hostilePod, path string) {
			p.bind("/proc", "/proc")
			p.link(path, "/proc/kmsg")
		}, "it leads into /proc"},
		{"a FIFO that is mounted over it", func(p *hostilePod, path string) {
			p.node("/data/fifo", unix.S_IFIFO|0o666, 0)
			p.bind(p.at("/data/fifo"), path)
		}, "it is a FIFO, not a regular file"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			c := c.with(func(c *cli) {
				c.env = []string{"X=\nenvoy:x:666:666::/:\nmesh:x:666:\nnameserver 192.0.2.66\n"}
				c.namespace = &namespace{TB: t, file: c.file}
			})
			for key, path := range map[string]string{"user": "/etc/passwd", "group": "/etc/group"} {
				p := newHostilePod(t)
				tt.make(p, path)
				p.start()
				named := map[string][]string{"user": {"--proxy-uids", "envoy"}, "group": {"--proxy-uids", "1", "--proxy-gids", "mesh"}}[key]
				commands := []string{"apply", "plan", "verify"}
				if key == "user" {
					commands = append(commands, "doctor") // which takes its time
				}
				for _, command := range commands {
					args := append([]string{command, "--pid", fmt.Sprint(p.pid), "--timeout", "20s", "--mode", "sidecar"}, named...)
					o := c.runWithin(15*time.Second, args...).want(t, 2).says(t, fmt.Sprintf("nor a %s known here", key), tt.says)
					if tt.says != "" && !strings.Contains(tt.why, "/etc is a link") {
						o.says(t, fmt.Sprintf("/proc/%d/root%s", p.pid, path))
					}
				}
				c.runWithin(15*time.Second, "show", "--pid", fmt.Sprint(p.pid)).want(t, 0)
			}
			p := newHostilePod(t)
			tt.make(p, "/etc/resolv.conf")
			p.start()
			for _, command := range []string{"plan", "apply"} {
				o := c.runWithin(15*time.Second, command, "--pid", fmt.Sprint(p.pid), "--mode", "sidecar", "--proxy-uids", "1", "--dns-capture", "servers")
				if o.says(t, "no resolver is known", tt.says); strings.Contains(o.out+o.errs, "192.0.2.66") {
					t.Errorf("the host's resolver is taken: %s", o)
				}
			}
		})
	}
}

// TestHonestPodsFiles: links are followed below the pod's root, and names and
// resolvers are the pod's.
func TestHonestPodsFiles(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	for _, tt := range []struct {
		why  string
		make func(p *hostilePod)
	}{
		{"plain files", func(*hostilePod) {}},
		{"absolute links", func(p *hostilePod) { p.move("/run", "/run") }},
		{"relative links", func(p *hostilePod) { p.move("/run", "../run") }},
		{"links that climb above the root", func(p *hostilePod) { p.move("/data", "../../../../../data") }},
		{"a link to a link", func(p *hostilePod) {
			p.move("/run", "/data")
			for _, name := range etcFiles {
				p.link("/data/"+name, "/run/"+name)
			}
		}},
		{"/etc is a link", func(p *hostilePod) {
			p.check(os.Rename(p.at("/etc"), p.at("/data/etc")))
			p.link("/etc", "/data/etc")
		}},
		{"files that the kubelet mounts", func(p *hostilePod) {
			for _, name := range etcFiles {
				p.check(os.Rename(p.at("/etc/"+name), p.at("/data/"+name)))
				p.write("/etc/"+name, "")
				p.bind(p.at("/data/"+name), "/etc/"+name)
			}
		}},
		{"a root in a file system that only the pod has mounted", func(p *hostilePod) {
			volume := sharedDir(p.t)
			p.chroot = filepath.Join(volume, "root")
			p.mounts = append(p.mounts, func() error {
				if err := unix.Mount("weir-test", volume, "tmpfs", 0, ""); err != nil {
					return err
				}
				return errors.Join(os.Chmod(volume, 0o755), os.Mkdir(p.chroot, 0o755),
					unforked(func() error { return os.CopyFS(p.chroot, os.DirFS(p.root)) }))
			})
		}},
		{"a volume as /etc", func(p *hostilePod) {
			p.check(os.Rename(p.at("/etc"), p.at("/data/etc")))
			p.check(os.Mkdir(p.at("/etc"), 0o755))
			p.bind(p.at("/data/etc"), "/etc")
		}},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			p := newHostilePod(t)
			tt.make(p)
			p.start()
			c := c.with(func(c *cli) { c.namespace = &namespace{TB: t, file: c.file} })
			args := []string{"--pid", fmt.Sprint(p.pid), "--mode", "sidecar", "--proxy-uids", "envoy", "--proxy-gids", "mesh", "--dns-capture", "servers"}
			c.run(append([]string{"plan"}, args...)...).want(t, 0).prints(t, "4242", "4343", "10.96.0.10")
			c.run(append([]string{"apply"}, args...)...).want(t, 0).prints(t, "created: inet weir")
			c.run(append([]string{"verify"}, args...)...).want(t, 0)
			c.run("verify", "--pid", fmt.Sprint(p.pid)).want(t, 0)
			c.run("show", "--pid", fmt.Sprint(p.pid)).want(t, 0).prints(t, "4242", "4343", "10.96.0.10")
			c.run("explain", "--live", "--pid", fmt.Sprint(p.pid), "tcp", "192.0.2.1:80").want(t, 0)
			c.run("trace", "--pid", fmt.Sprint(p.pid), "--for", "10ms").want(t, 0)
		})
	}
}

var etcFiles = []string{"passwd", "group", "resolv.conf"}

// move moves the files of /etc into a folder, and leaves links to them there.
func (p *hostilePod) move(folder, link string) {
	p.t.Helper()
	for _, name := range etcFiles {
		p.check(os.Rename(p.at("/etc/"+name), p.at(folder+"/"+name)))
		p.link("/etc/"+name, link+"/"+name)
	}
}

// TestPodSwapsItsFile: a file that becomes a FIFO, a link out of the pod and a
// regular file again, as fast as can be, neither holds a command up nor leads it to
// the host's file.
func TestPodSwapsItsFile(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	outside := sharedDir(t)
	if err := os.WriteFile(filepath.Join(outside, "passwd"), []byte("envoy:x:666:666::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := newHostilePod(t)
	forms := []string{"fifo", "link", "file", "folder"}
	p.node("/data/fifo", unix.S_IFIFO|0o666, 0)
	p.link("/data/link", filepath.Join(outside, "passwd"))
	p.write("/data/file", "envoy:x:4242:4242::/:\n")
	p.check(os.Mkdir(p.at("/data/folder"), 0o755))
	p.instead("/etc/passwd")
	p.start()
	over := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			form := p.at("/data/" + forms[i%len(forms)])
			_ = os.Rename(form, p.at("/etc/passwd"))
			time.Sleep(100 * time.Microsecond) // a core is shared with others
			_ = os.Rename(p.at("/etc/passwd"), form)
		}
	})
	ends := map[string]int{}
	for range 100 {
		o := c.runWithin(15*time.Second, "plan", "--pid", fmt.Sprint(p.pid), "--timeout", "20s", "--mode", "sidecar", "--proxy-uids", "envoy")
		switch {
		case strings.Contains(o.out, "666"):
			t.Fatalf("the host's file was read: %s", o)
		case o.code == 0 && strings.Contains(o.out, "4242"):
			ends["read"]++
		case o.code == 2 && strings.Contains(o.errs, "nor a user known here"):
			ends["refused"]++
		default:
			t.Fatalf("%s", o)
		}
	}
	close(over)
	swapper.Wait()
	t.Logf("of 100 plans: %v", ends)
}

// TestFileThatNeverAnswers: no name is looked up in a file system that a process of
// the pod's may serve: one that took a request and does not answer holds the thread
// that waits up for good, and with it the end of the program.
func TestFileThatNeverAnswers(t *testing.T) {
	t.Parallel()
	needUsers(t)
	c := newCLI(t)
	served := func(p *hostilePod, f *fuse, path string) {
		p.check(os.MkdirAll(p.at(path), 0o755))
		p.mounts = append(p.mounts, func() error { return f.mount(p.t, p.at(path)) })
	}
	for _, tt := range []struct {
		why    string
		silent uint32 // the request that is not answered
		make   func(p *hostilePod, f *fuse)
		says   string
	}{
		{"a link into it, no answer to a read", fuseRead, func(p *hostilePod, f *fuse) {
			served(p, f, "/data/fuse")
			p.link("/etc/passwd", "/data/fuse/passwd")
		}, `type "fuse"`},
		{"a link into it, no answer to an open", fuseOpen, func(p *hostilePod, f *fuse) {
			served(p, f, "/data/fuse")
			p.link("/etc/passwd", "../data/fuse/passwd")
		}, `type "fuse"`},
		{"a link into it, no answer to a look-up", fuseLookup, func(p *hostilePod, f *fuse) {
			served(p, f, "/data/fuse")
			p.link("/etc/passwd", "/data/fuse/passwd")
		}, `type "fuse"`},
		{"a link through it", fuseLookup, func(p *hostilePod, f *fuse) {
			served(p, f, "/data/fuse")
			p.link("/etc/passwd", "/data/fuse/x/../../passwd")
		}, `type "fuse"`},
		{"/etc, no answer to a look-up", fuseLookup, func(p *hostilePod, f *fuse) { served(p, f, "/etc") }, `type "fuse"`},
		{"/etc, no answer to what it is", fuseGetattr, func(p *hostilePod, f *fuse) { served(p, f, "/etc") }, `type "fuse"`},
		{"its file mounted over another", fuseRead, func(p *hostilePod, f *fuse) {
			served(p, f, "/data/fuse")
			p.bind(p.at("/data/fuse/passwd"), "/etc/passwd")
		}, `type "fuse"`},
		{"an overlay of a user namespace's over it", fuseRead, func(p *hostilePod, f *fuse) {
			served(p, f, "/data/fuse")
			p.check(os.Mkdir(p.at("/data/empty"), 0o755))
			p.mounts = append(p.mounts, func() error {
				layers := "userxattr,lowerdir=" + p.at("/data/fuse") + ":" + p.at("/data/empty")
				return unix.Mount("weir-test", p.at("/etc"), "overlay", 0, layers)
			})
		}, "overlay that was mounted in a user namespace"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			p := newHostilePod(t)
			tt.make(p, newFuse(t, tt.silent))
			p.start()
			c := c.with(func(c *cli) { c.namespace = &namespace{TB: t, file: c.file} })
			pid := fmt.Sprint(p.pid)
			for _, command := range []string{"apply", "plan", "verify", "doctor"} {
				c.runWithin(15*time.Second, command, "--pid", pid, "--timeout", "20s", "--mode", "sidecar", "--proxy-uids", "envoy").want(t, 2).
					says(t, "nor a user known here", "/proc/"+pid+"/root/etc/passwd", tt.says)
			}
			c.runWithin(15*time.Second, "apply", "--pid", pid, "--timeout", "20s", "--mode", "sidecar", "--proxy-uids", "1337").want(t, 0)
			c.runWithin(15*time.Second, "show", "--pid", pid).want(t, 0)
		})
	}
}
