// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"

	"github.com/weir-mesh/weir/config"
	"github.com/weir-mesh/weir/modes"
)

// A document is read, and each problem stands at the line and column of its word.
func ExampleParse() {
	const pod = `mode: sidecar
proxy: {uids: [1337]}
outbound:
  excludePorts: [22, 70000]
  excludeCIDRs:
    - 10.0.0.0/33
`
	_, err := config.Parse("pod.yaml", []byte(pod))
	for _, p := range config.Problems(err) {
		fmt.Printf("line %d, column %d: %v\n", p.Place.Line, p.Place.Column, p.Err)
	}
	// Output:
	// line 4, column 22: outbound.excludePorts: "70000" is not a port (want a number of 1-65535, a range such as 8000-8100, or a service such as https)
	// line 6, column 7: outbound.excludeCIDRs: "10.0.0.0/33" is not an address or prefix (want 10.0.0.0/8, 192.0.2.1 or fd00::/8)
}

// A flag replaces what the document says, and problems of both are told together.
func ExampleFile_Set() {
	file := config.Read("pod.yaml", []byte("mode: sidecar\nproxy: {uids: [1337]}\ninbound: {port: x}\n"))
	for _, key := range modes.Keys() {
		switch key.Flag() {
		case "inbound-port":
			file.Set("--inbound-port", key, nil, "4143")
		case "dns-port":
			file.Set("--dns-port", key, nil, "y")
		}
	}
	fmt.Println(file.Inbound.Port)
	fmt.Println(file.Check())
	// Output:
	// 4143
	// --dns-port: "y" is not a port (want a number of 1-65535)
}

// What an environment lacks is told at the place of the word that wants it.
func ExampleFile_Explain() {
	file, err := config.Parse("pod.yaml", []byte("mode: sidecar\nproxy: {uids: [envoy]}\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	environment, err := config.ParseEnvironment("node.yaml", []byte("users: {istio-proxy: 1337}\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _, err = modes.State(file.Config, environment)
	fmt.Println(file.Explain(err))
	// Output:
	// pod.yaml:2:16: proxy.uids: "envoy" is neither a number nor a user known here
}

func ExampleFormat() {
	text, err := config.Format(modes.Config{Mode: modes.ModeSidecar, Proxy: modes.Proxy{UIDs: []string{"1337"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(string(text))
	// Output:
	// mode: sidecar
	// proxy:
	//   uids:
	//     - "1337"
}
