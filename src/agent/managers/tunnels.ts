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
import { cidrFamily, hostCidr } from '../../ip/cidr.ts';
import { peerOf, type Peer, type TunnelEnd } from '../../routing/peers.ts';
import {
  allTunnels,
  encapsulationTexts,
  tunnelOf,
  tunnelSettings,
  type Tunnel,
  type TunnelName,
  type TunnelSettings,
} from '../../routing/tunnels.ts';
import { tunnelNodesSet } from '../../ruleset/names.ts';
import type { Check } from '../../telemetry/status-report.ts';
import { FelixConfigurations } from '../felix-configurations.ts';
import type { HostRuleSettings } from '../host-rule-settings.ts';
import type { HostEvent, Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

type TunnelsKind = 'Node' | 'IPPool' | 'FelixConfiguration';

interface TunnelsDeps extends Pick<ManagerDeps, 'node' | 'families'> {
  readonly kernel: {
    readonly sets: Pick<AddressSets, 'setDesired' | 'deleteDesired' | 'addMember' | 'removeMember'>;
    readonly tunnels: Pick<Links, 'setDesired' | 'deleteDesired'>;
    readonly neighbours: Pick<Neighbours, 'setDesired' | 'deleteDesired'>;
    readonly addresses: Pick<HostAddresses, 'linkOf'>;
  };
  readonly hostRules: Pick<HostRuleSettings, 'change'>;
}

/**
 * The tunnels to other nodes, one interface per encapsulation and address family while a pool uses it: the interface
 * with this node's tunnel address, and rules that accept tunnel packets from nodes only. For VXLAN also a neighbour and
 * a forwarding entry for each other node, because nothing is learned or flooded; with IP-in-IP the route itself names
 * the node. Source: felix/dataplane/linux/vxlan_mgr.go, ipip_mgr.go.
 */
export class Tunnels implements Manager<TunnelsKind> {
  readonly name = 'tunnels';
  readonly kinds = ['Node', 'IPPool', 'FelixConfiguration'] as const;
  readonly #node: string;
  readonly #addresses: TunnelsDeps['kernel']['addresses'];
  readonly #tunnels: readonly NodeTunnel[];
  /** The tunnel of each pool that uses one. */
  readonly #pools = new Map<string, TunnelName>();
  readonly #configurations: FelixConfigurations;
  #own: Peer | undefined;
  #isDirty = false;

  constructor({ node, families, kernel, hostRules }: TunnelsDeps) {
    this.#node = node;
    this.#configurations = new FelixConfigurations(node);
    this.#addresses = kernel.addresses;
    this.#tunnels = allTunnels
      .filter(({ family }) => families.includes(family))
      .map((tunnel) => new NodeTunnel(tunnel, kernel, hostRules));
  }

  onChange(change: EntryChange<TunnelsKind>): void {
    const { id } = change;
    if (change.kind === 'IPPool') {
      const name = change.now && tunnelOf(change.now.value)?.name;
      if (name === this.#pools.get(id)) return;
      if (name === undefined) this.#pools.delete(id);
      else this.#pools.set(id, name);
      this.#isDirty = true;
    } else if (change.kind === 'FelixConfiguration') {
      if (this.#configurations.take(change)) this.#isDirty = true;
    } else {
      const peer = change.now && peerOf(change.now.value);
      if (id !== this.#node) {
        for (const one of this.#tunnels) one.setPeer(id, peer?.ends[one.tunnel.name]);
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
    const settings = tunnelSettings(...this.#configurations.both);
    const used = new Set(this.#pools.values());
    for (const one of this.#tunnels) {
      const { name, encapsulation } = one.tunnel;
      const own = this.#own?.ends[name];
      const uplink = own && this.#addresses.linkOf(own.underlay);
      const isNeeded = used.has(name) && settings.isAllowed[encapsulation];
      one.set({ isUsed: used.has(name), isNeeded, own, uplink, settings });
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
  /** A pool uses it. */
  readonly isUsed: boolean;
  /** And the configuration allows it. */
  readonly isNeeded: boolean;
  /** This node's end. */
  readonly own: TunnelEnd | undefined;
  /** The interface that has the node's address. */
  readonly uplink: Link | undefined;
  readonly settings: TunnelSettings;
}

/** One of the tunnels of this node. */
class NodeTunnel {
  readonly tunnel: Tunnel;
  readonly #kernel: TunnelsDeps['kernel'];
  readonly #hostRules: TunnelsDeps['hostRules'];
  readonly #peers = new Map<string, TunnelEnd>();
  /** By node; equal entries of several are one. */
  readonly #entries: ReferenceCounts<Neighbour>;
  readonly #members: ReferenceCounts<string>;
  readonly #set: string;
  #state: TunnelState | undefined;
  #mtuBytes: number | undefined;

  constructor(tunnel: Tunnel, kernel: TunnelsDeps['kernel'], hostRules: TunnelsDeps['hostRules']) {
    this.tunnel = tunnel;
    this.#kernel = kernel;
    this.#hostRules = hostRules;
    const { sets, neighbours } = kernel;
    const { device, family, encapsulation } = tunnel;
    this.#set = tunnelNodesSet(family, encapsulation);
    this.#entries = new ReferenceCounts((entry) => JSON.stringify(entry), {
      setDesired: (entry) => neighbours.setDesired(device, entry),
      deleteDesired: (entry) => neighbours.deleteDesired(device, entry),
    });
    this.#members = new ReferenceCounts((member) => member, {
      setDesired: (member) => sets.addMember(this.#set, member),
      deleteDesired: (member) => sets.removeMember(this.#set, member),
    });
  }

  get uplink(): Link | undefined {
    return this.#state?.uplink;
  }

  get ownAddress(): string | undefined {
    return this.#state?.own?.underlay;
  }

  /** Sets the end of another node; `undefined`: it has none. */
  setPeer(name: string, end: TunnelEnd | undefined): void {
    if (isDeepStrictEqual(this.#peers.get(name), end)) return;
    if (end === undefined) this.#peers.delete(name);
    else this.#peers.set(name, end);
    if (this.#isNeeded) this.#place(name, end);
  }

  set(state: TunnelState): void {
    const { isNeeded, own, uplink, settings } = state;
    const { sets, tunnels } = this.#kernel;
    const { name, family, device, overheadBytes } = this.tunnel;
    const was = this.#isNeeded;
    this.#state = state;
    if (isNeeded && !was) {
      sets.setDesired({ name: this.#set, type: 'net', family });
      for (const [peer, end] of this.#peers) this.#place(peer, end);
    }
    const external = settings.externalNodes.filter((net) => cidrFamily(net) === family);
    this.#members.set('external nodes', isNeeded ? external : []);
    if (isNeeded || was) this.#changeRules(isNeeded, settings);
    if (was && !isNeeded) {
      for (const peer of this.#peers.keys()) this.#place(peer, undefined);
      sets.deleteDesired(this.#set);
    }
    if (!isNeeded || own === undefined) {
      this.#mtuBytes = undefined;
      tunnels.deleteDesired(device);
    } else if (uplink !== undefined) {
      // Otherwise it stays as it is: the address may come back in a moment.
      this.#mtuBytes = settings.mtuBytes[name] ?? uplink.mtuBytes - overheadBytes;
      const { address, mac, underlay } = own;
      const { vni, port } = settings;
      tunnels.setDesired({
        name: device,
        is:
          this.tunnel.encapsulation === 'ipip'
            ? { kind: 'ipip' }
            : { kind: 'vxlan', vni, port, local: underlay, under: uplink.index },
        ...(mac === undefined ? {} : { mac }),
        mtuBytes: this.#mtuBytes,
        addresses: address === undefined ? [] : [address],
      });
    }
  }

  failures(): readonly ApplyFailure[] {
    const { isNeeded, own, uplink } = this.#state ?? {};
    if (isNeeded !== true || own === undefined || uplink !== undefined) return [];
    const why = `no interface of this host has the address of its Node, ${own.underlay}`;
    return [{ what: `interface ${this.tunnel.device}`, why }];
  }

  checks(): readonly Check[] {
    if (this.#state?.isUsed !== true) return [];
    const { own, settings } = this.#state;
    const { encapsulation, family, device } = this.tunnel;
    const text = encapsulationTexts[encapsulation];
    const name = `${text} IPv${family}`;
    if (!this.#isNeeded) {
      const detail = `an IP pool uses ${text}, and FelixConfiguration disables it on this host`;
      const remedy = `Remove ${encapsulation}Enabled: false, or change the mode of the IP pool (calico-cnm apply).`;
      return [{ name, ok: false, detail, remedy }];
    }
    if (own?.address === undefined) {
      const detail = 'this host has no tunnel address';
      const remedy = `The daemon allocates one when the Node has an IPv${family} address and ${aPool[encapsulation]} has a free one.`;
      return [{ name, ok: false, detail, remedy }];
    }
    const nodes = this.#peers.size === 1 ? '1 other node' : `${this.#peers.size} other nodes`;
    const mtu = this.#mtuBytes === undefined ? '' : `, MTU ${this.#mtuBytes}`;
    const vni = encapsulation === 'vxlan' ? `, VNI ${settings.vni}, port ${settings.port}` : '';
    return [{ name, ok: true, detail: `${device} ${own.address}${vni}${mtu}, ${nodes}` }];
  }

  get #isNeeded(): boolean {
    return this.#state?.isNeeded === true;
  }

  #changeRules(isNeeded: boolean, { port, vni }: TunnelSettings): void {
    const { family, encapsulation } = this.tunnel;
    this.#hostRules.change(
      family,
      encapsulation === 'ipip'
        ? { ipip: isNeeded }
        : { vxlan: isNeeded ? { port, vni } : undefined },
    );
  }

  #place(name: string, end: TunnelEnd | undefined): void {
    const { address, mac, underlay } = end ?? {};
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

const aPool = { vxlan: 'a VXLAN pool', ipip: 'an IPIP pool' } as const;
