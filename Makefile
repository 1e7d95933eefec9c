# SPDX-License-Identifier: Apache-2.0
# weir: what there is to do. `make` lists it.

GO      ?= go
RELEASE ?=
LDFLAGS := -s -w $(if $(RELEASE),-X github.com/weir-mesh/weir/internal/version.release=$(RELEASE))
# Without the library's writers of man pages, which cost every start half a millisecond.
TAGS    := urfave_cli_no_docs
# Runs of each target: a duration can end in "context deadline exceeded", a count cannot.
FUZZTIME ?= 5000x
# OUT: where programs and images are written.
OUT := bin

.PHONY: help build weir demo egress-demo quick arches kernels node-test programs releases cluster-test alerts test check lint fuzz bench soak roundtrip image man release publish release-test tools clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: ## the programs, static files: bin/weir; bin/weir-cni, which is weir cni with a client of the API server; bin/weir-node, the node's agent; bin/weir-egress, which counts what is called
	@mkdir -p $(OUT)
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(OUT)/ ./cmd/weir ./cmd/weir-cni ./cmd/weir-node ./cmd/weir-egress

weir: ## bin/weir alone, which needs a third of the time that build does where nothing is cached
	@mkdir -p $(OUT)
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $(OUT)/ ./cmd/weir

demo: weir ## show interception of real traffic in throw-away network namespaces
	@CGO_ENABLED=0 $(GO) build -o bin/demo ./internal/demo
	@./bin/demo ./bin/weir

egress-demo: tools ## weir-egress serve in throw-away network namespaces: https by name, http to https by code, a wildcard, and the metrics
	@$(GO) test -count=1 -v -run '^TestSeed$$' ./internal/egress/serve

# The kernel tests that a change most often breaks, and that end in a moment.
QUICK := ^(TestApplyTwiceSendsNothing|TestRemoveLeavesNothing|TestShow|TestVerifyWaits|TestLockOfAnotherIsWaitedFor|TestTraceInWords)$$

# More packages at once than processors: tests of the kernel and of sockets wait more than they compute.
SHORT := -short -vet=off -p 4

quick: build ## under a minute, before each commit: build, format, vet, the short tests
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) run ./internal/tally -- $(SHORT) -skip '$(ELSEWHERE)' $$($(GO) list ./... | grep -v /integration$$) -- $(SHORT) -count=1 -run '$(QUICK)' ./integration

# What only computes, in one goroutine, takes five to ten times as long with the race
# detector, which can find nothing there.
COMPUTES := ^(TestExplainAllGoldens|TestTruth|TestDocumentsThatAreTooMuch|TestLongListsOfAnyWords|TestLargeDocument)$$
PURE     := /(rules|modes|sim|sim/packet|sim/survey|internal/graph|internal/tally)$$

# The tests of the whole, which run the programs as they are built: a race would be theirs, not the tests'.
WHOLE    := /integration$$

# What node-test, cluster-test and release-test run, and what soak alone runs.
ELSEWHERE := ^(TestRelease|TestSoakConnections|TestSoakKills|TestSoakQuietNode|TestContainerd|TestContainerdInit|TestContainerdKill|TestContainerdProxyContainer|TestDriftAtScale|TestUntrackedFullTable|TestUntrackedQUIC|TestBrowser)$$
CLUSTERED := /integration/cluster$$

test: tools ## every test, units with the race detector; kernel tests in namespaces of their own
	@mkdir -p bin
	$(GO) run ./internal/tally $(filter -v,$(TESTFLAGS)) -o bin/tested -- \
		-race -count=1 -timeout 40m -skip '$(COMPUTES)|$(ELSEWHERE)' $(filter-out -v,$(TESTFLAGS)) $$($(GO) list ./... | grep -vE '$(PURE)|$(WHOLE)|$(CLUSTERED)') -- \
		-count=1 -timeout 40m -skip '$(ELSEWHERE)' $(filter-out -v,$(TESTFLAGS)) ./integration -- \
		-count=1 -timeout 40m $(filter-out -v,$(TESTFLAGS)) $$($(GO) list ./... | grep -E '$(PURE)') -- \
		-count=1 -timeout 40m -run '$(COMPUTES)' $(filter-out -v,$(TESTFLAGS)) ./cmd/weir ./config

