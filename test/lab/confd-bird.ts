/**
 * The configuration that Calico's confd writes for a node, as data for tests of interworking. It follows, in form, names
 * and order of the filters, projectcalico/calico at 87c15906 (v3.33): confd/etc/calico/confd/templates/bird.cfg.template,
 * bird_aggr.cfg.template and bird_ipam.cfg.template, for pools without encapsulation, and where Felix has the routes
 * of tunnels. What BIRD 1.6 spells differently is in the words of BIRD 2: channels of address families, the kernel's
 * `metric 0`, and one daemon for both families.
 */
export interface ConfdNode {
  readonly routerId: string;
  readonly asNumber: number;
  /** In each family of which it has an address. */
  readonly families: readonly {
    readonly family: 4 | 6;
    readonly address: string;
    /** The node's blocks. */
    readonly blocks: readonly string[];
    /** Pools whose routes BIRD writes to the kernel. */
    readonly pools: readonly string[];
    /** Pools whose routes Felix writes. */
    readonly poolsOfFelix: readonly string[];
    readonly peers: readonly ConfdPeer[];
  }[];
}

/** A session, with a node. */
export interface ConfdPeer {
  readonly kind: 'Mesh' | 'Node';
  readonly address: string;
  readonly asNumber: number;
  /** The peer is a client of this node, which is a reflector of this cluster. */
  readonly clusterId?: string;
}

export function confdBird({ routerId, asNumber, families }: ConfdNode): string {
  return `# In the form of confd, for stock BIRD 2
function apply_communities ()
{
}
router id ${routerId};
protocol device {
  debug { states };
  scan time 2;
}
template bgp bgp_template {
  debug { states, routes, filters, events };
  description "Connection to BGP peer";
  local as ${asNumber};
  graceful restart;
  connect delay time 2;
  connect retry time 5;
  error wait time 5,30;
}
${families.map((one) => familyText(one, asNumber)).join('\n')}`;
}

function familyText(
  { family, address, blocks, pools, poolsOfFelix, peers }: ConfdNode['families'][number],
  asNumber: number,
): string {
  const aggregates = blocks.map(
    (block) => `
  if ( net = ${block} ) then { accept; }
  if ( net ~ ${block} && krt_metric < 1024 ) then { accept; }
  if ( net ~ ${block} ) then { reject; }`,
  );
  const each = (nets: readonly string[], end: string) =>
    nets.map((net) => `\n  if (net ~ ${net}) then { ${end}; }`).join('');
  return `
protocol static {
  ipv${family};
  ${blocks.map((block) => `route ${block} blackhole;`).join('\n  ')}
}
function calico_aggr_${family} ()
{${aggregates.join('')}
}
function calico_export_to_bgp_peers_${family} (bool internal_peer)
{
  if (internal_peer) then {
    if (defined(ifname)) then {
      if ((ifname ~ "*.cali") || (ifname ~ "*.calico") || (ifname ~ "tunl0")) then { reject; }
    }
  }
  if (defined(ifname)) then { if (ifname ~ "bpf*.cali") then { reject; } }
  apply_communities();
  calico_aggr_${family}();${each([...pools, ...poolsOfFelix], 'accept')}
}
filter calico_kernel_programming_${family} {
  if (defined(source) && (source = RTS_BGP) && !defined(krt_metric)) then {
    krt_metric = 1024;
    if (defined(bgp_local_pref)) then { krt_metric = 2147483647 - bgp_local_pref; }
    if (krt_metric < 1024) then { preference = 200; }
  }${each(poolsOfFelix, 'reject')}${each(pools, 'accept')}
  accept;
}
protocol kernel {
  learn;
  persist;
  scan time 2;
  graceful restart;
  merge paths on;
  metric 0;
  ipv${family} { import all; export filter calico_kernel_programming_${family}; };
}
protocol direct {
  debug { states };
  ipv${family};
  interface -"cali*", -"kube-ipvs*", "*";
}
${peers.map((peer) => peerText(peer, { family, address, asNumber })).join('\n')}`;
}

function peerText(
  { kind, address: peer, asNumber: peerAs, clusterId }: ConfdPeer,
  {
    family,
    address,
    asNumber,
  }: { readonly family: 4 | 6; readonly address: string; readonly asNumber: number },
): string {
  return `protocol bgp ${kind}_${peer.replaceAll(/[.:]/g, '_')} from bgp_template {
  neighbor ${peer} as ${peerAs};
  source address ${address};
  ttl security off;
  multihop;
  ipv${family} {
    gateway recursive;
    add paths on;
    import filter {
      if (defined(bgp_local_pref)&&(bgp_local_pref > 2147482623)) then
        preference = 200;
      accept;
    };
    export filter {
      if (defined(source) && source = RTS_BGP && defined(bgp_local_pref)) then {
        krt_metric = 2147483647 - bgp_local_pref;
      } else {
        if (!defined(krt_metric)) then { krt_metric = 1024; }
        bgp_local_pref = 2147483647 - krt_metric;
      }
      calico_export_to_bgp_peers_${family}(${peerAs === asNumber});
      reject;
    };
  };${kind === 'Mesh' && peer > address ? '\n  passive on;' : ''}${
    clusterId === undefined ? '' : `\n  rr client;\n  rr cluster id ${clusterId};`
  }
}
`;
}
