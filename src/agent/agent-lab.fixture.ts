import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { looseSupervisor } from '../async/supervise.fixture.ts';
import type { EntryChange, EntryChanges } from '../cache/mirror.ts';
import { parseNet } from '../ip/cidr.ts';
import type { Profile } from '../model/kinds/profile.ts';
import { endpointAnnotations, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import { Agent } from './agent.ts';
import { FakeKernel } from './fake-kernel.fixture.ts';

export const apiVersion = 'projectcalico.org/v3';
const silent = { error: () => 0, warn: () => 0, info: () => 0, debug: () => 0 };
const networkId = 'n'.repeat(64);

/** The agent of host `here`, with a kernel in memory and a datastore filled by the test. */
export class Lab {
  readonly kernel = new FakeKernel();
  readonly stop = new AbortController();
  readonly mirror = {
    inSync: true,
    subscribe: (listener: (changes: EntryChanges) => void) => {
      this.#listener = listener;
      this.isFollowed = true;
      return () => {
        this.#listener = () => undefined;
        this.isFollowed = false;
      };
    },
    cachedInBrief: () => new Map(),
    get: () => undefined,
    unreadable: () => undefined,
    allUnreadable: () => new Map(),
  };
  readonly agent: Agent;
  #listener: (changes: EntryChanges) => void = () => undefined;

  constructor(
    options: {
      readonly isInSync?: boolean;
      readonly endsForbiddenFlows?: boolean;
      readonly domainAddressesFile?: string;
    } = {},
  ) {
    this.mirror.inSync = options.isInSync ?? true;
    this.agent = new Agent({
      node: 'here',
      families: [4, 6],
      drivers: this.kernel,
      mirror: this.mirror,
      supervisor: looseSupervisor(),
      hostPorts: { reserve: async () => 0, release: () => undefined, undeliveredAt: () => 0 },
      ipv6Forwarding: {
        isOwn: false,
        switchOn: () => undefined,
        keepAdvertisements: () => undefined,
      },
      statics: { endpointToHostAction: 'Return' },
      resolvesNames: true,
      endsForbiddenFlows: options.endsForbiddenFlows ?? true,
      domainAddressesFile: options.domainAddressesFile,
      log: silent,
    });
  }

  /** Whether the agent follows the datastore. */
  isFollowed = false;

  tell(revision: bigint, ...changes: readonly EntryChange[]): void {
    this.#listener({ revision, isLive: true, changes, briefs: [] });
  }

  /** Returns the journal from a change to the end of the next apply round. */
  async written(change: () => void): Promise<readonly string[]> {
    const { journal, rounds } = this.kernel;
    const from = journal.length;
    change();
    await until(() => this.kernel.rounds > rounds);
    return journal.slice(from);
  }

  /** Returns the state after a datastore change and one apply round. */
  async told(revision: bigint, ...changes: readonly EntryChange[]): Promise<readonly string[]> {
    return this.written(() => this.tell(revision, ...changes));
  }
}

export async function until(isMet: () => boolean): Promise<void> {
  for (let tries = 0; !isMet(); tries++) {
    assert.ok(tries < 3000, 'it does not come');
    await pause(1);
  }
}

export async function withAgent(
  use: (lab: Lab) => Promise<void>,
  options: ConstructorParameters<typeof Lab>[0] = {},
): Promise<void> {
  const lab = new Lab(options);
  try {
    lab.agent.start(lab.stop.signal);
    await use(lab);
  } finally {
    lab.stop.abort();
  }
}

export function stored<Value>(id: string, value: Value) {
  return { id, value, modRevision: 1n };
}

export function endpoint(id: string, address = '10.0.0.1/32', node = 'here'): WorkloadEndpoint {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: {
      name: id,
      namespace: 'libnetwork',
      annotations: { [endpointAnnotations.network]: networkId },
    },
    spec: {
      orchestrator: 'libnetwork',
      node,
      endpoint: id,
      interfaceName: `cali${id}`,
      ipNetworks: [parseNet(address)],
      profiles: ['web'],
    },
  };
}

export function comes(value: WorkloadEndpoint): EntryChange {
  const id = value.metadata.name;
  return { kind: 'WorkloadEndpoint', id, before: undefined, now: stored(id, value) };
}

export function goes(value: WorkloadEndpoint): EntryChange {
  const id = value.metadata.name;
  return { kind: 'WorkloadEndpoint', id, before: stored(id, value), now: undefined };
}

export function profile(ingress: NonNullable<Profile['spec']['ingress']>): EntryChange {
  const value: Profile = {
    kind: 'Profile',
    apiVersion,
    metadata: { name: 'web' },
    spec: { labelsToApply: { web: '' }, ingress, egress: [{ action: 'Allow' }] },
  };
  return { kind: 'Profile', id: 'web', before: undefined, now: stored('web', value) };
}

export const fromWeb = profile([{ action: 'Allow', source: { selector: 'has(web)' } }]);
