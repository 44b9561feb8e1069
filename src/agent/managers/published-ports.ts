import type { EntryChange } from '../../cache/mirror.ts';
import { Refusals, type ApplyFailure } from '../../dataplane/apply-failure.ts';
import { ReferenceCounts } from '../../dataplane/reference-counts.ts';
import type { ReservedPort } from '../../dataplane/host-ports/host-port-reservations.ts';
import type { HostPort } from '../../dataplane/host-ports/host-port-socket.ts';
import { portTaken } from '../../dataplane/host-ports/port-user.ts';
import { portBindings } from '../../driver/ports/port-bindings.ts';
import { CalicoError, describe, isCalicoError } from '../../errors/error.ts';
import {
  addressAndPort,
  anyAddress4,
  familyOf,
  isLoopback,
  isUnspecified,
  type IpAddress,
} from '../../ip/address.ts';
import { cidrContains } from '../../ip/cidr.ts';
import { admitsPublished, publishedPorts, targetAddress } from '../../model/published-port.ts';
import type { WorkloadEndpoint } from '../../model/kinds/workload-endpoint.ts';
import type { PublishedPort } from '../../ruleset/published-port.ts';
import type { Check } from '../../telemetry/status-report.ts';
import type { Kernel } from '../kernel.ts';
import type { HostEvent, Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';
import { localEndpoint } from './local-endpoint.ts';
import { PublishedPortConntrack } from './published-port-conntrack.ts';

export interface PublishedPortsDeps extends Pick<
  ManagerDeps,
  'node' | 'families' | 'hostPorts' | 'log'
> {
  readonly kernel: {
    readonly rules: Pick<Kernel['rules'], 'changePublished'>;
    readonly links: Kernel['links'];
    readonly addresses: Kernel['addresses'];
    readonly conntrack: Pick<Kernel['conntrack'], 'flush'>;
  };
}

/** Host state that the published ports of one endpoint need. */
interface Published {
  /** Docker's ID of the endpoint, the owner of the sockets. */
  readonly owner: string;
  readonly rules: readonly PublishedPort[];
  readonly bindings: readonly ReservedPort[];
  /** The interface that packets with loopback addresses must be able to leave by. */
  readonly loopbackInterface: string | undefined;
}

/** Datagrams that have arrived at a published port of the host and not at the endpoint. */
export interface Undelivered {
  /** ID of the WorkloadEndpoint. */
  readonly id: string;
  readonly port: HostPort;
  readonly packets: number;
}

/** An endpoint that reserves a port: its ID in the datastore, and Docker's. */
interface PortOwner {
  readonly id: string;
  readonly owner: string;
}

const retryMs = 2000;

const nothing: Published = { owner: '', rules: [], bindings: [], loopbackInterface: undefined };

/**
 * Maintains the host state of published ports: NAT rules to the containers, a bound socket for each port, and
 * `route_localnet` on the interfaces of containers that are reached by 127.0.0.1.
 */
export class PublishedPorts implements Manager<'WorkloadEndpoint'> {
  readonly name = 'published ports';
  readonly kinds = ['WorkloadEndpoint'] as const;
  readonly #deps: PublishedPortsDeps;
  readonly #flows: PublishedPortConntrack;
  readonly #published = new Map<string, Published>();
  /** Failed port reservations, by port as text. */
  readonly #problems = new Map<string, string>();
  /** Interfaces whose setting is to be written, with its value, and those for which the kernel rejected it. */
  readonly #loopback = new Map<string, boolean>();
  readonly #refused = new Refusals<string>();
  readonly #rules: ReferenceCounts<PublishedPort>;
  readonly #loopbackInterfaces: ReferenceCounts<string>;
  readonly #added: PublishedPort[] = [];
  readonly #removed: PublishedPort[] = [];

  constructor(deps: PublishedPortsDeps) {
    this.#deps = deps;
    this.#flows = new PublishedPortConntrack(deps.kernel);
    this.#rules = new ReferenceCounts((rule) => JSON.stringify(rule), {
      setDesired: (rule) => this.#added.push(rule),
      deleteDesired: (rule) => this.#removed.push(rule),
    });
    this.#loopbackInterfaces = new ReferenceCounts((name: string) => name, {
      setDesired: (name) => this.#loopback.set(name, true),
      deleteDesired: (name) => this.#loopback.set(name, false),
    });
  }

  onChange(change: EntryChange<'WorkloadEndpoint'>): void {
    this.setEndpoint(change.id, localEndpoint(this.#deps.node, change));
  }

  /** A recreated interface has the kernel's default settings. */
  onEvent(event: HostEvent): boolean {
    if (event.kind !== 'linkMade') return false;
    for (const { loopbackInterface } of this.#published.values()) {
      if (loopbackInterface === event.name) this.#loopback.set(event.name, true);
    }
    return true;
  }

  /** Runs when the current chains are programmed. Throws `kernel/refused` if flows cannot be listed. */
  apply(phase: Phase): void {
    if (phase !== 'routes') return;
    this.#setLoopback();
    this.#flows.flushStale(this.#deps.families);
  }

  poll(): boolean {
    return this.#refused.hasDue;
  }

  /** Sets the current state of a local endpoint; `undefined`: deleted. */
  setEndpoint(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const before = this.#published.get(id) ?? nothing;
    const now = endpoint === undefined ? nothing : this.#wanted(endpoint);
    if (before === nothing && now === nothing) return;
    if (now === nothing) this.#published.delete(id);
    else this.#published.set(id, now);
    this.#rules.set(id, now.rules);
    this.#changeRules(this.#removed.splice(0), this.#added.splice(0));
    for (const binding of missing(before.bindings, now.bindings))
      this.#release(before.owner, binding);
    for (const binding of missing(now.bindings, before.bindings))
      void this.#reserve({ id, owner: now.owner }, binding);
    this.#loopbackInterfaces.set(
      id,
      now.loopbackInterface === undefined ? [] : [now.loopbackInterface],
    );
  }

  #setLoopback(): void {
    for (const [name, isOn] of this.#loopback) {
      if (!this.#refused.isDue(name)) continue;
      try {
        this.#deps.kernel.links.setRouteLocalnet(name, isOn);
        this.#refused.delete(name);
        this.#loopback.delete(name);
      } catch (error) {
        this.#refused.add(name, { what: `route_localnet of interface ${name}` }, error);
      }
    }
  }

  /** Settings of interfaces that the kernel rejected. */
  failures(): readonly ApplyFailure[] {
    return this.#refused.failures();
  }

  checks(): readonly Check[] {
    return this.problems().map((detail) => ({
      name: 'published port',
      ok: false,
      detail,
      remedy: 'Its rules are in place. Fix the cause; the daemon retries automatically.',
    }));
  }

  /** Published ports that could not be reserved, as sentences. They are retried periodically. */
  problems(): readonly string[] {
    return [...this.#problems.values(), ...this.#onLostAddresses()];
  }

  /** Returns the UDP ports at which datagrams have arrived that reached no container. */
  undelivered(): readonly Undelivered[] {
    const { hostPorts } = this.#deps;
    return [...this.#published.entries()].flatMap(([id, { bindings }]) =>
      bindings
        .filter(({ protocol }) => protocol === 'UDP')
        .map((port) => ({ id, port, packets: hostPorts.undeliveredAt(port) }))
        .filter(({ packets }) => packets > 0),
    );
  }

  /**
   * Ports reserved on an address that the host has lost: they are unreachable. Socket and rules are kept, so the ports
   * work again when the address is back.
   */
  #onLostAddresses(): readonly string[] {
    const bindings = [...this.#published.values()].flatMap((published) => published.bindings);
    const specific = bindings.filter(
      (binding) =>
        !isUnspecified(binding.address) &&
        binding.isIfThere !== true &&
        !this.#problems.has(JSON.stringify(binding)),
    );
    if (specific.length === 0) return [];
    const families = [...new Set(specific.map(({ address }) => familyOf(address)))];
    const own = this.#deps.kernel.addresses.answeredFor(families);
    const isOwn = (address: IpAddress) => own.some((cidr) => cidrContains(cidr, address));
    return specific
      .filter(({ address }) => !isOwn(address))
      .map(({ address, port }) => addressAndPort(address, port))
      .map((where) => new CalicoError('port/address-lost', { where }).message);
  }

  #wanted(endpoint: WorkloadEndpoint): Published {
    const { families } = this.#deps;
    const ports = publishedPorts(endpoint);
    if (ports.length === 0) return nothing;
    const isAdmitted = admitsPublished(endpoint);
    const rules = ports.flatMap(({ hostIp, ...port }): readonly PublishedPort[] => {
      const address = targetAddress(endpoint, hostIp);
      const isRelayed = hostIp === '::1';
      return address === undefined || isRelayed || !families.includes(familyOf(hostIp))
        ? []
        : [{ ...port, hostIp, address, isAdmitted }];
    });
    const isByLoopback = rules.some(
      ({ hostIp }) => hostIp === anyAddress4 || (familyOf(hostIp) === 4 && isLoopback(hostIp)),
    );
    return {
      owner: endpoint.spec.endpoint,
      rules,
      bindings: portBindings(endpoint, ports, families),
      loopbackInterface: isByLoopback ? endpoint.spec.interfaceName : undefined,
    };
  }

  #changeRules(removed: readonly PublishedPort[], added: readonly PublishedPort[]): void {
    this.#deps.kernel.rules.changePublished(removed, added);
    this.#flows.changed([...removed, ...added]);
  }

  #release(owner: string, binding: ReservedPort): void {
    this.#problems.delete(JSON.stringify(binding));
    this.#deps.hostPorts.release(owner, binding);
  }

  async #reserve(of: PortOwner, binding: ReservedPort): Promise<void> {
    const { hostPorts, log } = this.#deps;
    const { id, owner } = of;
    const key = JSON.stringify(binding);
    try {
      await hostPorts.reserve(owner, binding);
      this.#problems.delete(key);
    } catch (error) {
      const isWanted = this.#published.get(id)?.bindings.some((one) => JSON.stringify(one) === key);
      if (isWanted !== true) return;
      if (!this.#problems.has(key)) {
        // The user of the port is looked up once, because that scans all processes.
        const why = describe(isCalicoError(error, 'port/taken') ? await portTaken(binding) : error);
        log.warn('published port not reserved', { endpoint: owner, why });
        this.#problems.set(key, why);
      }
      setTimeout(() => void this.#retryReservation(of, binding), retryMs).unref();
    }
  }

  /** Retries what is still desired. */
  async #retryReservation(of: PortOwner, binding: ReservedPort): Promise<void> {
    if (this.#problems.has(JSON.stringify(binding))) await this.#reserve(of, binding);
  }
}

/** Returns the elements of one list that another does not have. */
function missing<T>(of: readonly T[], other: readonly T[]): readonly T[] {
  const present = new Set(other.map((one) => JSON.stringify(one)));
  return of.filter((one) => !present.has(JSON.stringify(one)));
}
