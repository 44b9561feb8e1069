import type { IpFamily } from '../ip/address.ts';
import { parseCidr } from '../ip/cidr.ts';
import { dropReasons } from './drop-reasons.ts';
import {
  workloads,
  type Block,
  type Condition,
  type HookPurpose,
  type HostRule,
} from './statement.ts';

/** What of the host's rules can be chosen. */
export interface HostRuleOptions {
  /** What happens to a container's traffic to its host that its Profiles allow. */
  readonly endpointToHostAction: 'Return' | 'Accept' | 'Drop';
  /** Whether the host forwards for containers only, and not between its own interfaces. */
  readonly guardsForwarding: boolean;
}

/** The rules of hooks and blocks; a hook has the rules of others as well. */
export interface HostRules {
  readonly hooks: Readonly<Partial<Record<HookPurpose, readonly HostRule[]>>>;
  readonly blocks: Readonly<Partial<Record<Block, readonly HostRule[]>>>;
}

const fromWorkload: Condition = { kind: 'from', interfaces: workloads };
const toWorkload: Condition = { kind: 'to', interfaces: workloads };

/**
 * The rules that no resource changes. The ways are Calico's: a forwarded packet is judged by the stack of the
 * container that it comes from and by the one of the container that it goes to; what both allow is accepted when
 * Docker's rules, too, have let it pass. The host may always reach its own containers.
 */
export function hostRules(family: IpFamily, options: HostRuleOptions): HostRules {
  return {
    hooks: {
      arrival: arrival(family),
      toHost: [
        {
          name: 'from a container',
          when: [fromWorkload],
          action: { kind: 'block', block: 'workloadToHost' },
        },
      ],
      forward: [
        {
          name: 'from a container',
          when: [fromWorkload],
          action: { kind: 'block', block: 'egress' },
        },
        { name: 'to a container', when: [toWorkload], action: { kind: 'block', block: 'ingress' } },
      ],
      afterForward: [allowedByPolicy, ...(options.guardsForwarding ? [toForwardingGuard] : [])],
      fromHost: [{ name: 'to a container', when: [toWorkload], action: { kind: 'return' } }],
      redirectArriving: [
        // It comes from a neighbour that sends it to us, and is left to the kernel, which drops it.
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
    },
  };
}

/** Whoever sends must use an address of its own container. */
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
  // On the wire no answer of a container goes to a loopback address, though the kernel takes such packets from
  // the interfaces of containers whose ports are published on it: they would reach the host's own services.
  const toLoopback: HostRule = {
    name: 'to a loopback address',
    when: [fromWorkload, loopback(4)],
    action: { kind: 'drop', reason: dropReasons.loopback },
    comment: 'Loopback address of the host',
  };
  return family === 4 ? [notItsOwn, toLoopback] : [...discovery, notItsOwn];
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
 * What is related to a connection is accepted as far as it is no ICMP error of a container that the connection does
 * not concern: whoever knows addresses and ports of a flow could otherwise end it, or tell its ends a path MTU,
 * from a network that may not speak to them. Such an error needs a rule as any packet. Errors of routers and hosts
 * on the way, of the other end, and of the internet are accepted; a host's own do not come here.
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

/** Bridges of Docker's, whose packets its own rules judge, or none where it writes none for IPv6. */
const dockerBridges = [{ name: 'docker0' }, { name: 'docker_gwbridge' }, { prefix: 'br-' }];

const toForwardingGuard: HostRule = {
  name: 'guard',
  when: [],
  action: { kind: 'block', block: 'forwardingGuard' },
};

/**
 * What makes a host that forwards for its containers no router between its own interfaces: what neither comes from
 * nor goes to a container is dropped.
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

/** Loopback addresses of the host: only the host itself may use them. */
function loopback(family: IpFamily): Condition {
  return { kind: 'destination', net: parseCidr(family === 4 ? '127.0.0.0/8' : '::1/128') };
}

/**
 * The way to the published ports. Whoever comes from outside of this host is remembered; the host may always reach
 * its own containers.
 */
function published({ remembered }: { readonly remembered: boolean }): HostRule {
  return {
    name: 'published port',
    when: [{ kind: 'destinationIsHost' }],
    action: { kind: 'publish', remembered },
  };
}

/**
 * What would come back to its sender, or from a loopback address, gets an address of the host as source: a
 * container that calls its own published port, and the host that calls 127.0.0.1. Then outgoing NAT.
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

/** From pools that ask for it to what is in no pool; single endpoints may say otherwise. */
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
