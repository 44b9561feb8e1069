import { GRPCUnavailableError, type LeaseClient } from 'etcd3';
import type { Attempt } from './etcd-endpoints.ts';
import type { Leases } from './datastore.ts';

/** Makes a call at one endpoint after the other; throws its error as `datastore/…`. */
type Call = <T>(send: (client: LeaseClient, attempt: Attempt) => Promise<T>) => Promise<T>;

/** Leases of etcd. Source: etcd API v3, Lease. */
export class EtcdLeases implements Leases {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** A lease that was granted without a response expires unused. */
  async grant(seconds: number): Promise<string> {
    const { ID } = await this.#call((client, { deadline }) =>
      client.leaseGrant({ TTL: seconds }, { deadline }),
    );
    return ID;
  }

  renew(lease: string): Promise<boolean> {
    return this.#call(async (client, { deadline }) => {
      const stream = await client.leaseKeepAlive();
      const { promise, resolve, reject } = Promise.withResolvers<boolean>();
      const lost = (why: string) => reject(new GRPCUnavailableError(why));
      const timer = setTimeout(() => lost('no answer'), deadline - Date.now());
      stream.on('data', ({ TTL }) => resolve(Number(TTL) > 0));
      stream.on('error', (error: Error) => lost(error.message));
      stream.on('end', () => lost('etcd ended the stream'));
      try {
        stream.write({ ID: lease });
        return await promise;
      } finally {
        clearTimeout(timer);
        stream.cancel();
      }
    });
  }

  async ageSeconds(lease: string): Promise<number | undefined> {
    const { TTL, grantedTTL } = await this.#call((client, { deadline }) =>
      client.leaseTimeToLive({ ID: lease }, { deadline }),
    );
    return Number(TTL) < 0 ? undefined : Math.max(0, Number(grantedTTL) - Number(TTL));
  }

  async revoke(lease: string): Promise<void> {
    await this.#call((client, { deadline }) => client.leaseRevoke({ ID: lease }, { deadline }));
  }
}
