import { z } from 'zod';
import { describe } from '../errors/error.ts';
import { parseCidr, parseInterfaceAddress, type Cidr } from '../ip/cidr.ts';
import { familyOf, tryParseAddress, type IpAddress, type IpFamily } from '../ip/address.ts';

/**
 * All settings: name in the environment and in the settings file, schema, default, and help. Names that Calico or the
 * etcd tools define are used as they are.
 */

/** Name and help of a setting. */
interface SettingMeaning {
  readonly name: string;
  readonly help: string;
  /** Name in libnetwork-plugin; read if the current name is not set. */
  readonly formerName?: string;
}

/** Name and help of every setting, by its schema. */
export const settingMeanings = z.registry<SettingMeaning>();

const text = z.string().min(1, 'must not be empty');

const flag = z.string().transform((value, context) => {
  const word = value.toLowerCase();
  if (['true', '1', 'yes', 'on'].includes(word)) return true;
  if (['false', '0', 'no', 'off'].includes(word)) return false;
  context.addIssue({ code: 'custom', message: 'must be true or false' });
  return z.NEVER;
});

function integer(least: number, most: number) {
  return z.string().transform((value, context) => {
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= least && number <= most) return number;
    context.addIssue({
      code: 'custom',
      message: `must be an integer from ${least} to ${most}`,
    });
    return z.NEVER;
  });
}

const network = z.string().transform((value, context): Cidr => {
  try {
    return parseCidr(value);
  } catch (error) {
    context.addIssue({ code: 'custom', message: describe(error) });
    return z.NEVER;
  }
});

/** One of several words, case-insensitive; returned as spelled in the list. */
function choice<const Words extends readonly string[]>(words: Words) {
  return z.string().transform((value, context): Words[number] => {
    const found = words.find((word) => word.toLowerCase() === value.toLowerCase());
    if (found !== undefined) return found;
    context.addIssue({ code: 'custom', message: `must be one of ${words.join(', ')}` });
    return z.NEVER;
  });
}

