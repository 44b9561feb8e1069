import type { IpFamily } from '../../ip/address.ts';
import { parseCidr } from '../../ip/cidr.ts';
import { markBits, type Chain, type Hook, type Match, type Rule, type TableName } from './rule.ts';
import { dropChains, dropFor } from './drop-chains.ts';
import { dropReasons } from '../../ruleset/drop-reasons.ts';
import { hostPortChains, hostPortHooks, hostPortMasquerade } from './host-port-chains.ts';
import { natSets } from '../../ruleset/names.ts';
import { chainNames, workloadInterfaces, workloadsSet } from './names.ts';
import { relatedChains } from './related-chains.ts';

/** What of the fixed chains can be chosen. */
export interface StaticOptions {
  /** What happens to a container's traffic to its host that its Profiles allow. */
  readonly endpointToHostAction: 'Return' | 'Accept' | 'Drop';
}

/** Our chains and hooks that no policy changes, by table. */
export interface StaticRules {
  readonly table: TableName;
  readonly chains: readonly Chain[];
  readonly hooks: readonly Hook[];
}

const allMarks = markBits.accept | markBits.drop | markBits.scratch0 | markBits.scratch1;

/**
 * The ways through the tables, as in Calico: a forwarded packet is judged by the outbound policy of the
 * container that it comes from and by the inbound policy of the one that it goes to; what both allow carries
 * the accept mark past Docker's chains to a last rule that accepts it. The host may always reach its own
 * containers.
 */
export function staticRules(family: IpFamily, options: StaticOptions): readonly StaticRules[] {
  return [rawTable(family), filterTable(family, options), natTable(family)];
}

/** Whoever sends must use an address of its own container, before anything else sees the packet. */
function rawTable(family: IpFamily): StaticRules {
  const fromWorkload = { kind: 'inInterface', name: workloadInterfaces } as const;
  // Neighbour discovery uses link-local sources, or none, before it can use another.
  const discovery: readonly Rule[] =
    family === 4
      ? []
      : ['fe80::/10', '::/128'].map((source) => ({
          matches: [
            fromWorkload,
            { kind: 'protocol', protocol: 58 },
            { kind: 'sourceNet', net: parseCidr(source) },
          ],
          action: { kind: 'return' },
        }));
  return {
    table: 'raw',
    chains: [
      {
        name: chainNames.prerouting,
        rules: [
          { matches: [], action: { kind: 'clearMark', bits: allMarks } },
          ...discovery,
          dropFor(
            dropReasons.source,
            [
              fromWorkload,
              { kind: 'sourceAndInInterfaceSet', set: workloadsSet(family), negated: true },
            ],
            'Source address of another, or unknown interface',
          ),
          ...(family === 4 ? [notLoopback(fromWorkload)] : []),
        ],
      },
      ...dropChains('raw', family),
    ],
    hooks: [insertedJump('PREROUTING', chainNames.prerouting)],
  };
}

/**
 * On the wire no answer of a container goes to a loopback address, though the kernel takes such packets from
 * the interfaces of containers whose ports are published on it: they would reach the host's own services.
 */
function notLoopback(fromWorkload: Match): Rule {
  return dropFor(
    dropReasons.loopback,
    [fromWorkload, { kind: 'destinationNet', net: parseCidr('127.0.0.0/8') }],
    'Loopback address of the host',
  );
}

function filterTable(family: IpFamily, { endpointToHostAction }: StaticOptions): StaticRules {
  const from = { kind: 'inInterface', name: workloadInterfaces } as const;
  const to = { kind: 'outInterface', name: workloadInterfaces } as const;
  return {
    table: 'filter',
    chains: [
      {
        name: chainNames.forward,
        rules: [
          { matches: [], action: { kind: 'clearMark', bits: allMarks } },
          { matches: [from], action: { kind: 'jump', chain: chainNames.fromWorkloads } },
          { matches: [to], action: { kind: 'jump', chain: chainNames.toWorkloads } },
        ],
      },
      {
        name: chainNames.input,
        rules: [{ matches: [from], action: { kind: 'goto', chain: chainNames.workloadToHost } }],
      },
      {
        name: chainNames.workloadToHost,
        rules: [
          ...(family === 6 ? discoveryAccepted() : []),
          { matches: [], action: { kind: 'jump', chain: chainNames.fromWorkloads } },
          toHost(endpointToHostAction),
        ],
      },
      {
        name: chainNames.output,
        rules: [{ matches: [to], action: { kind: 'return' } }],
      },
      ...relatedChains(family),
    ],
    hooks: [
      insertedJump('INPUT', chainNames.input),
      forwardHook,
      insertedJump('OUTPUT', chainNames.output),
    ],
  };
}

