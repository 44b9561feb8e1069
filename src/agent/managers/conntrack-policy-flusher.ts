import { isDeepStrictEqual } from 'node:util';
import type { EntryChange } from '../../cache/mirror.ts';
import type { Conntrack, Flow } from '../../dataplane/conntrack.ts';
import type { HostAddresses } from '../../dataplane/host-addresses.ts';
import { familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { cidrContains, hostCidr } from '../../ip/cidr.ts';
import {
  endpointAddresses,
  endpointPrefixes,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import { evaluateStack, type Packet } from '../../profiles/evaluate/evaluate.ts';
import type { PolicyEngine } from '../../profiles/policy-engine.ts';
import type { PolicyId } from '../../ruleset/policy.ts';
import type { Renderer } from '../../ruleset/renderer.ts';
import type { Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';
import type { DomainSets } from './domain-sets.ts';
import { localEndpoint } from './local-endpoint.ts';
import { policyKinds, type PolicyKind } from './policy.ts';

type JudgingEngine = Pick<
  PolicyEngine,
  'stackOf' | 'compiled' | 'selectorContains' | 'selectsDomains' | 'hasNamedPort'
>;

interface ConntrackPolicyFlusherDeps extends Pick<
  ManagerDeps,
  'node' | 'families' | 'endsForbiddenFlows'
> {
  readonly kernel: {
    readonly conntrack: Pick<Conntrack, 'flush'>;
    readonly addresses: Pick<HostAddresses, 'ofInterfaces'>;
    readonly rules: Pick<Renderer, 'cameByPublishedPort'>;
    readonly losses: () => number;
  };
  readonly domains: Pick<DomainSets, 'formerSetsOf'>;
}

/**
 * Flushes connections that no rule allows: rules allowed them earlier, or they started while another program had
 * removed the rules. Otherwise they would continue, because the kernel evaluates the rules only for the first packet
 * of a connection.
 */
export class ConntrackPolicyFlusher implements Manager<PolicyKind> {
  readonly name = 'end of flows that no rule allows';
  readonly kinds = policyKinds;
  readonly #node: string;
  readonly #kernel: ConntrackPolicyFlusherDeps['kernel'];
  #losses = 0;
  readonly #engine: JudgingEngine;
  readonly #families: readonly IpFamily[];
  readonly #domains: ConntrackPolicyFlusherDeps['domains'];
  /** By address and Docker endpoint ID: two endpoints may share an address while one replaces the other. */
  readonly #byAddress = new Map<IpAddress, Map<string, WorkloadEndpoint>>();
  /** Endpoints with prefixes behind them, by Docker's ID. */
  readonly #withPrefixes = new Map<string, WorkloadEndpoint>();
  readonly #endsForbidden: boolean;
  #mustLook = false;

  constructor(deps: ConntrackPolicyFlusherDeps, engine: JudgingEngine) {
    this.#node = deps.node;
    this.#endsForbidden = deps.endsForbiddenFlows;
    this.#kernel = deps.kernel;
    this.#engine = engine;
    this.#families = deps.families;
    this.#domains = deps.domains;
  }

  onChange(change: EntryChange<PolicyKind>): void {
    if (change.kind === 'WorkloadEndpoint') {
      this.setEndpoint(change.before?.value, localEndpoint(this.#node, change));
    } else if (this.#endsForbidden) {
      this.#mustLook = true;
    }
  }

  apply(phase: Phase): void {
    if (phase === 'reading' && this.#kernel.losses() > this.#losses) {
      this.#losses = this.#kernel.losses();
      this.#mustLook = true;
    }
    // The current rules are programmed.
    if (phase === 'routes') this.flushForbidden();
  }

  /** Handles a change of a local endpoint; new Profiles or labels may forbid existing connections. */
  setEndpoint(before: WorkloadEndpoint | undefined, now: WorkloadEndpoint | undefined): void {
    if (this.#endsForbidden && before !== undefined && now !== undefined) {
      const policy = ({ metadata, spec }: WorkloadEndpoint) => [spec.profiles, metadata.labels];
      if (!isDeepStrictEqual(policy(before), policy(now))) this.#mustLook = true;
    }
    for (const address of endpointAddresses(before)) {
      const owners = this.#byAddress.get(address);
      owners?.delete(before?.spec.endpoint ?? '');
      if (owners?.size === 0) this.#byAddress.delete(address);
    }
    for (const address of endpointAddresses(now)) {
      const owners = this.#byAddress.get(address) ?? new Map<string, WorkloadEndpoint>();
      if (now !== undefined) owners.set(now.spec.endpoint, now);
      this.#byAddress.set(address, owners);
    }
    if (before !== undefined) this.#withPrefixes.delete(before.spec.endpoint);
    if (now !== undefined && endpointPrefixes(now).length > 0)
      this.#withPrefixes.set(now.spec.endpoint, now);
  }

  /** Returns the endpoints of this host that have an address, or a prefix that contains it. */
  #ownersOf(address: IpAddress): readonly WorkloadEndpoint[] {
    const owners = this.#byAddress.get(address);
    if (owners !== undefined) return [...owners.values()];
    return [...this.#withPrefixes.values()].filter((endpoint) =>
      endpointPrefixes(endpoint).some((prefix) => cidrContains(prefix, address)),
    );
  }

  /** Call when the current rules are programmed; returns the number of flushed connections. */
  flushForbidden(): number {
    if (!this.#mustLook) return 0;
    const ofHost = this.#kernel.addresses.ofInterfaces();
    const ended = this.#kernel.conntrack.flush(
      this.#families,
      (flow) => !this.#isAllowed(flow, ofHost),
    );
    this.#mustLook = false;
    return ended;
  }

  /**
   * Flows that concern no endpoint of this host are allowed. The chains see a packet after destination NAT and before
   * source NAT: the answerer is the endpoint of the published port.
   */
  #isAllowed(flow: Flow, ofHost: ReadonlySet<IpAddress>): boolean {
    const { source, answerer, answeringPort, mark } = flow;
    const packet = {
      ...flow,
      destination: answerer,
      destinationPort: answeringPort,
      cameByPublishedPort: this.#kernel.rules.cameByPublishedPort(mark),
    };
    const from = this.#ownersOf(source);
    // The host always reaches its own containers.
    const isOfHost = ofHost.has(source) || source.startsWith('127.');
    const to = isOfHost ? [] : this.#ownersOf(answerer);
    return (
      from.every((endpoint) => this.#accepts(endpoint, 'egress', packet)) &&
      to.every((endpoint) => this.#accepts(endpoint, 'ingress', packet))
    );
  }

  #accepts(endpoint: WorkloadEndpoint, direction: 'ingress' | 'egress', packet: Packet): boolean {
    const family = familyOf(packet.source);
    const judged = {
      stack: this.#engine.stackOf(endpoint),
      compiled: (id: PolicyId) => this.#engine.compiled(family, id),
    };
    const { isAllowed } = evaluateStack(judged, direction, {
      packet,
      isMember: ({ id, withDomains }, address) =>
        this.#engine.selectorContains(id, hostCidr(address)) ||
        // The address of a domain name has expired, but the connection was allowed before.
        (withDomains &&
          this.#domains.formerSetsOf(address).some((set) => this.#engine.selectsDomains(id, set))),
      hasNamedPort: (name, address, port) =>
        this.#engine.hasNamedPort(name, hostCidr(address), port),
    });
    return isAllowed;
  }
}