/** Returns the parts of a comma-separated list, without blanks around them and without empty ones. */
function listed(value: string): readonly string[] {
  return value
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

const endpoints = z.string().transform((value, context) => {
  const list = listed(value);
  const isUrl = (part: string) => /^https?:\/\/[^/\s]+$/.test(part);
  if (list.length > 0 && list.every(isUrl)) return list;
  context.addIssue({
    code: 'custom',
    message: 'must be a list such as http://10.0.0.1:2379,http://10.0.0.2:2379',
  });
  return z.NEVER;
});

const dockerAddress = z.string().transform((value, context) => {
  if (value.startsWith('unix:///run/user/')) {
    context.addIssue({
      code: 'custom',
      message:
        'is a rootless Docker; calico-cnm cannot reach its network namespace; use the system Docker',
    });
    return z.NEVER;
  }
  if (/^(unix:\/\/\/|tcp:\/\/|https?:\/\/)\S+$/.test(value)) return value;
  context.addIssue({
    code: 'custom',
    message: 'must be an address such as unix:///var/run/docker.sock',
  });
  return z.NEVER;
});

const nodeName = z
  .string()
  .regex(
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
    'must be a lower-case DNS name such as host-1 or host-1.example.com',
  );

/** How the address of this host is chosen. Source: calico/node, `IP_AUTODETECTION_METHOD`. */
export type DetectionMethod =
  | { readonly by: 'first-found' }
  /** The source address of packets to a host. */
  | { readonly by: 'can-reach'; readonly destination: string }
  | { readonly by: 'interface' | 'skip-interface'; readonly pattern: RegExp }
  | { readonly by: 'cidr'; readonly cidrs: readonly Cidr[] };

const detectionMethod = z.string().transform((value, context): DetectionMethod => {
  const [, by = '', argument] = /^([a-z-]+)(?:=(.+))?$/.exec(value) ?? [];
  const parts = listed(argument ?? '');
  try {
    if (by === 'first-found' && argument === undefined) return { by };
    if (parts.length > 0) {
      if (by === 'can-reach') return { by, destination: argument ?? '' };
      if (by === 'cidr') return { by, cidrs: parts.map(parseCidr) };
      if (by === 'interface' || by === 'skip-interface') {
        return { by, pattern: new RegExp(parts.map((part) => `(?:${part})`).join('|')) };
      }
    }
  } catch (error) {
    context.addIssue({ code: 'custom', message: describe(error) });
    return z.NEVER;
  }
  context.addIssue({
    code: 'custom',
    message:
      'must be first-found, can-reach=HOST, interface=REGEX, skip-interface=REGEX or cidr=CIDR',
  });
  return z.NEVER;
});

/** The address of this host in one family: detected, none, or given; without a prefix length that of the interface. */
export type HostAddress =
  | 'autodetect'
  | 'none'
  | { readonly address: IpAddress; readonly prefixLength: number | undefined };

function addressFrom(text: string): Exclude<HostAddress, string> | undefined {
  const address = tryParseAddress(text);
  if (address !== undefined) return { address, prefixLength: undefined };
  try {
    return parseInterfaceAddress(text);
  } catch {
    return undefined;
  }
}

function hostAddress(family: IpFamily) {
  return z.string().transform((value, context): HostAddress => {
    if (value === 'autodetect' || value === 'none') return value;
    const given = addressFrom(value);
    if (given !== undefined && familyOf(given.address) === family) return given;
    context.addIssue({
      code: 'custom',
      message: `must be autodetect, none, or an IPv${family} address such as ${family === 4 ? '172.16.0.11/24' : 'fd00::11/64'}`,
    });
    return z.NEVER;
  });
}

/** Schema of all settings: parses strings to values. */
export const settingsSchema = z.object({
  nodeName: nodeName.optional().register(settingMeanings, {
    name: 'NODENAME',
    help: 'name of this host in the datastore; default: the name in CALICO_NODENAME_FILE, else the host name in lower case',
    formerName: 'CALICO_LIBNETWORK_HOSTNAME',
  }),
  nodeNameFile: text.prefault('/var/lib/calico/nodename').register(settingMeanings, {
    name: 'CALICO_NODENAME_FILE',
    help: 'file that keeps the name of this host, so that renaming the host does not make it another node',
  }),
  ip: hostAddress(4).prefault('autodetect').register(settingMeanings, {
    name: 'IP',
    help: 'IPv4 address of this host for other hosts: autodetect, none, or an address such as 172.16.0.11/24',
  }),
  ip6: hostAddress(6).prefault('autodetect').register(settingMeanings, {
    name: 'IP6',
    help: 'IPv6 address of this host for other hosts: autodetect, none, or an address such as fd00::11/64',
  }),
  ipDetection: detectionMethod.prefault('first-found').register(settingMeanings, {
    name: 'IP_AUTODETECTION_METHOD',
    help: 'how to choose the IPv4 address: first-found, can-reach=HOST, interface=REGEX, skip-interface=REGEX or cidr=CIDR',
  }),
  ip6Detection: detectionMethod.prefault('first-found').register(settingMeanings, {
    name: 'IP6_AUTODETECTION_METHOD',
    help: 'how to choose the IPv6 address: first-found, can-reach=HOST, interface=REGEX, skip-interface=REGEX or cidr=CIDR',
  }),
  etcdEndpoints: endpoints.optional().register(settingMeanings, {
    name: 'ETCD_ENDPOINTS',
    help: 'etcd endpoints, a comma-separated list of URLs; unset: use SQLite on this host',
  }),
  etcdCaFile: text
    .optional()
    .register(settingMeanings, { name: 'ETCD_CA_CERT_FILE', help: 'CA certificate of etcd' }),
  etcdCertFile: text
    .optional()
    .register(settingMeanings, { name: 'ETCD_CERT_FILE', help: 'client certificate for etcd' }),
  etcdKeyFile: text
    .optional()
    .register(settingMeanings, { name: 'ETCD_KEY_FILE', help: 'key of the client certificate' }),
  etcdUsername: text
    .optional()
    .register(settingMeanings, { name: 'ETCD_USERNAME', help: 'etcd user' }),
  etcdPassword: text
    .optional()
    .register(settingMeanings, { name: 'ETCD_PASSWORD', help: 'password of the etcd user' }),
  datastoreFile: text.prefault('/var/lib/calico/calico.db').register(settingMeanings, {
    name: 'CALICO_DATASTORE_FILE',
    help: 'path of the SQLite datastore (without etcd)',
  }),
  snapshotFile: text.prefault('/var/lib/calico/snapshot.json').register(settingMeanings, {
    name: 'CALICO_SNAPSHOT_FILE',
    help: 'path of the etcd snapshot, read at start while etcd is unavailable',
  }),
  dockerHost: dockerAddress
    .prefault('unix:///var/run/docker.sock')
    .register(settingMeanings, { name: 'DOCKER_HOST', help: 'address of the Docker API' }),
  startFailedContainers: flag.prefault('true').register(settingMeanings, {
    name: 'CALICO_START_FAILED_CONTAINERS',
    help: 'true: start containers with a restart policy that failed to start because the datastore or the daemon was unavailable',
  }),
  pluginDirectory: text.prefault('/run/docker/plugins').register(settingMeanings, {
    name: 'CALICO_PLUGIN_DIR',
    help: 'directory of the plugin sockets of Docker',
  }),
  managedSocket: text.optional().register(settingMeanings, {
    name: 'CALICO_MANAGED_SOCKET',
    help: 'set by the managed plugin: socket for calls to it by its plugin name',
  }),
  scope: choice(['local', 'global']).prefault('local').register(settingMeanings, {
    name: 'CALICO_SCOPE',
    help: 'scope of the managed plugin: local, or global for networks of Swarm services; -d calico is always local',
  }),
  controlSocket: text.prefault('/run/calico/calico-cnm.sock').register(settingMeanings, {
    name: 'CALICO_CONTROL_SOCKET',
    help: 'Unix socket for status, health and metrics',
  }),
  logLevel: choice(['error', 'warn', 'info', 'debug']).prefault('info').register(settingMeanings, {
    name: 'CALICO_LOG_LEVEL',
    help: 'log level: error, warn, info or debug',
  }),
  mtuBytes: integer(576, 65535).optional().register(settingMeanings, {
    name: 'CALICO_MTU',
    help: 'MTU of containers, in bytes; default: smallest MTU of the interfaces with the default route and with the node address',
    formerName: 'CALICO_LIBNETWORK_VETH_MTU',
  }),
  interfacePrefix: z
    .string()
    .regex(/^[a-zA-Z][a-zA-Z0-9_.-]{0,11}$/, 'must be a short interface name prefix such as eth')
    .prefault('eth')
    .register(settingMeanings, {
      name: 'CALICO_INTERFACE_PREFIX',
      help: 'prefix of interface names in containers; Docker appends a number',
      formerName: 'CALICO_LIBNETWORK_IFPREFIX',
    }),
  labelEndpoints: flag.prefault('true').register(settingMeanings, {
    name: 'CALICO_LABEL_ENDPOINTS',
    help: 'true: read Profiles and labels from Docker labels of containers; false: from networks and endpoint options only',
    formerName: 'CALICO_LIBNETWORK_LABEL_ENDPOINTS',
  }),
  labels: z
    .string()
    .transform((value, context): readonly string[] => {
      const patterns = value.split(',').map((one) => one.trim());
      const bad = patterns.find((one) => one === '' || one.slice(0, -1).includes('*'));
      if (bad === undefined) return patterns;
      context.addIssue({
        code: 'custom',
        message: `must be a list of label keys, each with a * at the end at most; "${bad}" is none`,
      });
      return z.NEVER;
    })
    .prefault(
      [
        'org.projectcalico.label.*',
        'com.docker.compose.project',
        'com.docker.compose.service',
        'com.docker.network.name',
        'com.docker.container.name',
      ].join(','),
    )
    .register(settingMeanings, {
      name: 'CALICO_LABELS',
      help: 'labels of containers that selectors of policies match: keys, separated by commas; a * at the end is any text, * alone takes all',
    }),
  createProfiles: flag.prefault('true').register(settingMeanings, {
    name: 'CALICO_CREATE_PROFILES',
    help: 'true: create a Profile for every new network; false: containers have only the Profiles assigned to them',
    formerName: 'CALICO_LIBNETWORK_CREATE_PROFILES',
  }),
  iptablesBackend: choice(['auto', 'legacy', 'nft']).prefault('auto').register(settingMeanings, {
    name: 'CALICO_IPTABLES_BACKEND',
    help: 'iptables variant: auto, legacy or nft',
  }),
  ipv6: choice(['auto', 'off']).prefault('auto').register(settingMeanings, {
    name: 'CALICO_IPV6',
    help: 'auto: IPv6 if the host supports it; off: no IPv6',
  }),
  endpointToHostAction: choice(['Return', 'Accept', 'Drop'])
    .prefault('Return')
    .register(settingMeanings, {
      name: 'CALICO_ENDPOINT_TO_HOST_ACTION',
      help: 'action for traffic from a container to its own host after its Profiles allow it: Return (INPUT rules of the host decide), Accept, Drop',
    }),
  filterDenyAction: choice(['Drop', 'Reject']).prefault('Drop').register(settingMeanings, {
    name: 'CALICO_IPTABLES_FILTER_DENY_ACTION',
    help: 'action for packets that policy denies: Drop, or Reject (with ICMP port unreachable)',
  }),
  removedRuleFlows: choice(['keep', 'end']).prefault('keep').register(settingMeanings, {
    name: 'CALICO_REMOVED_RULE_FLOWS',
    help: 'connections allowed by a rule that is removed: keep or end',
  }),
  bgp: choice(['auto', 'off']).prefault('auto').register(settingMeanings, {
    name: 'CALICO_BGP',
    help: 'auto: BGP by BIRD if it is enabled in the datastore (calico-cnm bgp enable); off: never on this host',
  }),
  bgpPasswordDirectory: text.prefault('/etc/calico/bgp-passwords').register(settingMeanings, {
    name: 'CALICO_BGP_PASSWORD_DIR',
    help: 'directory of the password files of BGP peers, NAME/KEY for a secretKeyRef with this name and key',
  }),
  namesAcrossHosts: flag.prefault('true').register(settingMeanings, {
    name: 'CALICO_NAMES_ACROSS_HOSTS',
    help: 'true: containers resolve names of containers on other hosts; false: only those on their own host',
  }),
  dnsTrustedServers: z
    .string()
    .transform((value, context): readonly string[] => {
      const servers = listed(value);
      const bad = servers.find((one) => tryParseAddress(one) === undefined);
      if (bad === undefined) return servers;
      context.addIssue({
        code: 'custom',
        message: `must be addresses of name servers; "${bad}" is none`,
      });
      return z.NEVER;
    })
    .prefault('')
    .register(settingMeanings, {
      name: 'CALICO_DNS_TRUSTED_SERVERS',
      help: 'name servers that resolve the domain names of network sets, separated by commas; without it those of /etc/resolv.conf',
    }),
  noDefaultPools: flag.prefault('false').register(settingMeanings, {
    name: 'NO_DEFAULT_POOLS',
    help: 'true: create no IP pools at first start',
  }),
  ipv4PoolCidr: network.optional().register(settingMeanings, {
    name: 'CALICO_IPV4POOL_CIDR',
    help: 'range of the default IPv4 pool; default: a /16 that does not overlap a network of this host',
  }),
  ipv4PoolBlockSize: integer(20, 32).prefault('26').register(settingMeanings, {
    name: 'CALICO_IPV4POOL_BLOCK_SIZE',
    help: 'prefix length of the blocks of the default IPv4 pool',
  }),
  ipv4PoolNatOutgoing: flag.prefault('true').register(settingMeanings, {
    name: 'CALICO_IPV4POOL_NAT_OUTGOING',
    help: 'true: masquerade traffic from the default IPv4 pool to addresses outside IP pools',
  }),
  ipv4PoolNodeSelector: text.prefault('all()').register(settingMeanings, {
    name: 'CALICO_IPV4POOL_NODE_SELECTOR',
    help: 'node selector of the default IPv4 pool',
  }),
  ipv6PoolCidr: network.optional().register(settingMeanings, {
    name: 'CALICO_IPV6POOL_CIDR',
    help: 'range of the default IPv6 pool; default: a random unique local /48',
  }),
  ipv6PoolBlockSize: integer(116, 128).prefault('122').register(settingMeanings, {
    name: 'CALICO_IPV6POOL_BLOCK_SIZE',
    help: 'prefix length of the blocks of the default IPv6 pool',
  }),
  ipv6PoolNatOutgoing: flag.prefault('false').register(settingMeanings, {
    name: 'CALICO_IPV6POOL_NAT_OUTGOING',
    help: 'true: masquerade traffic from the default IPv6 pool to addresses outside IP pools',
  }),
  ipv6PoolNodeSelector: text.prefault('all()').register(settingMeanings, {
    name: 'CALICO_IPV6POOL_NODE_SELECTOR',
    help: 'node selector of the default IPv6 pool',
  }),
});

/** Settings of libnetwork-plugin that have no effect, with the reason. */
export const retiredSettings: ReadonlyMap<string, string> = new Map([
  ['CALICO_LIBNETWORK_LABEL_POLL_TIMEOUT', 'labels are read before the first packet'],
  [
    'CALICO_LIBNETWORK_NAMESPACE',
    'networks choose the namespace of their endpoints (-o namespace=NAME); other namespaces are read',
  ],
  ['CALICO_LIBNETWORK_ENABLED', 'the driver is always enabled'],
]);

export type Settings = z.infer<typeof settingsSchema>;
export type SettingKey = keyof Settings;