const forwardHook: Hook = {
  chain: 'FORWARD',
  inserted: [{ matches: [], action: { kind: 'jump', chain: chainNames.forward } }],
  appended: [
    {
      matches: [{ kind: 'markSet', bits: markBits.accept }],
      action: { kind: 'accept' },
      comment: 'Policy explicitly accepted packet.',
    },
  ],
};

/** Bridges of Docker's, whose packets its own rules judge, or none where it writes none for IPv6. */
const dockerBridges = ['docker0', 'docker_gwbridge', 'br-+'];

/**
 * What makes a host that forwards for its containers no router between its own interfaces: the last rule of
 * FORWARD drops what neither comes from nor goes to a container. The hook takes the place of the usual one.
 */
export function forwardingGuard(): { readonly chain: Chain; readonly hook: Hook } {
  const returned = [workloadInterfaces, ...dockerBridges].flatMap((name): readonly Rule[] => [
    { matches: [{ kind: 'inInterface', name }], action: { kind: 'return' } },
    { matches: [{ kind: 'outInterface', name }], action: { kind: 'return' } },
  ]);
  const drop: Rule = {
    matches: [],
    action: { kind: 'drop' },
    comment: 'Forwarding was switched on for containers only',
  };
  const jump: Rule = { matches: [], action: { kind: 'jump', chain: chainNames.forwardingGuard } };
  return {
    chain: { name: chainNames.forwardingGuard, rules: [...returned, drop] },
    hook: { ...forwardHook, appended: [...forwardHook.appended, jump] },
  };
}

/** Multicast listener reports and neighbour discovery: without them the container finds no next hop. */
function discoveryAccepted(): readonly Rule[] {
  return [130, 131, 132, 133, 135, 136, 143].map((type) => ({
    matches: [
      { kind: 'protocol', protocol: 58 },
      { kind: 'icmp', family: 6, type },
    ],
    action: { kind: 'accept' },
  }));
}

/** Published ports; and outgoing NAT: from pools that ask for it to what is in no pool; single endpoints may say otherwise. */
function natTable(family: IpFamily): StaticRules {
  const outside = {
    kind: 'destinationSet',
    set: natSets.allPools(family),
    negated: true,
  } as const;
  const masquerade = (set: string): Rule => ({
    matches: [{ kind: 'sourceSet', set }, outside],
    action: { kind: 'masquerade' },
  });
  return {
    table: 'nat',
    chains: [
      {
        name: chainNames.natOutgoing,
        rules: [
          {
            matches: [{ kind: 'sourceSet', set: natSets.plainEndpoints(family) }],
            action: { kind: 'return' },
          },
          masquerade(natSets.masqueradedEndpoints(family)),
          masquerade(natSets.masqueradedPools(family)),
        ],
      },
      {
        name: chainNames.postrouting,
        rules: [
          ...hostPortMasquerade(family),
          { matches: [], action: { kind: 'jump', chain: chainNames.natOutgoing } },
        ],
      },
      ...hostPortChains(family),
    ],
    hooks: [
      ...hostPortHooks,
      {
        chain: 'POSTROUTING',
        inserted: [],
        appended: [{ matches: [], action: { kind: 'jump', chain: chainNames.postrouting } }],
      },
    ],
  };
}

function insertedJump(chain: Hook['chain'], ours: string): Hook {
  return {
    chain,
    inserted: [{ matches: [], action: { kind: 'jump', chain: ours } }],
    appended: [],
  };
}

function toHost(action: StaticOptions['endpointToHostAction']): Rule {
  const comment = 'Traffic to the host that the container may send';
  if (action === 'Drop') return dropFor(dropReasons.toHost, [], comment);
  return { matches: [], action: { kind: action === 'Accept' ? 'accept' : 'return' }, comment };
}
