// SPDX-License-Identifier: Apache-2.0

// Package names reads from copies of packets what the destinations of a namespace are
// called: from ClientHellos of TLS, over TCP and QUIC, from heads of HTTP requests and from
// answers of DNS. What a client says of itself is a claim: it is shown with its evidence,
// and decides nothing. The package knows no kernel and no clock, and keeps bounded state.
package names
