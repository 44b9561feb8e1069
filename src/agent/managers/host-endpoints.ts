import { z } from 'zod';
import type { EntryChange } from '../../cache/mirror.ts';
import { jsonOrUndefined } from '../../model/json.ts';
import {
  hostCoverage,
  interfacesOf,
  isCoverable,
  type HostCoverage,
} from '../../profiles/host-coverage.ts';
import type { HostEndpoint } from '../../model/kinds/host-endpoint.ts';
import type { PolicyEngine } from '../../profiles/policy-engine.ts';
import { anyInterface } from '../../ruleset/host-endpoint.ts';
import type { Check } from '../../telemetry/status-report.ts';
import { failsafesOf } from '../failsafes.ts';
import { FelixConfigurations } from '../felix-configurations.ts';
import type { Kernel } from '../kernel.ts';
import type { HostEvent, Manager, Phase } from '../manager.ts';
import type { ManagerDeps } from '../manager-deps.ts';

type HostEndpointKind = 'HostEndpoint' | 'FelixConfiguration';

interface HostEndpointDeps extends Pick<ManagerDeps, 'node'> {
  readonly mirror: Pick<ManagerDeps['mirror'], 'unreadable' | 'allUnreadable'>;
  readonly kernel: {
    readonly addresses: Pick<Kernel['addresses'], 'byInterface'>;
    readonly dockerPorts: Kernel['dockerPorts'];
  };
}

type Engine = Pick<
  PolicyEngine,
  'setHostEndpoint' | 'setCoveredInterfaces' | 'setFailsafes' | 'hostTiersOf'
>;

/** How often the ports of the Docker API are read while there are host endpoints. */
const dockerPollMs = 10_000;

/** Host endpoints: which interfaces of this host they cover, and which ports stay open. */
export class HostEndpointsManager implements Manager<HostEndpointKind> {
  readonly name = 'host endpoints';
  readonly kinds = ['HostEndpoint', 'FelixConfiguration'] as const;
  readonly #deps: HostEndpointDeps;
  readonly #engine: Engine;
  /** Those of this host, invalid ones included. */
  readonly #local = new Map<string, HostEndpoint>();
  /** Why a stored one of this host is invalid: it denies what it covers, except failsafe ports. */
  readonly #invalid = new Map<string, string>();
  readonly #unreadable = new Map<string, bigint>();
  readonly #configurations: FelixConfigurations;
  #coverage: HostCoverage = { byName: new Map(), ofOthers: undefined };
  #dockerPorts: readonly number[] = [];
  #dockerAt = 0;
  #isDirty = true;

  constructor(deps: HostEndpointDeps, engine: Engine) {
    this.#deps = deps;
    this.#configurations = new FelixConfigurations(deps.node);
    this.#engine = engine;
  }

