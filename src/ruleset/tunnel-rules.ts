import { dropReasons } from './drop-reasons.ts';
import type { Condition, HostRule } from './statement.ts';

/** The host's rules for packets of the tunnels between nodes. */

export interface VxlanOptions {
  readonly port: number;
  readonly vni: number;
}

/** Returns the criteria of packets to a port of VXLAN, which is one of UDP. Source: RFC 7348. */
export function isToVxlanPort(port: number) {
  return [
    { kind: 'protocol', protocol: 17 },
    { kind: 'destinationPort', port },
  ] as const satisfies readonly Condition[];
}

/** Broadcasts and multicasts as well: the kernel takes tunnel packets from them. */
export function toVxlanPort(
  { port }: VxlanOptions,
  block: 'vxlanToHost' | 'forwardedVxlan',
): HostRule {
  return { name: 'VXLAN', when: isToVxlanPort(port), action: { kind: 'block', block } };
}

/**
 * Tunnel packets of our virtual network come from nodes only: anyone else could send packets into it that claim to be
 * from any container. Packets of other virtual networks on the same port are not ours to judge.
 */
export function vxlanToHost({ vni }: VxlanOptions): readonly HostRule[] {
  return [
    {
      name: 'of a node',
      when: [
        { kind: 'sourceIsTunnelNode', encapsulation: 'vxlan' },
        { kind: 'isOfVni', vni },
      ],
      action: { kind: 'accept' },
      comment: 'VXLAN packets of nodes',
    },
    {
      name: 'of an unknown host',
      when: [{ kind: 'isOfVni', vni }],
      action: { kind: 'drop', reason: dropReasons.vxlan },
      comment: 'VXLAN packets of unknown hosts',
    },
  ];
}

/**
 * What this host forwards often has its own address as source from here on, by NAT: other nodes would take the tunnel
 * packet of a container on Docker's bridge, or of a virtual machine, for one of this node. The kernel does not forward
 * its own.
 */
export function forwardedVxlan({ vni }: VxlanOptions): readonly HostRule[] {
  return [
    {
      name: 'of no node',
      when: [
        { kind: 'destinationIsTunnelNode', encapsulation: 'vxlan' },
        { kind: 'sourceIsTunnelNode', encapsulation: 'vxlan', negated: true },
        { kind: 'isOfVni', vni },
      ],
      action: { kind: 'drop', reason: dropReasons.vxlan },
      comment: 'VXLAN packets of unknown hosts',
    },
  ];
}

/** Protocol number. Source: RFC 2003. */
const ipInIp: Condition = { kind: 'protocol', protocol: 4 };

/**
 * Packets of IP-in-IP tunnels come from nodes only, for the reason of VXLAN's. The kernel's own interface, `tunl0`, takes
 * every such packet that belongs to no other tunnel of the host, those to broadcast addresses as well, and its outer
 * source is lost beyond it.
 */
export const ipipToHost: readonly HostRule[] = [
  {
    name: 'IPIP of a node',
    when: [ipInIp, { kind: 'sourceIsTunnelNode', encapsulation: 'ipip' }],
    action: { kind: 'accept' },
    comment: 'IPIP packets of nodes',
  },
  {
    name: 'IPIP of an unknown host',
    when: [ipInIp],
    action: { kind: 'drop', reason: dropReasons.ipip },
    comment: 'IPIP packets of unknown hosts',
  },
];

/** For the reason of VXLAN's. */
export const noForwardedIpip: HostRule = {
  name: 'IPIP of no node',
  when: [
    ipInIp,
    { kind: 'destinationIsTunnelNode', encapsulation: 'ipip' },
    { kind: 'sourceIsTunnelNode', encapsulation: 'ipip', negated: true },
  ],
  action: { kind: 'drop', reason: dropReasons.ipip },
  comment: 'IPIP packets of unknown hosts',
};

/** Tunnel packets of this host: host endpoints let them pass, or its containers would reach none on other hosts. */
export function vxlanToNode({ port }: VxlanOptions): HostRule {
  return {
    name: 'VXLAN to a node',
    when: [...isToVxlanPort(port), { kind: 'destinationIsTunnelNode', encapsulation: 'vxlan' }],
    action: { kind: 'accept' },
    comment: 'VXLAN packets to nodes',
  };
}

/** Likewise. */
export const ipipToNode: HostRule = {
  name: 'IPIP to a node',
  when: [ipInIp, { kind: 'destinationIsTunnelNode', encapsulation: 'ipip' }],
  action: { kind: 'accept' },
  comment: 'IPIP packets to nodes',
};
