import type { IpFamily } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import { dropReasons } from './drop-reasons.ts';
import type { GuardedStages } from './host-endpoint.ts';
import {
  beginVerdicts,
  fromHostHooks,
  hostEndpointHooks,
  localHooks,
  untracked,
} from './host-endpoint-hooks.ts';
import {
  ipipToHost,
  ipipToNode,
  forwardedVxlan,
  noForwardedIpip,
  toVxlanPort,
  vxlanToHost,
  vxlanToNode,
  type VxlanOptions,
} from './tunnel-rules.ts';
import {
  workloads,
  type Block,
  type Condition,
  type HookPurpose,
  type HostRule,
} from './statement.ts';

/** Options of the host's rules. */
export interface HostRuleOptions {
  /** Action for traffic from a container to its host after its Profiles allow it. */
  readonly endpointToHostAction: 'Return' | 'Accept' | 'Drop';
  /** Whether the host forwards for containers only, and not between its own interfaces. */
  readonly guardsForwarding: boolean;
  /** Port and virtual network of the VXLAN tunnels between nodes; absent if there are none in this family. */
  readonly vxlan?: VxlanOptions | undefined;
  /** Whether there are IP-in-IP tunnels between nodes. */
  readonly ipip?: boolean | undefined;
  /** Port of this host's BGP speaker; absent if it has none. */
  readonly bgpPort?: number | undefined;
  /** Which rules host endpoints of this host need; absent if there are none. */
  readonly hostEndpoints?: GuardedStages | undefined;
}

/** The rules of hooks and blocks; a hook contains rules of other programs as well. */
export interface HostRules {
  readonly hooks: Readonly<Partial<Record<HookPurpose, readonly HostRule[]>>>;
  readonly blocks: Readonly<Partial<Record<Block, readonly HostRule[]>>>;
}

const fromWorkload: Condition = { kind: 'from', interfaces: workloads };
const toWorkload: Condition = { kind: 'to', interfaces: workloads };

/** Only the first packet of a connection, and ICMP errors, are judged by stacks. */
const ofConnection: readonly HostRule[] = (['from', 'to'] as const).map((kind) => ({
  name: `of a connection, ${kind} a container`,
  when: [
    { kind, interfaces: workloads },
    { kind: 'connection', is: 'established' },
  ],
  action: { kind: 'accept' },
}));

/**
 * The rules that do not depend on resources. The packet flow is Calico's: a forwarded packet is judged by the stack of
 * its source container and by that of its destination container; a packet that both allow is accepted if Docker's
 * rules allow it too. The host can always reach its own containers.
 */
export function hostRules(family: IpFamily, options: HostRuleOptions): HostRules {
  const { vxlan, ipip = false, bgpPort, hostEndpoints } = options;
  return {
    hooks: {
      ...(hostEndpoints === undefined ? {} : hostEndpointHooks(hostEndpoints)),
      arrival: [
        ...(hostEndpoints === undefined ? [] : [beginVerdicts]),
        ...arrival(family),
        ...(hostEndpoints?.isUntracked === true ? untracked.from : []),
      ],
      toHost: [
        ...(vxlan === undefined ? [] : [toVxlanPort(vxlan, 'vxlanToHost')]),
        ...(ipip ? ipipToHost : []),
        ...(bgpPort === undefined ? [] : [noBgpStranger(bgpPort)]),
        {
          name: 'from a container',
          when: [fromWorkload],
          action: { kind: 'block', block: 'workloadToHost' },
        },
        ...(hostEndpoints === undefined
          ? []
          : localHooks('fromHostEndpoint', hostEndpoints.isUntracked || hostEndpoints.isPreDnat)),
      ],
      // What a tunnel must not carry it must not carry in a connection either, which may be older than the tunnel.
      firstForward: [
        ...(vxlan === undefined ? [] : [toVxlanPort(vxlan, 'forwardedVxlan')]),
        ...(ipip ? [noForwardedIpip] : []),
        ...ofConnection,
      ],
      forward: [
        beginVerdicts,
        {
          name: 'from a container',
          when: [fromWorkload],
          action: { kind: 'block', block: 'egress' },
        },
        { name: 'to a container', when: [toWorkload], action: { kind: 'block', block: 'ingress' } },
      ],
      afterForward: [allowedByPolicy, ...(options.guardsForwarding ? [toForwardingGuard] : [])],
      ...(hostEndpoints === undefined
        ? {}
        : {
            fromHost: [
              { name: 'to a container', when: [toWorkload], action: { kind: 'return' } },
              ...(vxlan === undefined ? [] : [vxlanToNode(vxlan)]),
              ...(ipip ? [ipipToNode] : []),
              ...fromHostHooks(hostEndpoints),
            ],
          }),
      redirectArriving: [
        // It comes from a neighbour that sends it to us; the kernel drops it.
        { name: 'to a loopback address', when: [loopback(family)], action: { kind: 'return' } },
        published({ remembered: true }),
      ],
      redirectFromHost: [
        // `::1` cannot be translated.
        ...(family === 4
          ? []
          : [
              {
                name: 'to a loopback address',
                when: [loopback(family)],
                action: { kind: 'return' },
              } as const,
            ]),
        published({ remembered: false }),
      ],
      leaving: leaving(family),
    },
    blocks: {
      workloadToHost: workloadToHost(family, options),
      relatedEgress: related(family),
      relatedIngress: [...related(family), ...relatedOnTheWay],
      natOutgoing,
      ...(options.guardsForwarding ? { forwardingGuard } : {}),
      ...(vxlan === undefined
        ? {}
        : { vxlanToHost: vxlanToHost(vxlan), forwardedVxlan: forwardedVxlan(vxlan) }),
    },
  };
}

