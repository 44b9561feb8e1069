import type { AddressSets } from '../../dataplane/address-sets.ts';
import { ReferenceCounts } from '../../dataplane/reference-counts.ts';
import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { hostCidr } from '../../ip/cidr.ts';
import { bgpPeersSet } from '../../ruleset/names.ts';
import type { HostRuleSettings } from '../host-rule-settings.ts';
import type { Manager } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

/** Who may connect to this host's BGP speaker. */
export interface BgpListener {
  readonly port: number;
  readonly peers: readonly IpAddress[];
}

interface BgpGuardDeps extends Pick<ManagerDeps, 'families'> {
  readonly kernel: {
    readonly sets: Pick<AddressSets, 'setDesired' | 'deleteDesired' | 'addMember' | 'removeMember'>;
  };
  readonly hostRules: Pick<HostRuleSettings, 'change'>;
}

/** Lets only peers connect to the port of this host's BGP speaker; without a speaker there is no rule. */
export class BgpGuard implements Manager<never> {
  readonly name = 'BGP port';
  readonly kinds = [] as const;
  readonly #deps: BgpGuardDeps;
  readonly #members: ReferenceCounts<IpAddress>;
  #port: number | undefined;

  constructor(deps: BgpGuardDeps) {
    this.#deps = deps;
    const { sets } = deps.kernel;
    this.#members = new ReferenceCounts((address) => address, {
      setDesired: (address) => sets.addMember(bgpPeersSet(familyOf(address)), hostCidr(address)),
      deleteDesired: (address) =>
        sets.removeMember(bgpPeersSet(familyOf(address)), hostCidr(address)),
    });
  }

  /** Sets who may connect; `undefined`: there is no speaker. */
  setListener(listener: BgpListener | undefined): void {
    const { families, hostRules } = this.#deps;
    const { sets } = this.#deps.kernel;
    const isFirst = this.#port === undefined && listener !== undefined;
    const isLast = this.#port !== undefined && listener === undefined;
    const has = (family: IpFamily) => families.includes(family);
    if (isFirst) {
      for (const family of families) {
        sets.setDesired({ name: bgpPeersSet(family), type: 'net', family });
      }
    }
    this.#members.set(
      'peers',
      (listener?.peers ?? []).filter((peer) => has(familyOf(peer))),
    );
    if (listener?.port !== this.#port) {
      for (const family of families) hostRules.change(family, { bgpPort: listener?.port });
    }
    if (isLast) for (const family of families) sets.deleteDesired(bgpPeersSet(family));
    this.#port = listener?.port;
  }
}
