import type { IpFamily } from '../../ip/address.ts';
import type { Profile } from '../../model/kinds/profile.ts';
import type { Chain } from '../../render/iptables/rule.ts';
import { ActiveProfiles } from './active-profiles.ts';
import {
  bucketChainNames,
  groupChainNames,
  renderBucket,
  renderDispatch,
  renderGroup,
} from '../../render/iptables/group-chains.ts';
import { bucketOf, bucketSet, groupSet } from '../../render/iptables/names.ts';
import type { PolicyOutput, WorkCount } from '../output.ts';
import type { SelectorSets } from './selector-sets.ts';

interface Group {
  readonly profiles: readonly string[];
  readonly endpoints: Set<string>;
}

/**
 * The groups of one IP family with the way to them: dispatch, branches, their chains and those of their
 * Profiles. A group that has no address in the family costs nothing in it; its packets are those of an unknown
 * interface. Groups without endpoints stay until `dropIdle`.
 */
export class FamilyGroups {
  readonly profiles: ActiveProfiles;
  readonly #family: IpFamily;
  readonly #output: PolicyOutput;
  readonly #work: WorkCount;
  readonly #groups = new Map<string, Group>();
  readonly #buckets = new Map<string, Set<string>>();
  readonly #idle = new Set<string>();

  constructor(options: {
    readonly family: IpFamily;
    readonly output: PolicyOutput;
    readonly selectorSets: SelectorSets;
    readonly work: WorkCount;
  }) {
    this.#family = options.family;
    this.#output = options.output;
    this.#work = options.work;
    this.profiles = new ActiveProfiles({ ...options, families: [options.family] });
  }

  /** Puts out what is there without any group. */
  start(): void {
    this.#renderDispatch();
  }

  /** A Profile as it is now; `undefined`: it is gone. */
  setProfile(name: string, profile: Profile | undefined): void {
    this.profiles.set(name, profile);
  }

  /** The endpoint is of the group, which is made if it is not there. */
  enter(name: string, profiles: readonly string[], endpoint: string): void {
    const group = this.#groups.get(name) ?? this.#make(name, profiles);
    group.endpoints.add(endpoint);
    this.#idle.delete(name);
  }

  leave(name: string, endpoint: string): void {
    const endpoints = this.#groups.get(name)?.endpoints;
    endpoints?.delete(endpoint);
    if (endpoints?.size === 0) this.#idle.add(name);
  }

  /** Whether there is something for `dropIdle`. */
  get hasIdle(): boolean {
    return this.#idle.size > 0;
  }

  /** Drops the groups that no endpoint has. */
  dropIdle(): void {
    const idle = [...this.#idle];
    this.#idle.clear();
    for (const name of idle) this.#drop(name);
  }

  #make(name: string, profiles: readonly string[]): Group {
    const family = this.#family;
    const group: Group = { profiles, endpoints: new Set() };
    this.#groups.set(name, group);
    for (const profile of profiles) this.profiles.use(profile);
    const set = { type: 'net,interface', family, countsPackets: false } as const;
    this.#output.wantSet({ ...set, name: groupSet(family, name) });
    this.#output.wantSet({ ...set, name: bucketSet(family, bucketOf(name)) });
    this.#emit(renderGroup(profiles, family));
    this.#changeBucket(bucketOf(name), (groups) => groups.add(name));
    return group;
  }

  #drop(name: string): void {
    const group = this.#groups.get(name);
    if (group === undefined || group.endpoints.size > 0) return;
    this.#groups.delete(name);
    this.#changeBucket(bucketOf(name), (groups) => groups.delete(name));
    this.#remove(groupChainNames(name));
    this.#output.unwantSet(groupSet(this.#family, name));
    for (const profile of group.profiles) this.profiles.release(profile);
  }

  #changeBucket(bucket: string, change: (groups: Set<string>) => void): void {
    const groups = this.#buckets.get(bucket) ?? new Set<string>();
    const wasEmpty = groups.size === 0;
    change(groups);
    if (groups.size > 0) {
      this.#buckets.set(bucket, groups);
      this.#emit(renderBucket(bucket, [...groups].toSorted(), this.#family));
    } else {
      this.#buckets.delete(bucket);
      this.#remove(bucketChainNames(bucket));
      this.#output.unwantSet(bucketSet(this.#family, bucket));
    }
    if (wasEmpty !== (groups.size === 0)) this.#renderDispatch();
  }

  #renderDispatch(): void {
    this.#emit(renderDispatch([...this.#buckets.keys()].toSorted(), this.#family));
  }

  #emit(chains: readonly Chain[]): void {
    for (const chain of chains) {
      this.#work.chainsEmitted++;
      this.#output.setChain(this.#family, chain);
    }
  }

  #remove(chains: readonly string[]): void {
    for (const chain of chains) this.#output.removeChain(this.#family, chain);
  }
}