  onChange(change: EntryChange<HostEndpointKind>): void {
    const { id } = change;
    if (change.kind === 'FelixConfiguration') {
      if (this.#configurations.take(change)) this.#setFailsafes();
      return;
    }
    const unreadable =
      change.now === undefined ? this.#deps.mirror.unreadable('HostEndpoint', id) : undefined;
    if (unreadable === undefined) this.#set(id, change.now?.value, undefined);
    else this.#set(id, readable(id, unreadable.text), unreadable.why);
  }

  onEvent(event: HostEvent): boolean {
    if (event.kind !== 'link' && event.kind !== 'address') return false;
    if (this.#isAnyByAddress) this.#isDirty = true;
    return this.#isAnyByAddress;
  }

  resync(): void {
    this.#isDirty = true;
  }

  poll(): boolean {
    if (this.#local.size === 0 || Date.now() - this.#dockerAt < dockerPollMs) return false;
    return this.#readDockerPorts();
  }

  apply(phase: Phase): void {
    if (phase !== 'reading') return;
    this.#compareUnreadable();
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#cover();
  }

  /** Returns the host endpoint that covers an interface. */
  endpointOf(name: string): string | undefined {
    if (!isCoverable(name)) return undefined;
    return this.#coverage.byName.get(name) ?? this.#coverage.ofOthers;
  }

  checks(): readonly Check[] {
    const interfaces = this.#local.size === 0 ? [] : this.#deps.kernel.addresses.byInterface();
    return [...this.#local]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, { spec }]): Check => {
        const name = `HostEndpoint ${id}`;
        const why = this.#invalid.get(id);
        const names = interfacesOf(id, this.#coverage, interfaces);
        const covers = names.length === 0 ? 'no interface' : names.join(', ');
        if (why !== undefined) {
          return {
            name,
            ok: false,
            detail: `it is invalid: ${why}; it denies new connections on ${covers}, except failsafe ports`,
            remedy: 'Fix it: calico-cnm apply. Or delete it: calico-cnm delete hep.',
          };
        }
        const later = spec.interfaceName === anyInterface ? ', and interfaces created later' : '';
        return { name, ok: true, detail: `covers ${covers}${later}` };
      });
  }

  /** A host endpoint that cannot be read any more is no deleted one; it is not reported as a change. */
  #compareUnreadable(): void {
    const now = this.#deps.mirror.allUnreadable('HostEndpoint');
    if (this.#unreadable.size + now.size === 0) return;
    for (const [id, { modRevision, text, why }] of now) {
      if (this.#unreadable.get(id) === modRevision) continue;
      this.#unreadable.set(id, modRevision);
      this.#set(id, readable(id, text), why);
    }
    for (const id of this.#unreadable.keys()) {
      if (now.has(id)) continue;
      this.#unreadable.delete(id);
      if (this.#invalid.has(id)) this.#set(id, undefined, undefined);
    }
  }

  #set(id: string, endpoint: HostEndpoint | undefined, invalid: string | undefined): void {
    const isLocal = endpoint?.spec.node === this.#deps.node;
    if (isLocal) this.#local.set(id, endpoint);
    else this.#local.delete(id);
    if (isLocal && invalid !== undefined) this.#invalid.set(id, invalid);
    else this.#invalid.delete(id);
    this.#engine.setHostEndpoint(id, endpoint);
    if (this.#local.size > 0 && this.#dockerAt === 0) this.#readDockerPorts();
    this.#cover();
    this.#setFailsafes();
  }

  /** Whether an interface is found by its addresses, which change. */
  get #isAnyByAddress(): boolean {
    return [...this.#local.values()].some(({ spec }) => (spec.interfaceName ?? '') === '');
  }

  /** Sets which host endpoint each interface has. */
  #cover(): void {
    const interfaces = this.#isAnyByAddress ? this.#deps.kernel.addresses.byInterface() : [];
    this.#coverage = hostCoverage(this.#local, interfaces);
    const { byName, ofOthers } = this.#coverage;
    this.#engine.setCoveredInterfaces(
      new Map([...byName, ...(ofOthers === undefined ? [] : [[anyInterface, ofOthers] as const])]),
    );
  }

  #readDockerPorts(): boolean {
    this.#dockerAt = Date.now();
    const ports = this.#deps.kernel.dockerPorts();
    if (ports.join() === this.#dockerPorts.join()) return false;
    this.#dockerPorts = ports;
    this.#setFailsafes();
    return true;
  }

  #setFailsafes(): void {
    this.#engine.setFailsafes(failsafesOf(...this.#configurations.both, this.#dockerPorts));
  }
}

const place = z.object({
  spec: z.object({
    node: z.string(),
    interfaceName: z.string().optional().catch(anyInterface),
    expectedIPs: z.array(z.string()).optional().catch(undefined),
  }),
});

/**
 * Returns where a host endpoint that is invalid is, as far as it can be read: without policy and Profiles, so that it
 * denies. If its interface cannot be read, it covers all; if its node cannot be read, it is on no host, because it would
 * cut off all of them.
 */
function readable(name: string, text: string): HostEndpoint | undefined {
  const read = place.safeParse(jsonOrUndefined(text));
  if (!read.success) return undefined;
  const { node, interfaceName, expectedIPs } = read.data.spec;
  const isNowhere = (interfaceName ?? '') === '' && expectedIPs === undefined;
  return {
    kind: 'HostEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: {
      node,
      interfaceName: isNowhere ? anyInterface : (interfaceName ?? ''),
      ...(expectedIPs === undefined ? {} : { expectedIPs }),
    },
  };
}
