import { isDeepStrictEqual } from 'node:util';
import type { EntryChange } from '../../cache/mirror.ts';
import type { AddressSets } from '../../dataplane/address-sets.ts';
import type { ApplyFailure } from '../../dataplane/apply-failure.ts';
import type { HostAddresses } from '../../dataplane/host-addresses.ts';
import type { Links } from '../../dataplane/tunnels/links.ts';
import type { Neighbours } from '../../dataplane/tunnels/neighbours.ts';
import type { Link } from '../../dataplane/netlink/link.ts';
import type { Neighbour } from '../../dataplane/netlink/neighbour.ts';
import { ReferenceCounts } from '../../dataplane/reference-counts.ts';
import type { IpFamily } from '../../ip/address.ts';
import { cidrFamily, hostCidr } from '../../ip/cidr.ts';
import type { FelixConfiguration } from '../../model/kinds/felix-configuration.ts';
import { peerOf, vxlanDevices, type Peer, type Vtep } from '../../routing/peers.ts';
import {
  configurationsOf,
  vxlanFamily,
  vxlanOverheadBytes,
  vxlanSettings,
  type VxlanSettings,
} from '../../routing/vxlan-settings.ts';
import { vxlanNodesSet } from '../../ruleset/names.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { HostRuleSettings } from '../host-rule-settings.ts';
import type { HostEvent, Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

type VxlanKind = 'Node' | 'IPPool' | 'FelixConfiguration';

interface VxlanDeps extends Pick<ManagerDeps, 'node' | 'families'> {
  readonly kernel: {
    readonly sets: Pick<AddressSets, 'setDesired' | 'deleteDesired' | 'addMember' | 'removeMember'>;
    readonly tunnels: Pick<Links, 'setDesired' | 'deleteDesired'>;
    readonly neighbours: Pick<Neighbours, 'setDesired' | 'deleteDesired'>;
    readonly addresses: Pick<HostAddresses, 'linkOf'>;
  };
  readonly hostRules: Pick<HostRuleSettings, 'change'>;
}

/**
 * The VXLAN tunnels to other nodes, one interface per address family while a pool of the family uses VXLAN: the
 * interface with this node's tunnel address, for each other node a neighbour and a forwarding entry (nothing is
 * learned or flooded), and rules that accept tunnel packets from nodes only. Source: felix/dataplane/linux/vxlan_mgr.go.
 */
export class Vxlan implements Manager<VxlanKind> {
  readonly name = 'VXLAN';
  readonly kinds = ['Node', 'IPPool', 'FelixConfiguration'] as const;
  readonly #node: string;
  readonly #addresses: VxlanDeps['kernel']['addresses'];
  readonly #tunnels: readonly Tunnel[];
  /** Families of the pools that use VXLAN, by pool. */
  readonly #pools = new Map<string, IpFamily>();
  readonly #configurations = new Map<string, FelixConfiguration>();
  #own: Peer | undefined;
  #isDirty = false;

  constructor({ node, families, kernel, hostRules }: VxlanDeps) {
    this.#node = node;
    this.#addresses = kernel.addresses;
    this.#tunnels = families.map((family) => new Tunnel(family, kernel, hostRules));
  }

  onChange(change: EntryChange<VxlanKind>): void {
    const { id } = change;
    if (change.kind === 'IPPool') {
      const family = change.now && vxlanFamily(change.now.value);
      if (family === this.#pools.get(id)) return;
      if (family === undefined) this.#pools.delete(id);
      else this.#pools.set(id, family);
      this.#isDirty = true;
    } else if (change.kind === 'FelixConfiguration') {
      if (!configurationsOf(this.#node).includes(id)) return;
      if (change.now === undefined) this.#configurations.delete(id);
      else this.#configurations.set(id, change.now.value);
      this.#isDirty = true;
    } else {
      const peer = change.now && peerOf(change.now.value);
      if (id !== this.#node) {
        for (const tunnel of this.#tunnels) tunnel.setPeer(id, peer?.vtep[tunnel.family]);
      } else if (!isDeepStrictEqual(this.#own, peer)) {
        this.#own = peer;
        this.#isDirty = true;
      }
    }
  }

  /** The interface below a tunnel has changed: its MTU, its index, its address. */
  onEvent(event: HostEvent): boolean {
    const isOfUplink = this.#tunnels.some(({ uplink, ownAddress }) => {
      if (event.kind === 'link') return uplink !== undefined && event.link.name === uplink.name;
      return event.kind === 'address' && event.address.address === ownAddress;
    });
    if (isOfUplink) this.#isDirty = true;
    return isOfUplink;
  }

  resync(): void {
    this.#isDirty = true;
  }

  /** Before anything is written, so that interface, neighbours, members and rules belong to one round. */
  apply(phase: Phase): void {
    if (phase !== 'reading' || !this.#isDirty) return;
    const [ofNode, ofAll] = configurationsOf(this.#node);
    const settings = vxlanSettings(
      this.#configurations.get(ofNode),
      this.#configurations.get(ofAll),
    );
    const needed = new Set(settings.isAllowed ? this.#pools.values() : []);
    for (const tunnel of this.#tunnels) {
      const own = this.#own?.vtep[tunnel.family];
      const uplink = own && this.#addresses.linkOf(own.underlay);
      tunnel.set({ isNeeded: needed.has(tunnel.family), own, uplink, settings });
    }
    this.#isDirty = false;
  }

  failures(): readonly ApplyFailure[] {
    return this.#tunnels.flatMap((tunnel) => tunnel.failures());
  }

  checks(): readonly Check[] {
    return this.#tunnels.flatMap((tunnel) => tunnel.checks());
  }
}

interface TunnelState {
  readonly isNeeded: boolean;
  /** This node's end. */
  readonly own: Vtep | undefined;
  /** The interface that has the node's address. */
  readonly uplink: Link | undefined;
  readonly settings: VxlanSettings;
}

/** The tunnel of one address family. */
class Tunnel {
  readonly family: IpFamily;
  readonly #device: string;
  readonly #kernel: VxlanDeps['kernel'];
  readonly #hostRules: VxlanDeps['hostRules'];
  readonly #peers = new Map<string, Vtep>();
  /** By node; equal entries of several are one. */
  readonly #entries: ReferenceCounts<Neighbour>;
  readonly #members: ReferenceCounts<string>;
  #state: TunnelState | undefined;
  #mtuBytes: number | undefined;

  constructor(family: IpFamily, kernel: VxlanDeps['kernel'], hostRules: VxlanDeps['hostRules']) {
    this.family = family;
    this.#device = vxlanDevices[family];
    this.#kernel = kernel;
    this.#hostRules = hostRules;
    const { sets, neighbours } = kernel;
    const set = vxlanNodesSet(family);
    this.#entries = new ReferenceCounts((entry) => JSON.stringify(entry), {
      setDesired: (entry) => neighbours.setDesired(this.#device, entry),
      deleteDesired: (entry) => neighbours.deleteDesired(this.#device, entry),
    });
    this.#members = new ReferenceCounts((member) => member, {
      setDesired: (member) => sets.addMember(set, member),
      deleteDesired: (member) => sets.removeMember(set, member),
    });
  }

  get uplink(): Link | undefined {
    return this.#state?.uplink;
  }

  get ownAddress(): string | undefined {
    return this.#state?.own?.underlay;
  }

  /** Sets the tunnel endpoint of another node; `undefined`: it has none. */
  setPeer(name: string, vtep: Vtep | undefined): void {
    if (isDeepStrictEqual(this.#peers.get(name), vtep)) return;
    if (vtep === undefined) this.#peers.delete(name);
    else this.#peers.set(name, vtep);
    if (this.#isNeeded) this.#place(name, vtep);
  }

  set(state: TunnelState): void {
    const { isNeeded, own, uplink, settings } = state;
    const { sets, tunnels } = this.#kernel;
    const [was, family] = [this.#isNeeded, this.family];
    this.#state = state;
    if (isNeeded && !was) {
      sets.setDesired({ name: vxlanNodesSet(family), type: 'net', family });
      for (const [name, vtep] of this.#peers) this.#place(name, vtep);
    }
    const external = settings.externalNodes.filter((net) => cidrFamily(net) === family);
    this.#members.set('external nodes', isNeeded ? external : []);
    if (isNeeded || was) {
      const { port, vni } = settings;
      this.#hostRules.change(family, { vxlan: isNeeded ? { port, vni } : undefined });
    }
    if (was && !isNeeded) {
      for (const name of this.#peers.keys()) this.#place(name, undefined);
      sets.deleteDesired(vxlanNodesSet(family));
    }
    if (!isNeeded || own === undefined) {
      this.#mtuBytes = undefined;
      tunnels.deleteDesired(this.#device);
    } else if (uplink !== undefined) {
      // Otherwise it stays as it is: the address may come back in a moment.
      const { vni, port, mtuBytes } = settings;
      this.#mtuBytes = mtuBytes[family] ?? uplink.mtuBytes - vxlanOverheadBytes[family];
      tunnels.setDesired({
        name: this.#device,
        is: { kind: 'vxlan', vni, port, local: own.underlay, under: uplink.index },
        mac: own.mac,
        mtuBytes: this.#mtuBytes,
        addresses: [own.address],
      });
    }
  }

  failures(): readonly ApplyFailure[] {
    const { isNeeded, own, uplink } = this.#state ?? {};
    if (isNeeded !== true || own === undefined || uplink !== undefined) return [];
    const why = `no interface of this host has the address of its Node, ${own.underlay}`;
    return [{ what: `interface ${this.#device}`, why }];
  }

  checks(): readonly Check[] {
    if (this.#state === undefined || !this.#isNeeded) return [];
    const { own, settings } = this.#state;
    const name = `VXLAN IPv${this.family}`;
    if (own === undefined) {
      const detail = 'this host has no tunnel address';
      const remedy = `The daemon allocates one when the Node has an IPv${this.family} address and a VXLAN pool has a free one.`;
      return [{ name, ok: false, detail, remedy }];
    }
    const nodes = this.#peers.size === 1 ? '1 other node' : `${this.#peers.size} other nodes`;
    const mtu = this.#mtuBytes === undefined ? '' : `, MTU ${this.#mtuBytes}`;
    const detail = `${this.#device} ${own.address}, VNI ${settings.vni}, port ${settings.port}${mtu}, ${nodes}`;
    return [{ name, ok: true, detail }];
  }

  get #isNeeded(): boolean {
    return this.#state?.isNeeded === true;
  }

  #place(name: string, vtep: Vtep | undefined): void {
    const { address, mac, underlay } = vtep ?? {};
    const isComplete = address !== undefined && mac !== undefined && underlay !== undefined;
    this.#entries.set(
      name,
      isComplete
        ? [
            { kind: 'neighbour', address, mac },
            { kind: 'forwarding', mac, remote: underlay },
          ]
        : [],
    );
    this.#members.set(`node ${name}`, underlay === undefined ? [] : [hostCidr(underlay)]);
  }
}
