import type { KnownCluster } from './datastore.ts';

/** What a response of etcd says of the store. */
export interface ResponseHeader {
  readonly cluster_id: string;
  readonly revision: string;
}

/**
 * Recognizes an etcd that was restored from a backup or replaced by another: by its cluster ID, which a restore with
 * another token changes, or by revisions that are lower than those that were known when the call was made. Calls of
 * members that lag behind do not count here: all calls of the datastore are linearizable.
 */
export class EtcdHistory {
  #cluster: string | undefined;
  #revision = 0n;
  readonly #listeners: (() => void)[] = [];

  /** Takes what was known before the start of this process: another cluster or a lower revision then means a restore. */
  expect({ cluster, reached }: KnownCluster): void {
    if (this.#cluster !== undefined) return;
    this.#cluster = cluster;
    this.#revision = reached;
  }

  get cluster(): string | undefined {
    return this.#cluster;
  }

  /** The highest revision of the responses so far. */
  get revision(): bigint {
    return this.#revision;
  }

  onReplaced(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Takes the header of a response to a call that was made when `known` was the highest revision. */
  saw(header: ResponseHeader, known: bigint): void {
    const revision = BigInt(header.revision);
    // A response of before the replacement that arrives after one of the new store: its call knew more than is known now.
    if (known > this.#revision) return;
    const isOther = this.#cluster !== undefined && this.#cluster !== header.cluster_id;
    const isReplaced = isOther || revision < known;
    this.#cluster = header.cluster_id;
    if (isReplaced) {
      this.#revision = revision;
      for (const listener of this.#listeners) listener();
    } else if (revision > this.#revision) {
      this.#revision = revision;
    }
  }

  /** A watch has reported changes up to a revision. */
  heard(revision: bigint): void {
    if (revision > this.#revision) this.#revision = revision;
  }
}