START := $(shell date +%s)
check: tools lint test fuzz ## what CI runs: format, vet, staticcheck, tests, fuzz; ends in a line of counts
	@echo "check: $$(cat bin/tested), in $$(($$(date +%s) - $(START))) s"

lint: ## gofmt, vet, staticcheck, tidy
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

fuzz: ## each decoder and parser, 5,000 times (FUZZTIME=)
	@log=$$(mktemp); trap 'rm -f '$$log EXIT; $(GO) list ./... | while read -r pkg; do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x $$pkg >$$log 2>&1 || { cat $$log; exit 1; }; \
		done || exit 1; \
	done

# With -only in BENCHFLAGS a part is measured, and the page stays.
bench: build tools ## speed and memory, as ratios to nft and iptables-restore; writes docs/performance.md
	$(GO) test -run '^$$' -bench . -benchmem ./rules ./modes ./config ./nft ./proxy ./cmd/weir ./integration
	$(GO) test -run '^$$' -bench 'BenchmarkCost|BenchmarkServe' -benchtime 1x -v ./internal/egress/watch ./internal/egress/serve
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/bare ./internal/bench/bare
	$(GO) run ./internal/bench -bare ./bin/bare $(if $(findstring -only,$(BENCHFLAGS)),,-write docs/performance.md) $(BENCHFLAGS) ./bin/weir

# SOAK: how long each part of a soak may take, such as 2h; without it the long tests of make test are run whole.
SOAK ?=
soak: tools ## the long tests whole; with SOAK=2h 10,000,000 connections, 5,000 kills, drift in 250 namespaces, beside each other, with rates and what is held
ifeq ($(SOAK),)
	WEIR_SOAK=1 $(GO) test -count=1 -timeout 3h -v -skip '^TestSoak' ./integration ./internal/node ./internal/zds ./internal/egress/watch ./internal/egress/serve
else
	WEIR_SOAK=1 WEIR_SOAK_TIME=$(SOAK) $(GO) test -count=1 -timeout 0 -v -p 2 -parallel 2 -run '^(TestSoak.*|TestDriftAtScale)$$' ./integration ./internal/node
endif

# SEED: the first; otherwise it is the time.
COUNT ?= 1000000
roundtrip: tools ## random rulesets, loaded, lifted, printed, loaded (COUNT=, SEED=)
	WEIR_ROUNDTRIP=$(COUNT) WEIR_SEED=$(or $(SEED),$(shell date +%s%N)) $(GO) test -count=1 -timeout 0 -v -run '^TestRoundTrip$$' ./nft

kernels: build ## the kernel tests on Debian's 5.10, 6.1 and 6.12, in qemu; writes docs/kernels.md
	@command -v qemu-system-x86_64 >/dev/null || apt-get install -y -qq --no-install-recommends qemu-system-x86 >/dev/null
	@mkdir -p bin
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/kernels ./internal/kernels
	@CGO_ENABLED=0 $(GO) test -c -vet=off -trimpath -ldflags '-s -w' -o bin/integration.test ./integration
	@./bin/kernels -dir bin/debian -weir bin/weir -tests bin/integration.test -testdata integration/testdata -write docs/kernels.md $(KERNELFLAGS)

# The programs of a node, built once for each version: crictl, containerd 2 and plugins of CNI 1.1.
CRICTL     := v1.37.0
CONTAINERD := v2.4.2
PLUGINS    := v1.10.0
NODE       := $(CURDIR)/bin/node-$(CRICTL)-$(CONTAINERD)-$(PLUGINS)
NODEBUILDS := sigs.k8s.io/cri-tools/cmd/crictl@$(CRICTL) \
	github.com/containerd/containerd/v2/cmd/containerd@$(CONTAINERD) \
	github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@$(CONTAINERD) \
	github.com/containerd/containerd/v2/cmd/ctr@$(CONTAINERD) \
	github.com/containernetworking/plugins/plugins/main/bridge@$(PLUGINS) \
	github.com/containernetworking/plugins/plugins/main/loopback@$(PLUGINS) \
	github.com/containernetworking/plugins/plugins/ipam/host-local@$(PLUGINS)