/** The source address must be one of the sending container. */
function arrival(family: IpFamily): readonly HostRule[] {
  // Neighbour discovery uses link-local sources, or none, before it can use another.
  const discovery = ['fe80::/10', '::/128'].map((source): HostRule => ({
    name: `neighbour discovery from ${source}`,
    when: [
      fromWorkload,
      { kind: 'protocol', protocol: 58 },
      { kind: 'source', net: parseCidr(source) },
    ],
    action: { kind: 'return' },
  }));
  const notItsOwn: HostRule = {
    name: 'source of another',
    when: [fromWorkload, { kind: 'isOwnSource', negated: true }],
    action: { kind: 'drop', reason: dropReasons.source },
    comment: 'Source address of another, or unknown interface',
  };
  // No reply of a container has a loopback destination on the wire. The kernel accepts such packets from interfaces of containers with ports published on it, and they would reach the host's own services.
  const toLoopback: HostRule = {
    name: 'to a loopback address',
    when: [fromWorkload, loopback(4)],
    action: { kind: 'drop', reason: dropReasons.loopback },
    comment: 'Loopback address of the host',
  };
  // The kernel would look for each such neighbour on the veth, even to refuse the packet, and fill the neighbour table
  // that the host and all containers share.
  const toLinkLocal: HostRule = {
    name: 'to a link-local address of no host interface',
    when: [
      fromWorkload,
      { kind: 'destination', net: parseCidr('fe80::/10') },
      { kind: 'destinationIsHost', negated: true },
    ],
    action: { kind: 'drop' },
    comment: 'Link-local address of no host interface',
  };
  return family === 4 ? [notItsOwn, toLoopback] : [toLinkLocal, ...discovery, notItsOwn];
}

function workloadToHost(
  family: IpFamily,
  { endpointToHostAction }: HostRuleOptions,
): readonly HostRule[] {
  // Multicast listener reports and neighbour discovery: without them the container finds no next hop.
  const discovery = [130, 131, 132, 133, 135, 136, 143].map((type): HostRule => ({
    name: `neighbour discovery, type ${type}`,
    when: [
      { kind: 'protocol', protocol: 58 },
      { kind: 'icmpType', type },
    ],
    action: { kind: 'accept' },
  }));
  const allowed = {
    Return: { kind: 'return' },
    Accept: { kind: 'accept' },
    Drop: { kind: 'drop', reason: dropReasons.toHost },
  } as const;
  return [
    ...(family === 6 ? discovery : []),
    beginVerdicts,
    { name: 'policy', when: [], action: { kind: 'block', block: 'egress' } },
    {
      name: 'allowed by policy',
      when: [],
      action: allowed[endpointToHostAction],
      comment: 'Traffic to the host that the container may send',
    },
  ];
}

/**
 * Packets related to a connection are accepted, except ICMP errors from a container that is not an end of it: a
 * container that knows the addresses and ports of a flow could otherwise end it, or change the path MTU of its ends,
 * from a network without access to them. Such an error needs an allow rule like any packet. Errors from routers and
 * hosts on the path, from the other end, and from the internet are accepted; the host's own errors do not pass here.
 */
function related(family: IpFamily): readonly HostRule[] {
  return [
    {
      name: 'no ICMP error',
      when: [{ kind: 'protocol', protocol: family === 4 ? 1 : 58, negated: true }],
      action: { kind: 'accept' },
    },
    {
      name: 'ICMP error of the other end',
      when: [{ kind: 'isErrorOfOtherEnd' }],
      action: { kind: 'accept' },
      comment: 'ICMP error of the other end',
    },
  ];
}

