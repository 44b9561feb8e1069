import type { Leases } from '../datastore/datastore.ts';
import type { HostIdentity } from '../model/kinds/node-report.ts';
import { createLogger } from '../telemetry/log.ts';
import { NodePresence } from './node-presence.ts';

/** A host of the tests. */
export function hostCalled(name: string, changes: Partial<HostIdentity> = {}): HostIdentity {
  return {
    bootId: `boot of ${name}`,
    networkNamespace: 'net:[1]',
    machineId: 'one image',
    macs: [`02:00:00:00:00:${Buffer.from(name.slice(0, 1)).toString('hex')}`],
    ...changes,
  };
}

/** Leases of which a test decides when they expire. */
export class FakeLeases implements Leases {
  readonly #alive = new Set<string>();
  #granted = 0;

  grant(): Promise<string> {
    const lease = `${++this.#granted}`;
    this.#alive.add(lease);
    return Promise.resolve(lease);
  }

  renew(lease: string): Promise<boolean> {
    return Promise.resolve(this.#alive.has(lease));
  }

  ageSeconds(lease: string): Promise<number | undefined> {
    return Promise.resolve(this.#alive.has(lease) ? 12 : undefined);
  }

  revoke(lease: string): Promise<void> {
    this.#alive.delete(lease);
    return Promise.resolve();
  }
}

/** Returns the presence of a node; without leases as in a store of one host. */
export function presenceOf(
  node: string,
  {
    leases,
    host = hostCalled(node),
    logged = [],
  }: {
    readonly leases?: Leases;
    readonly host?: HostIdentity;
    readonly logged?: string[];
  } = {},
): NodePresence {
  const now = () => new Date();
  return new NodePresence({
    node,
    nameWarnings: [],
    nodeNameFile: '/var/lib/calico/nodename',
    leases: () => leases,
    identity: () => host,
    startedAt: now(),
    now,
    log: createLogger({ level: 'info', write: (line) => logged.push(line), now }),
  });
}