# WEIR_KILLS: how often the plugin is killed, 500 times unless it is set.
node-test: tools $(NODE)/done ## the plugin, and the image as an init container, under containerd 1.6 and 2.4, with crictl; builds containerd the first time
	@command -v containerd >/dev/null || apt-get install -y -qq --no-install-recommends containerd >/dev/null
	WEIR_NODE=$(NODE) $(GO) test -count=1 -timeout 2h -v -run '^TestContainerd' ./integration

$(NODE)/done:
	@for p in $(NODEBUILDS); do \
		name=$${p%%@*}; [ -x $(NODE)/$${name##*/} ] || CGO_ENABLED=0 GOBIN=$(NODE) $(GO) install -trimpath $$p || exit 1; \
	done
	@touch $@

# The programs of a cluster, built once for each version, as integration/cluster/programs/go.mod pins them.
PROGRAMS   := integration/cluster/programs
KUBERNETES := $(shell sed -n 's|.*k8s.io/kubernetes \(v[0-9.]*\).*|\1|p' $(PROGRAMS)/go.mod)
CLUSTER    := $(CURDIR)/bin/cluster-$(KUBERNETES)
KUBELD     := -s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES)

programs: $(NODE)/done $(CLUSTER)/done ## what cluster-test runs: Kubernetes and containerd, built the first time (about ten minutes)

$(CLUSTER)/done: $(PROGRAMS)/go.mod
	@mkdir -p $(CLUSTER)
	@for p in kubelet kube-apiserver kube-controller-manager kube-scheduler kubectl; do \
		[ -x $(CLUSTER)/$$p ] || (cd $(PROGRAMS) && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(KUBELD)' -o $(CLUSTER)/$$p k8s.io/kubernetes/cmd/$$p) || exit 1; \
	done
	@touch $@

bin/helm: integration/cluster/helm/go.mod
	cd $(<D) && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ helm.sh/helm/v3/cmd/helm

# Two releases of the agent, of one source, for the test that upgrades it.
RELEASES := v1.0.0 v1.1.0

releases: $(RELEASES:%=bin/weir-node-%.oci.tar)

bin/weir-node-%.oci.tar: build
	$(MAKE) image RELEASE=$* OUT=bin/release-$*
	mv bin/release-$*/weir-node.oci.tar $@
	rm -r bin/release-$*

# RUN: the tests to run, all without it.
RUN ?= .
cluster-test: tools image programs releases bin/helm ## the node agent on a cluster of one node, with a real kubelet and API server (RUN=)
	@command -v etcd >/dev/null || apt-get install -y -qq --no-install-recommends etcd-server >/dev/null
	CGO_ENABLED=0 WEIR_CLUSTER=$(CLUSTER) WEIR_NODE=$(NODE) WEIR_BIN=$(CURDIR)/bin WEIR_HELM=$(CURDIR)/bin/helm $(GO) test -count=1 -timeout 1h -v -run '$(RUN)' ./integration/cluster

alerts: ## check and test the alert rules with promtool
	@command -v promtool >/dev/null || apt-get install -y -qq --no-install-recommends prometheus >/dev/null
	promtool check rules deploy/alerts.yaml
	promtool test rules deploy/alerts_test.yaml

ARCHES := arm64:aarch64 s390x:s390x

# Big-endian s390x shows where a number of the kernel's is not in the machine's order.
# Tests that enter a namespace start a program of their own, which the emulator cannot, and it knows no netlink of netfilter.
arches: ## tests that need no kernel of their own, built for arm64 and s390x, in qemu
	@command -v qemu-s390x-static >/dev/null || apt-get install -y -qq --no-install-recommends qemu-user-static >/dev/null
	@for a in $(ARCHES); do \
		echo "$${a%%:*}:"; \
		CI= CGO_ENABLED=0 GOARCH=$${a%%:*} $(GO) test -short -vet=off -count=1 -p 2 -timeout 30m -skip '^TestNamespace$$' -exec qemu-$${a##*:}-static \
			./rules ./modes ./sim/... ./internal/nl ./internal/escape ./internal/graph || exit 1; \
		CI= CGO_ENABLED=0 GOARCH=$${a%%:*} $(GO) test -short -vet=off -count=1 -timeout 30m -skip '^(TestNamespace|Example)$$' -exec qemu-$${a##*:}-static ./nft || exit 1; \
	done

# Pages and completions need a date: that of the commit.
man: ## the manual's pages, in bin/man: man bin/man/weir-apply.8
	@mkdir -p bin/man
	@for p in weir weir-egress; do \
		CGO_ENABLED=0 $(GO) build -tags man -ldflags '-X github.com/weir-mesh/weir/internal/version.commit=$(shell git rev-parse HEAD) -X github.com/weir-mesh/weir/internal/version.date=$(shell git show -s --format=%cI HEAD)' -o bin/$$p-man ./cmd/$$p && \
		bin/$$p-man man bin/man || exit 1; \
	done

release: ## what is shipped of this commit, in dist: archives, .deb, .rpm, lists of modules, checksums (RELEASE=v1.2.3)
	@test -z "$$(git status --porcelain)" || { echo "release: commit first"; exit 1; }
	$(GO) run ./internal/release -version "$(RELEASE)" -images $(IMAGES) -out dist

publish: ## put dist on GitHub as the release of a tag, with the changes as its notes (RELEASE=v1.2.3; gh, GH_TOKEN)
	gh release create "$(RELEASE)" --verify-tag --notes-file CHANGELOG.md dist/*

release-test: ## two releases of this commit, by other users in other folders: one hash; the .deb in a chroot, the lists of modules
	@for t in debootstrap:debootstrap rpm:rpm man:man-db; do command -v $${t%%:*} >/dev/null || apt-get install -y -qq --no-install-recommends $${t##*:} >/dev/null || exit 1; done
	$(GO) test -count=1 -timeout 3h -v -run '^TestRelease$$' ./internal/release

# IMAGES: the registry and folder that images are named after.
IMAGES ?= localhost/weir
TAG    := $(or $(RELEASE),dev)

image: build ## the container images, as OCI archives that no daemon is needed for: bin/*.oci.tar
	$(GO) run ./internal/image/pack -name $(IMAGES)/weir:$(TAG) -o $(OUT)/weir.oci.tar $(OUT)/weir
	$(GO) run ./internal/image/pack -name $(IMAGES)/weir-node:$(TAG) -o $(OUT)/weir-node.oci.tar $(OUT)/weir-node $(OUT)/weir-cni $(OUT)/weir

# What the tests run beside weir: the real nft and ip, what they compare with, and
# proxies that others wrote.
TOOLS := nft:nftables ip:iproute2 iptables-nft:iptables haproxy:haproxy dnsmasq:dnsmasq-base jq:jq curl:curl \
	/usr/lib/cni/ptp:containernetworking-plugins podman:podman runc:runc conmon:conmon busybox:busybox-static \
	nginx:nginx-light dig:bind9-dnsutils openssl:openssl conntrack:conntrack /usr/bin/python3:python3

# Where a package is installed, its service is not started: policy-rc.d says so.
tools:
	@missing=; for t in $(TOOLS); do \
		command -v $${t%%:*} >/dev/null 2>&1 || [ -x /usr/sbin/$${t%%:*} ] || missing="$$missing $${t##*:}"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || { echo "the tests need:$$missing (apt-get install$$missing, as root)"; exit 1; }; \
	policy=/usr/sbin/policy-rc.d; \
	[ -e $$policy ] || { trap 'rm -f /usr/sbin/policy-rc.d' EXIT; printf '#!/bin/sh\nexit 101\n' >$$policy; chmod +x $$policy; }; \
	apt-get update -qq && apt-get install -y -qq $$missing >/dev/null

clean: ## what was built
	rm -rf bin
