// SPDX-License-Identifier: Apache-2.0

package mesh

import "strings"

// proxyMetadata finds, in the annotation of Istio's proxy configuration, the variables that change what is
// captured. The document is YAML or JSON, which write a key and its word alike: all else in it is for the
// proxy, and is not judged here.
func proxyMetadata(document string) map[string]string {
	env := map[string]string{}
	for line := range strings.Lines(document) {
		line, _, _ = strings.Cut(line, "#")
		for _, name := range []string{"ISTIO_META_DNS_CAPTURE", "INVALID_DROP"} {
			_, after, found := strings.Cut(line, name)
			if !found {
				continue
			}
			after, found = strings.CutPrefix(strings.TrimLeft(after, `"' `), ":")
			if word := strings.TrimLeft(after, `"' `); found {
				env[name] = word[:len(word)-len(strings.TrimLeft(word, "TRUEFALStruefals10"))]
			}
		}
	}
	return env
}
