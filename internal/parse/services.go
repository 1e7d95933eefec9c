// SPDX-License-Identifier: Apache-2.0

package parse

import (
	"strings"

	"github.com/weir-mesh/weir/rules"
)

// services are the names that /etc/services has for ports, of those that a capture
// may be asked about. They are compiled in: an image of one file has no /etc.
const services = `
echo 7 discard 9 daytime 13 chargen 19 ftp-data 20 ftp 21 ssh 22 telnet 23 smtp 25 mail 25 time 37 whois 43
tacacs 49 domain 53 bootps 67 bootpc 68 tftp 69 gopher 70 finger 79 http 80 www 80 kerberos 88 pop3 110 sunrpc 111
auth 113 nntp 119 ntp 123 netbios-ns 137 netbios-dgm 138 netbios-ssn 139 imap2 143 imap 143 snmp 161 snmp-trap 162
bgp 179 irc 194 ldap 389 https 443 microsoft-ds 445 kpasswd 464 submissions 465 smtps 465 isakmp 500 syslog 514 printer 515
submission 587 ldaps 636 domain-s 853 rsync 873 ftps-data 989 ftps 990 telnets 992 imaps 993 pop3s 995 socks 1080
openvpn 1194 ms-sql-s 1433 ms-sql-m 1434 radius 1812 radius-acct 1813 mqtt 1883 nfs 2049 etcd-client 2379
etcd-server 2380 cvspserver 2401 iscsi-target 3260 mysql 3306 ms-wbt-server 3389 stun 3478 svn 3690 ipsec-nat-t 4500
sip 5060 sip-tls 5061 xmpp-client 5222 xmpp-server 5269 stuns 5349 mdns 5353 postgresql 5432 amqps 5671 amqp 5672
x11 6000 redis 6379 ircs-u 6697 http-alt 8080 secure-mqtt 8883 git 9418 zabbix-agent 10050 zabbix-trapper 10051 amanda 10080
mongodb 27017`

const maxServiceName = 15 // bytes, by RFC 6335

// servicePort is the port that a service is known by.
func servicePort(name string) (rules.Port, bool) {
	if len(name) > maxServiceName {
		return 0, false
	}
	words := strings.Fields(services)
	for i := 0; i+1 < len(words); i += 2 {
		if words[i] == name {
			return Port(words[i+1])
		}
	}
	return 0, false
}
