import type { GuardedStages } from './host-endpoint.ts';
import {
  workloads,
  type Block,
  type Condition,
  type HookPurpose,
  type HostRule,
} from './statement.ts';

/** Where the packet flow meets host endpoints. */

/** Before the first verdict on a packet. */
export const beginVerdicts: HostRule = {
  name: 'marks of other programs',
  when: [],
  action: { kind: 'begin' },
};

/**
 * Host endpoints decide on packets to the host and from it. Packets that they allowed before connection tracking, or
 * before destination NAT, meet no further rule of theirs.
 */
export function localHooks(
  block: 'fromHostEndpoint' | 'toHostEndpoint',
  isAllowedBefore: boolean,
): readonly HostRule[] {
  const accepted: HostRule = {
    name: 'allowed by a host endpoint',
    when: [{ kind: 'isAllowed' }],
    action: { kind: 'accept' },
    comment: 'Host endpoint policy accepted packet.',
  };
  return [
    ...(isAllowedBefore ? [{ ...accepted, name: 'allowed before' }] : []),
    { name: 'host endpoints', when: [], action: { kind: 'block', block } },
    accepted,
  ];
}

/** Returns the rules for packets from the host itself. */
export function fromHostHooks({ isUntracked }: GuardedStages): readonly HostRule[] {
  return [...(isUntracked ? [] : [beginVerdicts]), ...localHooks('toHostEndpoint', isUntracked)];
}

/** Returns the hooks that only host endpoints need. */
export function hostEndpointHooks({
  isForwarded,
  isPreDnat,
  isUntracked,
}: GuardedStages): Partial<Record<HookPurpose, readonly HostRule[]>> {
  const judge = (name: string, block: Block, when: readonly Condition[] = []): HostRule => ({
    name,
    when,
    action: { kind: 'block', block },
  });
  const notAllowed: Condition = { kind: 'isAllowed', negated: true };
  return {
    ...(isForwarded
      ? {
          forwardHostEndpoints: [
            judge('arriving', 'forwardedFromHostEndpoint', [notAllowed]),
            judge('leaving', 'forwardedToHostEndpoint'),
          ],
        }
      : {}),
    ...(isPreDnat
      ? {
          beforeDnat: [
            judge('arriving', 'preDnatFromHostEndpoint', [
              { kind: 'from', interfaces: workloads, negated: true },
              notAllowed,
            ]),
          ],
        }
      : {}),
    ...(isUntracked ? { departure: untracked.to } : {}),
  };
}

const withoutTracking: HostRule = {
  name: 'allowed without connection tracking',
  when: [{ kind: 'isAllowed' }],
  action: { kind: 'untrack' },
};

/** Rules for arriving packets, and for those of the host itself, before connection tracking. */
export const untracked: Readonly<Record<'from' | 'to', readonly HostRule[]>> = {
  from: [
    {
      name: 'host endpoints',
      when: [{ kind: 'from', interfaces: workloads, negated: true }],
      action: { kind: 'block', block: 'untrackedFromHostEndpoint' },
    },
    withoutTracking,
  ],
  to: [
    beginVerdicts,
    {
      name: 'host endpoints',
      when: [],
      action: { kind: 'block', block: 'untrackedToHostEndpoint' },
    },
    withoutTracking,
  ],
};

/** Returns the hooks of host endpoints alone: for a host whose daemon does not run yet, and which has no containers. */
export function hooksWithoutDaemon(
  stages: GuardedStages,
): Partial<Record<HookPurpose, readonly HostRule[]>> {
  const { isUntracked, isPreDnat } = stages;
  return {
    ...hostEndpointHooks(stages),
    arrival: [beginVerdicts, ...(isUntracked ? untracked.from : [])],
    toHost: localHooks('fromHostEndpoint', isUntracked || isPreDnat),
    fromHost: fromHostHooks(stages),
  };
}
