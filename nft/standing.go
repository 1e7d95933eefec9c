// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nft

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weir-mesh/weir/rules"
	"golang.org/x/sys/unix"
)

// Standing is the wanted state with the routes of those interfaces ([rules.Route.Device]) that were there at the
// apply that wrote the table: interfaces come and go, which is no drift. later are the routes that the next apply
// adds, of interfaces that came since. Where more is wanted otherwise than it was written, the state is returned
// as it is.
func (l *Live) Standing(want rules.State) (standing rules.State, later []rules.Route) {
	if l.Tag == nil || l.Tag.Schema != tagSchema {
		return want, nil
	}
	written := l.Tag.linkRoutes()
	wanted, standing := []rules.Route(nil), want
	standing.Routes = nil
	for _, r := range want.Routes {
		if r.Device == "" {
			standing.Routes = append(standing.Routes, r)
		} else {
			wanted = append(wanted, r)
		}
	}
	if len(without(wanted, written))+len(without(written, wanted)) == 0 {
		return want, nil
	}
	standing.Routes = append(standing.Routes, written...)
	if hash, _ := l.routing.withoutForeign(standing.Normal()).Digest(); hash != l.Tag.Hash {
		return want, nil
	}
	return standing, without(wanted, written)
}

// maxLinkRoutes is more than an apply writes: any process of the namespace may have written the tag.
const maxLinkRoutes = 256

// linkRoutes are the routes of interfaces that the tag tells of.
func (t *Tag) linkRoutes() (out []rules.Route) {
	for _, line := range t.Routing {
		if r, ok := linkRoute(line); ok && len(out) < maxLinkRoutes {
			out = append(out, r)
		}
	}
	return out
}

// linkRoute reads what [rules.Route.String] says of a route of an interface.
func linkRoute(line string) (rules.Route, bool) {
	for family, option := range map[rules.Family]string{rules.IPv4: "", rules.IPv6: "-6 "} {
		r, to := rules.Route{Family: family}, ""
		var metric int
		if _, err := fmt.Sscanf(line, "ip "+option+"route add local %s dev %s metric %d table %d", &to, &r.Device, &metric, &r.Table); err != nil {
			continue
		}
		if to == "default" {
			to = map[rules.Family]string{rules.IPv4: "0.0.0.0/0", rules.IPv6: "::/0"}[family]
		}
		var err error
		if r.Dst, err = netip.ParsePrefix(to); err == nil && r.String() == line {
			return r, true
		}
	}
	return rules.Route{}, false
}

// readGone finds the tag's routes whose interfaces have gone, and they with them.
func (c *Conn) readGone(ctx context.Context, tag *Tag, into *routing) error {
	if tag == nil {
		return nil
	}
	for _, r := range tag.linkRoutes() {
		if slices.ContainsFunc(into.routes, func(l liveRoute) bool { return l.Route == r }) {
			continue
		}
		_, err := c.linkIndex(ctx, string(r.Device))
		switch {
		case errors.Is(err, unix.ENODEV):
			into.gone = append(into.gone, r)
		case err != nil:
			return err
		}
	}
	return nil
}
