package integration

// kubeProxyLike is a table as kube-proxy's nftables mode writes: many chains,
// sets, maps and verdict maps.
const kubeProxyLike = `
table ip kube-proxy {
	comment "rules for kube-proxy"
	set cluster-ips { type ipv4_addr; comment "Active ClusterIPs"; elements = { 10.96.0.1, 10.96.0.10 } }
	set nodeport-ips { type ipv4_addr; comment "IPs that accept NodePort traffic"; elements = { 192.168.1.10 } }
	map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; comment "vmap to drop or reject packets to services with no endpoints"; elements = { 10.96.7.7 . tcp . 80 : goto reject-chain } }
	map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.1 . tcp . 443 : goto service-ULMVA6XW-default/kubernetes/tcp/https } }
	map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
	chain service-ULMVA6XW-default/kubernetes/tcp/https {
		ip daddr 10.96.0.1 tcp dport 443 ip saddr != 10.0.0.0/8 jump mark-for-masquerade
		numgen random mod 1 vmap { 0 : goto endpoint-7D5JRT6G-default/kubernetes/tcp/https__192.168.1.10/6443 }
	}
	chain endpoint-7D5JRT6G-default/kubernetes/tcp/https__192.168.1.10/6443 {
		ip saddr 192.168.1.10 jump mark-for-masquerade
		meta l4proto tcp dnat to 192.168.1.10:6443
	}
	chain mark-for-masquerade { meta mark set meta mark | 0x4000
	}
	chain masquerading {
		meta mark & 0x4000 == 0 return
		meta mark set meta mark ^ 0x4000
		masquerade fully-random
	}
	chain reject-chain { reject
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips fib daddr type local meta l4proto tcp counter
	}
	chain service-endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}
	chain filter-input { type filter hook input priority -110; policy accept; ct state new jump service-endpoints-check
	}
	chain filter-output { type filter hook output priority -110; policy accept; ct state new jump service-endpoints-check
	}
	chain nat-prerouting { type nat hook prerouting priority -100; policy accept; jump services
	}
	chain nat-output { type nat hook output priority -100; policy accept; jump services
	}
	chain nat-postrouting { type nat hook postrouting priority 100; policy accept; jump masquerading
	}
}
`
