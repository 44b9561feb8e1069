import { dropReasons, noMatch } from './drop-reasons.ts';
import { profileTier, type Direction, type Stack } from './policy.ts';
import type { HostRule, StackRule } from './statement.ts';
import { isToVxlanPort } from './tunnel-rules.ts';

/** Returns the rules that dispatch packets from endpoints of this host (`egress`), or to them, to their stacks. */
export function judging(direction: Direction): readonly HostRule[] {
  const isIngress = direction === 'ingress';
  return [
    {
      name: 'of a connection',
      when: [{ kind: 'connection', is: 'established' }],
      action: { kind: 'accept' },
    },
    {
      name: 'related to a connection',
      when: [{ kind: 'connection', is: 'related' }],
      action: { kind: 'block', block: isIngress ? 'relatedIngress' : 'relatedEgress' },
    },
    {
      name: 'invalid conntrack state',
      when: [{ kind: 'connection', is: 'invalid' }],
      action: { kind: 'drop', reason: dropReasons[isIngress ? 'invalidTo' : 'invalidFrom'] },
      comment: 'Of no connection',
    },
    // The verdict of the sending endpoint's stack, on the way to the receiving one.
    { name: 'start', when: [], action: { kind: 'reconsider' } },
    { name: 'endpoint', when: [], action: { kind: 'dispatch', direction } },
    {
      name: 'no endpoint',
      when: [],
      action: { kind: 'drop', reason: dropReasons[isIngress ? 'unknownTo' : 'unknownFrom'] },
      comment: 'Unknown interface',
    },
  ];
}

/** Returns the rules of a stack; packets that it does not allow are denied. */
export function stackRules({ tiers }: Stack, direction: Direction): readonly StackRule[] {
  const hasProfiles = tiers.some((tier) => tier.name === profileTier && tier[direction].length > 0);
  return [
    ...(direction === 'egress' ? noTunnels : []),
    ...tiers
      .filter((tier) => tier[direction].length > 0)
      .map((tier): StackRule => ({
        name: `tier ${tier.name}`,
        when: [],
        action: { kind: 'tier', tier, direction },
      })),
    // Endpoints in quarantine have no policies.
    ...(direction === 'ingress' && hasProfiles ? [publishedPorts] : []),
    {
      name: 'otherwise',
      when: [],
      action: { kind: 'drop', reason: noMatch(direction) },
    },
  ];
}

/**
 * After all tiers: connections to a published port are allowed, because the user published it; connections to the
 * container's own address are not. An ICMP error has the mark of the connection that it quotes, but starts none.
 */
const publishedPorts: StackRule = {
  name: 'published port',
  when: [{ kind: 'connection', is: 'new' }, { kind: 'cameByPublishedPort' }],
  action: { kind: 'allow' },
  comment: 'Came by a published port',
};

/** The port of VXLAN. Source: RFC 7348. */
const defaultVxlanPort = 4789;

/** A container could otherwise send packets that claim to come from another host's tunnel. */
const noTunnels: readonly StackRule[] = [
  {
    name: 'VXLAN',
    when: isToVxlanPort(defaultVxlanPort),
    action: { kind: 'drop', reason: dropReasons.tunnel },
    comment: 'Drop VXLAN encapped packets originating in workloads',
  },
  {
    name: 'IPinIP',
    when: [{ kind: 'protocol', protocol: 4 }],
    action: { kind: 'drop', reason: dropReasons.tunnel },
    comment: 'Drop IPinIP encapped packets originating in workloads',
  },
];
