import { Etcd3, isRecoverableError, type AuthClient, type IMember } from 'etcd3';
import { readCredentials, type EtcdOptions } from '../../datastore/etcd-credentials.ts';
import { EtcdEndpoints, type Attempt } from '../../datastore/etcd-endpoints.ts';
import { clientOptions } from '../../datastore/etcd-client.ts';
import { CalicoError, describe } from '../../errors/error.ts';

/** A member of etcd. */
export interface Member {
  /** A decimal number. */
  readonly id: string;
  /** Empty until it has started. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  /** Empty until it has started. */
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
}

/** The state of a member that responds. */
export interface MemberStatus {
  readonly version: string;
  /** Size of the database file, in bytes, and how much of it is in use; the rest is free for reuse. */
  readonly fileBytes: number;
  readonly usedBytes: number;
  /** The ID of its leader; `0` without one. */
  readonly leader: string;
  /** Its database or that of another member is full (alarm NOSPACE): etcd rejects writes. */
  readonly isFull: boolean;
}

/** Time limits, in milliseconds: of a call, of one status, of a compaction, and of a defragmentation. */
const [callMs, pauseMs, statusMs, compactMs, defragmentMs] = [2000, 100, 1500, 30_000, 60_000];

/** etcd's administration: members, alarms, compaction, defragmentation. All methods throw errors of gRPC. */
export class EtcdAdmin {
  readonly #options: Omit<ConstructorParameters<typeof Etcd3>[0] & object, 'hosts'>;
  readonly #clients = new Map<string, Etcd3>();
  readonly #endpoints: EtcdEndpoints<Etcd3>;

  private constructor(
    options: Omit<ConstructorParameters<typeof Etcd3>[0] & object, 'hosts'>,
    { endpoints, refusedMs = 0 }: Pick<EtcdOptions, 'endpoints' | 'refusedMs'>,
  ) {
    this.#options = options;
    this.#endpoints = new EtcdEndpoints(
      endpoints.map((endpoint) => this.#client(endpoint)),
      { attemptMs: callMs, pauseMs, refusedMs },
    );
  }

  /** Opens it without sending a request. Throws `datastore/bad-file`. */
  static async open(options: EtcdOptions): Promise<EtcdAdmin> {
    const credentials = await readCredentials(options);
    return new EtcdAdmin({ ...clientOptions(), ...credentials }, options);
  }

  /** A client of one endpoint. */
  get client(): Etcd3 {
    return this.#endpoints.preferred.client;
  }

  /** Changes users and roles; all of it again, at another endpoint, if that fails: `act` must be repeatable. */
  auth<T>(act: (auth: AuthClient) => Promise<T>): Promise<T> {
    return this.#call(({ auth }) => act(auth));
  }

