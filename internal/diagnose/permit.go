// SPDX-License-Identifier: Apache-2.0

//go:build linux

package diagnose

import (
	"errors"
	"fmt"
	"os"

	"github.com/weir-mesh/weir/netns"
)

// WithPermit says how to get CAP_NET_ADMIN where that is what an error lacks.
func WithPermit(err error) error {
	if errors.Is(err, netns.ErrNotPermitted) {
		return fmt.Errorf("%w (%s)", err, permit())
	}
	return err
}

// permit is how to get the capability: where a container is told by what its engine
// leaves there, the container's own settings decide.
func permit() string {
	if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return "securityContext.capabilities.add: [NET_ADMIN]"
	}
	for _, file := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Lstat(file); err == nil {
			return "securityContext.capabilities.add: [NET_ADMIN], or --cap-add NET_ADMIN"
		}
	}
	return "to try without: unshare -Urn"
}
