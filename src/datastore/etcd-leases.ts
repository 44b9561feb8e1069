import type { LeaseClient } from 'etcd3';
import type { Leases } from './datastore.ts';

/** Leases of etcd. Source: etcd API v3, Lease. */
export class EtcdLeases implements Leases {
  readonly #client: LeaseClient;
  /** Runs a call; throws its error as `datastore/…`. */
  readonly #call: <T>(send: () => Promise<T>) => Promise<T>;
  readonly #callMs: number;

  constructor(
    client: LeaseClient,
    call: <T>(send: () => Promise<T>) => Promise<T>,
    callMs: number,
  ) {
    this.#client = client;
    this.#call = call;
    this.#callMs = callMs;
  }

  async grant(seconds: number): Promise<string> {
    const { ID } = await this.#call(() => this.#client.leaseGrant({ TTL: seconds }));
    return ID;
  }

  renew(lease: string): Promise<boolean> {
    return this.#call(async () => {
      const stream = await this.#client.leaseKeepAlive();
      const { promise, resolve, reject } = Promise.withResolvers<boolean>();
      const timer = setTimeout(() => reject(new Error('no answer')), this.#callMs);
      stream.on('data', ({ TTL }) => resolve(Number(TTL) > 0));
      stream.on('error', reject);
      stream.on('end', () => reject(new Error('etcd ended the stream')));
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
    const { TTL, grantedTTL } = await this.#call(() => this.#client.leaseTimeToLive({ ID: lease }));
    return Number(TTL) < 0 ? undefined : Math.max(0, Number(grantedTTL) - Number(TTL));
  }

  async revoke(lease: string): Promise<void> {
    await this.#call(() => this.#client.leaseRevoke({ ID: lease }));
  }
}