const relatedOnTheWay: readonly HostRule[] = [
  { name: 'ICMP error of a container', when: [fromWorkload], action: { kind: 'return' } },
  {
    name: 'ICMP error of no container',
    when: [{ kind: 'sourceIn', addresses: 'allPools', negated: true }],
    action: { kind: 'accept' },
    comment: 'ICMP error of no container',
  },
];

const allowedByPolicy: HostRule = {
  name: 'allowed by policy',
  when: [{ kind: 'isAllowed' }],
  action: { kind: 'accept' },
  comment: 'Policy explicitly accepted packet.',
};

/** Docker's bridges, whose packets are judged by Docker's own rules, or by none if it writes none for IPv6. */
const dockerBridges = [{ name: 'docker0' }, { name: 'docker_gwbridge' }, { prefix: 'br-' }];

const toForwardingGuard: HostRule = {
  name: 'guard',
  when: [],
  action: { kind: 'block', block: 'forwardingGuard' },
};

/**
 * Prevents a host that forwards for its containers from routing between its own interfaces: drops packets that are
 * neither from nor to a container.
 */
const forwardingGuard: readonly HostRule[] = [
  ...[workloads, ...dockerBridges].flatMap((interfaces): readonly HostRule[] => {
    const shown = 'prefix' in interfaces ? `${interfaces.prefix}*` : interfaces.name;
    return [
      { name: `from ${shown}`, when: [{ kind: 'from', interfaces }], action: { kind: 'return' } },
      { name: `to ${shown}`, when: [{ kind: 'to', interfaces }], action: { kind: 'return' } },
    ];
  }),
  {
    name: 'between interfaces of the host',
    when: [],
    action: { kind: 'drop' },
    comment: 'Forwarding was switched on for containers only',
  },
];

/** Whoever may speak BGP to this host takes part in its routing, and any connection costs the speaker work. */
function noBgpStranger(port: number): HostRule {
  return {
    name: 'BGP of no peer',
    when: [
      { kind: 'protocol', protocol: 6 },
      { kind: 'destinationPort', port },
      { kind: 'destinationIsHost' },
      { kind: 'sourceIsBgpPeer', negated: true },
    ],
    action: { kind: 'drop' },
    comment: 'BGP connections of hosts that are no peers',
  };
}

/** Loopback addresses of the host: only the host itself may use them. */
function loopback(family: IpFamily): Condition {
  return { kind: 'destination', net: parseCidr(family === 4 ? '127.0.0.0/8' : '::1/128') };
}

/**
 * Destination NAT to published ports. Connections from outside this host are marked; the host can always reach its own
 * containers.
 */
function published({ remembered }: { readonly remembered: boolean }): HostRule {
  return {
    name: 'published port',
    when: [{ kind: 'destinationIsHost' }],
    action: { kind: 'publish', remembered },
  };
}

/**
 * Source NAT to an address of the host for packets that return to their sender, or have a loopback source: a container
 * that connects to its own published port, and the host that connects to 127.0.0.1. Then outgoing NAT.
 */
function leaving(family: IpFamily): readonly HostRule[] {
  const fromLoopback: HostRule = {
    name: 'published port on a loopback address',
    when: [toWorkload, { kind: 'source', net: parseCidr('127.0.0.0/8') }],
    action: { kind: 'masquerade' },
    comment: 'Published port on a loopback address',
  };
  return [
    ...(family === 4 ? [fromLoopback] : []),
    {
      name: 'own published port',
      when: [toWorkload, { kind: 'goesBack' }],
      action: { kind: 'masquerade' },
      comment: 'Container that calls its own published port',
    },
    { name: 'outgoing NAT', when: [], action: { kind: 'block', block: 'natOutgoing' } },
  ];
}

/** From pools with natOutgoing to addresses outside all pools; single endpoints can override it. */
const natOutgoing: readonly HostRule[] = [
  {
    name: 'endpoint without',
    when: [{ kind: 'sourceIn', addresses: 'plainEndpoints' }],
    action: { kind: 'return' },
  },
  ...(['masqueradedEndpoints', 'masqueradedPools'] as const).map((addresses): HostRule => ({
    name: addresses === 'masqueradedPools' ? 'pool' : 'endpoint',
    when: [
      { kind: 'sourceIn', addresses },
      { kind: 'destinationIn', addresses: 'allPools', negated: true },
    ],
    action: { kind: 'masquerade' },
  })),
];
