package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/vishvananda/netns"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"golang.org/x/sys/unix"
)

// target is the network namespace that a command works in.
type target struct {
	fd   int    // 0: the program's own
	root string // of the file system whose /etc belongs to it
	name string // in /run/netns, "" for none
	file *os.File
}

func targetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "netns", Usage: "work in the network namespace `NAME|PATH`", Category: categoryWhere},
		&cli.IntFlag{Name: "pid", DefaultText: "this one's", Usage: "work in the network namespace of process `N`", Category: categoryWhere},
		&cli.StringFlag{Name: "pod", Usage: "work in the network namespace of the pod with that `UID`, on this node", Category: categoryWhere},
	}
}

// targetPod is --pod where that names the namespace: to other commands it names
// what they change.
func targetPod(cc *cli.Context) (uid string, ok bool) {
	for _, f := range cc.Command.Flags {
		if s, isString := f.(*cli.StringFlag); isString && s.Name == "pod" && s.Category == categoryWhere {
			return cc.String("pod"), cc.IsSet("pod")
		}
	}
	return "", false
}

const (
	categoryWhere = "where"
	netnsFolder   = "/run/netns"
)

// openTarget opens the namespace of --pid or --pod, else the one that --netns
// names.
func openTarget(cc *cli.Context, ns string) (*target, error) {
	pid := cc.Int("pid")
	pod, isPod := targetPod(cc)
	switch {
	case isPod && (cc.IsSet("netns") || cc.IsSet("pid")):
		return nil, usageError{errors.New("--pod excludes --netns and --pid")}
	case isPod:
		return podTarget(pod)
	case cc.IsSet("netns") && cc.IsSet("pid"):
		return nil, usageError{errors.New("--netns and --pid exclude each other")}
	case cc.IsSet("netns") && ns == "":
		return nil, usageError{errors.New("--netns: is empty (without the flag the present namespace is meant)")}
	case cc.IsSet("pid") && pid <= 0:
		return nil, usageError{fmt.Errorf("--pid: %d is no process", pid)}
	case cc.IsSet("pid"):
		return processTarget("--pid", pid)
	case ns != "":
		return namedTarget("--netns", ns)
	}
	return &target{root: "/"}, nil
}

// processTarget opens the namespace of a process.
func processTarget(flag string, pid int) (*target, error) {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	t, err := openNamespace(flag, filepath.Join(folder, "ns/net"))
	if err == nil {
		t.root = filepath.Join(folder, "root")
	}
	return t, err
}

// podTarget opens the namespace of a pod's oldest process.
func podTarget(uid string) (*target, error) {
	if uid == "" || podOf("pod"+uid) != uid {
		return nil, usageError{fmt.Errorf("--pod: %q is no pod's UID (want such as 0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f)", modes.Shorten(uid))}
	}
	all, err := processes()
	if err != nil {
		return nil, fmt.Errorf("--pod: %w", err)
	}
	for _, p := range all {
		if p.pod == uid {
			return processTarget("--pod", p.PID)
		}
	}
	return nil, usageError{fmt.Errorf("--pod: no process of pod %s is on this node", uid)}
}

// namedTarget opens a namespace by its path or, without a slash, its name as
// ip-netns(8) has it. The flag is for messages.
func namedTarget(flag, name string) (*target, error) {
	if strings.Contains(name, "/") {
		return openNamespace(flag, name)
	}
	t, err := openNamespace(flag, filepath.Join(netnsFolder, name))
	if err == nil {
		t.name = name
	}
	return t, err
}

// openNamespace opens what the command line names. That it is not there is wrong
// usage; that it may not be opened is not.
func openNamespace(flag, path string) (*target, error) {
	f, err := openNamed(path, unix.O_NONBLOCK) // a FIFO would wait for its writer
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s: %w%s", flag, err, advice(err))
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: there is no such namespace: %w", flag, err)}
	}
	t := &target{fd: int(f.Fd()), file: f, root: "/"}
	if kind, err := unix.IoctlRetInt(t.fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		t.close()
		return nil, usageError{fmt.Errorf("%s: %s is no network namespace", flag, path)}
	}
	return t, nil
}

// isPresent reports whether the namespace is the program's own, which needs no
// privilege to be worked in. Without /proc that cannot be told.
func (t *target) isPresent() bool {
	var here, there unix.Stat_t
	return unix.Stat("/proc/thread-self/ns/net", &here) == nil && unix.Fstat(t.fd, &there) == nil && here.Dev == there.Dev && here.Ino == there.Ino
}

// advice says what a failure to reach a namespace may lack.
func advice(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return " (another user's process takes CAP_SYS_PTRACE, entering a namespace CAP_SYS_ADMIN)"
	}
	return ""
}

func (t *target) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// connect opens the namespace's netlink.
func (t *target) connect() (*nft.Conn, error) {
	c, err := nft.Open(t.fd)
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, advice(err))
	}
	return c, nil
}

// etc is the path of a file of /etc as processes in the namespace see it.
func (t *target) etc(name string) string {
	if t.name != "" {
		own := filepath.Join("/etc/netns", t.name, name) // see ip-netns(8)
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	return filepath.Join(t.root, "etc", name)
}

// isHost reports whether this is the machine's initial network namespace. It is
// told by a sysctl that the kernel shows nowhere else; without /proc, by the
// namespace's number, which is fixed since Linux 6.18 (NET_NS_INIT_INO).
func (t *target) isHost() (bool, error) {
	var host bool
	err := t.inside(func() error {
		_, err := os.Stat("/proc/sys/net/core/netdev_max_backlog")
		host = err == nil
		if err != nil {
			host = initialNumber()
		}
		return nil
	})
	return host, err
}

func initialNumber() bool {
	const siocgskns, netNSInitIno = 0x894c, 0xeffffff9
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(s)
	fd, err := unix.IoctlRetInt(s, siocgskns)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Ino == netNSInitIno
}

// inside runs do on a thread in the namespace. The thread dies with the
// goroutine: it is never unlocked.
func (t *target) inside(do func() error) error {
	if t.fd == 0 {
		return do()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(netns.NsHandle(t.fd)); err != nil {
			done <- fmt.Errorf("enter the network namespace: %w%s", err, advice(err))
			return
		}
		done <- do()
	}()
	return <-done
}

// refuseHost keeps an example from capturing a whole machine.
func (t *target) refuseHost() error {
	host, err := t.isHost()
	if err != nil || !host {
		return err
	}
	return usageError{errors.New("this is the machine's own network namespace: applying here would capture the traffic of everything on it " +
		"(use --netns or --pid for a container's, try it with unshare -n, or say --host-network if the whole machine is meant)")}
}
