import type { IpFamily } from '../../ip/address.ts';
import type { Chain, Rule } from './rule.ts';
import { natSets } from '../../ruleset/names.ts';
import { chainNames, workloadInterfaces } from './names.ts';

/**
 * What is related to a connection is accepted as far as it is no ICMP error of a container that the connection does
 * not concern: whoever knows addresses and ports of a flow could otherwise end it, or tell its ends a path MTU,
 * from a network that may not speak to them. Such an error needs a rule as any packet. Errors of routers and hosts
 * on the way, of the other end, and of the internet are accepted; a host's own do not come here.
 */
export function relatedChains(family: IpFamily): readonly Chain[] {
  const accept = { kind: 'accept' } as const;
  const others: Rule = {
    matches: [{ kind: 'protocol', protocol: family === 4 ? 1 : 58, negated: true }],
    action: accept,
  };
  const ofPeer: Rule = {
    matches: [{ kind: 'fromQuotedDestination', family }],
    action: accept,
    comment: 'ICMP error of the other end',
  };
  const ofContainer: Rule = {
    matches: [{ kind: 'inInterface', name: workloadInterfaces }],
    action: { kind: 'return' },
  };
  const onTheWay: Rule = {
    matches: [{ kind: 'sourceSet', set: natSets.allPools(family), negated: true }],
    action: accept,
    comment: 'ICMP error of no container',
  };
  const what = 'ICMP errors of the other end of a flow (they need a rule as any packet)';
  const chain = (name: string, rest: readonly Rule[]): Chain => ({
    name,
    rules: [others, ofPeer, ...rest],
    ifRefused: { what, rules: [others, ...rest] },
  });
  return [
    chain(chainNames.relatedFromWorkloads, []),
    chain(chainNames.relatedToWorkloads, [ofContainer, onTheWay]),
  ];
}

/** Where a dispatch chain sends what is related to a connection. */
export function relatedChain(direction: 'ingress' | 'egress'): string {
  return direction === 'ingress' ? chainNames.relatedToWorkloads : chainNames.relatedFromWorkloads;
}