  /** Returns the members as one of them knows them; it responds without a majority as well. */
  async members(): Promise<readonly Member[]> {
    const { members } = await this.#call(({ cluster }, { deadline }) =>
      cluster.memberList({}, { deadline }),
    );
    return members.map(toMember);
  }

  /** Returns the state of a member; its error in words if it does not respond. */
  async status({ clientUrls: [url] }: Pick<Member, 'clientUrls'>): Promise<MemberStatus | string> {
    if (url === undefined) return 'not started';
    try {
      const { maintenance } = this.#client(url);
      const status = await maintenance.status({ deadline: Date.now() + statusMs });
      return {
        version: status.version,
        fileBytes: Number(status.dbSize),
        usedBytes: Number(status.dbSizeInUse),
        leader: status.leader,
        isFull: status.errors.some((error) => error.includes('NOSPACE')),
      };
    } catch (error) {
      return describe(error);
    }
  }

  /** Adds a member without a vote; returns it and all members. */
  async addLearner(
    peerUrl: string,
  ): Promise<{ readonly id: string; readonly members: readonly Member[] }> {
    const { member, members } = await this.#call(
      ({ cluster }, { deadline }) =>
        cluster.memberAdd({ peerURLs: [peerUrl], isLearner: true }, { deadline }),
      { isRepeatable: false },
    );
    return { id: member.ID, members: members.map(toMember) };
  }

  /** Gives a learner its vote; returns false if it has not caught up yet. */
  async promote(id: string): Promise<boolean> {
    try {
      await this.#call(
        ({ cluster }, { deadline }) => cluster.memberPromote({ ID: id }, { deadline }),
        { isRepeatable: false },
      );
      return true;
    } catch (error) {
      if (/in sync with leader/.test(describe(error))) return false;
      throw error;
    }
  }

  /** Removes a member; one that has been removed is no error. */
  async remove(id: string): Promise<void> {
    try {
      await this.#call(({ cluster }, { deadline }) =>
        cluster.memberRemove({ ID: id }, { deadline }),
      );
    } catch (error) {
      if (!/member not found/.test(describe(error))) throw error;
    }
  }

  /** Tells the members the new address of one. */
  async updatePeerUrl(id: string, peerUrl: string): Promise<void> {
    await this.#call(({ cluster }, { deadline }) =>
      cluster.memberUpdate({ ID: id, peerURLs: [peerUrl] }, { deadline }),
    );
  }

  /** Lets another member lead; `leader` is the present one. */
  async moveLeader(leader: Pick<Member, 'clientUrls'>, to: string): Promise<void> {
    const [url = ''] = leader.clientUrls;
    const deadline = Date.now() + callMs;
    await this.#client(url).maintenance.moveLeader({ targetID: to }, { deadline });
  }

  /** Returns the members whose database is full (NOSPACE), and those whose data differs from that of the others. */
  async alarms(): Promise<readonly { readonly member: string; readonly alarm: string }[]> {
    const { alarms } = await this.#call(({ maintenance }, { deadline }) =>
      maintenance.alarm({ action: 'Get' }, { deadline }),
    );
    return alarms.map(({ memberID: member, alarm }) => ({ member, alarm: alarm.toUpperCase() }));
  }

  /** Ends the alarm of a member whose database was full. */
  async disarmNoSpace(memberID: string): Promise<void> {
    await this.#call(({ maintenance }, { deadline }) =>
      maintenance.alarm({ action: 'Deactivate', memberID, alarm: 'Nospace' }, { deadline }),
    );
  }

  /** Returns the present revision. */
  async revision(): Promise<string> {
    const { header } = await this.#call(({ kv }, { deadline }) =>
      kv.range({ key: Buffer.from('/calico-cnm/'), count_only: true }, { deadline }),
    );
    return header.revision;
  }

  /** Forgets the history before a revision. Its pages are free for reuse when it returns. */
  async compact(revision: string): Promise<void> {
    try {
      await this.#call(({ kv }) =>
        kv.compact({ revision, physical: true }, { deadline: Date.now() + compactMs }),
      );
    } catch (error) {
      if (!/has been compacted/.test(describe(error))) throw error;
    }
  }

  /** Rewrites the database file of a member without its free pages; the member does not respond meanwhile. */
  async defragment({ clientUrls: [url = ''] }: Pick<Member, 'clientUrls'>): Promise<void> {
    await this.#client(url).maintenance.defragment({ deadline: Date.now() + defragmentMs });
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }

  /** As of `EtcdEndpoints`; an etcd that cannot be reached is `datastore/unavailable`. */
  async #call<T>(
    send: (client: Etcd3, attempt: Attempt) => Promise<T>,
    options?: { readonly isRepeatable: boolean },
  ): Promise<T> {
    try {
      return await this.#endpoints.call(send, options);
    } catch (error) {
      if (!(error instanceof Error) || !isRecoverableError(error)) throw error;
      const endpoint = [...this.#clients.keys()].join(',');
      const why = describe(error);
      throw new CalicoError('datastore/unavailable', { endpoint, why }, { cause: error });
    }
  }

  #client(endpoint: string): Etcd3 {
    const known = this.#clients.get(endpoint);
    if (known !== undefined) return known;
    const client = new Etcd3({ ...this.#options, hosts: [endpoint] });
    this.#clients.set(endpoint, client);
    return client;
  }
}

function toMember({ ID, name, peerURLs, clientURLs, isLearner }: IMember): Member {
  return { id: ID, name, peerUrls: peerURLs, clientUrls: clientURLs, isLearner };
}
