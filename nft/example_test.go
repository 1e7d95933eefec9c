// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/weir-mesh/weir/internal/scratch"
	"github.com/weir-mesh/weir/modes"
	"github.com/weir-mesh/weir/nft"
	"golang.org/x/sys/unix"
)

// The whole way: a configuration becomes a state, the state becomes what the
// kernel of a pod holds, and that is proven, compared again, and taken out.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	// What to capture. An environment is what the pod's network namespace is like.
	config := modes.Config{
		Mode:     modes.ModeSidecar,
		Proxy:    modes.Proxy{UIDs: []string{"1337"}},
		Outbound: modes.Outbound{ExcludeCIDRs: []string{"10.0.0.0/8", "fd00::/8"}},
	}
	want, notes, err := modes.State(config, modes.Environment{IPv6: true, LoopbackIPv6: true})
	if err != nil {
		fmt.Println(err) // every problem, as *modes.ConfigError
		return
	}
	fmt.Println(len(notes), "notes")

	// Where: a file of the namespace, such as /run/netns/pod or /proc/PID/ns/net.
	pod, err := os.Open(podNamespace())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pod.Close()
	conn, err := nft.Open(int(pod.Fd()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()

	session := conn.Session(want.Table.Name, "example")
	result, err := session.Apply(ctx, want)
	var rejected *nft.RejectedError
	switch {
	case errors.As(err, &rejected):
		fmt.Println("the kernel refused", rejected.Where, "for", rejected.Err, rejected.Hint)
		return
	case err != nil:
		fmt.Println(err)
		return
	}
	fmt.Println(result.Outcome)

	// One more exclusion: only the element goes to the kernel.
	config.Outbound.ExcludeCIDRs = append(config.Outbound.ExcludeCIDRs, "192.168.0.0/16")
	want, _, _ = modes.State(config, modes.Environment{IPv6: true, LoopbackIPv6: true})
	_, differences, err := session.Verify(ctx, want)
	fmt.Println(differences[0], err)
	result, err = session.Apply(ctx, want)
	fmt.Println(result.Outcome, err)

	result, err = session.Remove(ctx)
	fmt.Println(result.Outcome, err)
	// Output:
	// 0 notes
	// created
	// set outbound_exclude_ipv4 element is missing
	//   want  192.168.0.0/16 <nil>
	// updated <nil>
	// removed <nil>
}

// podNamespace is a namespace that ends with the program.
func podNamespace() string {
	pod, err := scratch.NewNamespace()
	if err != nil {
		return err.Error()
	}
	return pod.Path()
}

const inUserNamespace = "WEIR_TEST_IN_USER_NAMESPACE"

// TestMain runs everything as root of a user namespace where the user is not
// root, for examples cannot ask for that themselves.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Geteuid() != 0 && os.Getenv(inUserNamespace) == "" {
		if code, ran := again(); ran {
			os.Exit(code)
		}
		fmt.Fprintln(os.Stderr, "the example is left out: it needs root, or a kernel that allows unshare -Urn")
		_ = flag.Set("test.skip", "^Example$")
	}
	os.Exit(m.Run())
}

func again() (code int, ran bool) {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inUserNamespace+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, false
	}
	return c.ProcessState.ExitCode(), true
}
