import type { IpFamily } from '../ip/address.ts';
import { cidrFamily, isHostCidr, type Cidr } from '../ip/cidr.ts';
import { IdsByKey } from '../model/ids-by-key.ts';
import {
  annotation,
  endpointPrefixes,
  type WorkloadEndpoint,
} from '../model/kinds/workload-endpoint.ts';
import { isWorkloadInterface } from '../ruleset/names.ts';
import type { Dispatch, Stack } from '../ruleset/policy.ts';
import type { PolicyOutput } from '../ruleset/renderer.ts';
import type { ActiveStacks } from './select/active-stacks.ts';
import type { WorkCount } from './work-count.ts';

interface LocalEndpoint {
  readonly endpoint: WorkloadEndpoint;
  /** Its present place; `undefined` while another endpoint has its interface. */
  placed: Placed | undefined;
  /** The place that has been emitted: the former one until `move`. */
  emitted: Placed | undefined;
}

interface Placed {
  readonly stack: Stack;
  readonly dispatches: readonly Dispatch[];
}

interface PlacementsOptions {
  readonly families: readonly IpFamily[];
  readonly output: Pick<PolicyOutput, 'addDispatch' | 'removeDispatch'>;
  readonly stacks: ReadonlyMap<IpFamily, ActiveStacks>;
  readonly stackOf: (id: string, endpoint: WorkloadEndpoint) => Stack;
  readonly work: WorkCount;
}

/**
 * The endpoints of this host with their stacks and dispatches. An endpoint moves to another stack when the chains of
 * that are written: until then its packets meet the former one.
 */
export class Placements {
  readonly #options: PlacementsOptions;
  readonly #local = new Map<string, LocalEndpoint>();
  readonly #bySandbox = new IdsByKey();
  readonly #byInterface = new IdsByKey();
  /** Endpoints whose stack or dispatches may have changed, with the number of the last change. */
  readonly #touched = new Map<string, number>();
  #touches = 0;
  /** Endpoints whose place has not been emitted; of those, the ones with chains that are being written are `#ready`. */
  readonly #moving = new Set<string>();
  readonly #ready = new Set<string>();

  constructor(options: PlacementsOptions) {
    this.#options = options;
  }

  has(id: string): boolean {
    return this.#local.has(id);
  }

  /** Sets an endpoint of this host; `undefined`: it is gone, and leaves the output at once. Call `place` afterwards. */
  set(id: string, endpoint: WorkloadEndpoint | undefined): void {
    const before = this.#local.get(id);
    this.#touch([id, ...this.#neighbours(before?.endpoint)]);
    if (before !== undefined) this.#unlist(id, before.endpoint);
    if (endpoint === undefined) {
      if (before !== undefined) this.#retire(id, before);
      this.#local.delete(id);
      return;
    }
    this.#local.set(id, { endpoint, placed: before?.placed, emitted: before?.emitted });
    this.#byInterface.add(endpoint.spec.interfaceName, id);
    this.#bySandbox.add(sandboxOf(endpoint), id);
    this.#touch(this.#neighbours(endpoint));
  }

  /** The stack of an endpoint may have changed. */
  touch(id: string): void {
    this.#touched.set(id, this.#touches++);
  }

  /** Reports whether all places are up to date. */
  get isPlaced(): boolean {
    return this.#touched.size === 0;
  }

  /** Updates the places of the endpoints that may have changed. */
  place(): void {
    for (const id of this.#touched.keys()) this.#place(id, this.#visit(id));
    this.#touched.clear();
  }

  /** Likewise, in steps: a step is one endpoint, or one policy of a new stack. Changes may come between two steps. */
  *placeInSteps(): Generator<undefined> {
    for (const id of this.#touched.keys()) {
      let touched: number | undefined;
      let desired: Placed | undefined;
      do {
        touched = this.#touched.get(id);
        desired = this.#visit(id);
        yield* this.#prepare(desired);
      } while (this.#touched.get(id) !== touched && this.#touched.has(id));
      if (this.#touched.delete(id)) this.#place(id, desired);
      yield;
    }
  }

  /** Creates the stack of a place, in steps. */
  *#prepare(place: Placed | undefined): Generator<undefined> {
    if (place === undefined) return;
    for (const family of familiesOf(place)) {
      yield* this.#options.stacks.get(family)?.prepare(place.stack) ?? [];
    }
  }

  #visit(id: string): Placed | undefined {
    const local = this.#local.get(id);
    if (local === undefined) return undefined;
    this.#options.work.endpointsVisited++;
    return this.#desiredPlace(id, local.endpoint);
  }

  /** Returns the dispatches of an endpoint; `undefined` while it has no place here. */
  dispatchesOf(endpoint: WorkloadEndpoint): readonly Dispatch[] | undefined {
    return this.#placedOf(endpoint)?.dispatches;
  }

  /** Returns the stack of an endpoint; `undefined` while it has no place here. */
  stackOf(endpoint: WorkloadEndpoint): Stack | undefined {
    return this.#placedOf(endpoint)?.stack;
  }

  /** Call before chains are written. Returns the stacks that endpoints will leave when they are. */
  beforeTables(): readonly Stack[] {
    for (const id of this.#moving) this.#ready.add(id);
    this.#moving.clear();
    return [...this.#ready].flatMap((id) => {
      const { placed, emitted } = this.#local.get(id) ?? {};
      return emitted === undefined || emitted.stack.name === placed?.stack.name
        ? []
        : [emitted.stack];
    });
  }

  /** Call when the chains are written: emits the new places. */
  move(): void {
    for (const id of this.#ready) {
      const local = this.#local.get(id);
      // The chains of a later move are not written yet.
      if (local?.placed === undefined || this.#moving.has(id)) continue;
      this.#emit(id, local, local.placed);
    }
    this.#ready.clear();
  }

  /** Returns the endpoints that share a container or an interface with one. */
  #neighbours(endpoint: WorkloadEndpoint | undefined): readonly string[] {
    if (endpoint === undefined) return [];
    return [
      ...this.#bySandbox.ids(sandboxOf(endpoint)),
      ...this.#byInterface.ids(endpoint.spec.interfaceName),
    ];
  }

  #unlist(id: string, endpoint: WorkloadEndpoint): void {
    this.#byInterface.remove(endpoint.spec.interfaceName, id);
    this.#bySandbox.remove(sandboxOf(endpoint), id);
  }

  #placedOf({ spec }: WorkloadEndpoint): Placed | undefined {
    return [...this.#byInterface.ids(spec.interfaceName)]
      .map((id) => this.#local.get(id))
      .find((local) => local?.endpoint.spec.endpoint === spec.endpoint)?.placed;
  }

  #touch(ids: Iterable<string>): void {
    for (const id of ids) this.touch(id);
  }

  #place(id: string, desired: Placed | undefined): void {
    const local = this.#local.get(id);
    if (local === undefined) return;
    const before = local.placed;
    if (isSamePlace(before, desired)) {
      // Its staged policies may differ.
      local.placed = desired;
      return;
    }
    if (desired === undefined) {
      this.#retire(id, local);
      return;
    }
    local.placed = desired;
    const { stacks } = this.#options;
    for (const family of familiesOf(desired)) stacks.get(family)?.enter(desired.stack, id);
    this.#leave(id, before, [desired, local.emitted]);
    this.#moving.add(id);
  }

  #desiredPlace(id: string, endpoint: WorkloadEndpoint): Placed | undefined {
    const { interfaceName } = endpoint.spec;
    // Our chains do not match interfaces of other programs.
    if (!isWorkloadInterface(interfaceName)) return undefined;
    const rivals = [...this.#byInterface.ids(interfaceName)];
    // Of two endpoints with one interface only one can be right; the same one is chosen on every start.
    if (rivals.some((rival) => rival < id)) return undefined;
    const stack = this.#options.stackOf(id, endpoint);
    return {
      stack,
      dispatches: this.#networksOfContainer(endpoint).map((address) => ({
        family: cidrFamily(address),
        address,
        interface: interfaceName,
        stack: stack.name,
      })),
    };
  }

  /**
   * A container's packets may have any of its addresses as source, on any of its interfaces, and addresses of the
   * prefixes behind it. Another network in `ipNetworks` would let it use addresses of others.
   */
  #networksOfContainer(endpoint: WorkloadEndpoint): readonly Cidr[] {
    const siblings = [...this.#bySandbox.ids(sandboxOf(endpoint))];
    const networks = [
      ...(endpoint.spec.ipNetworks ?? []),
      ...siblings.flatMap((id) => this.#local.get(id)?.endpoint.spec.ipNetworks ?? []),
    ].filter(isHostCidr);
    const prefixes = [endpoint, ...siblings.map((id) => this.#local.get(id)?.endpoint)].flatMap(
      endpointPrefixes,
    );
    return [...new Set([...networks, ...prefixes])]
      .filter((network) => this.#options.families.includes(cidrFamily(network)))
      .toSorted();
  }

  /** Removes an endpoint from the output at once: its address may become another's. */
  #retire(id: string, local: LocalEndpoint): void {
    for (const dispatch of local.emitted?.dispatches ?? []) this.#removeDispatch(dispatch);
    this.#leave(id, local.placed, []);
    this.#leave(id, local.emitted, []);
    local.placed = undefined;
    local.emitted = undefined;
    this.#moving.delete(id);
  }

  #emit(id: string, local: LocalEndpoint, placed: Placed): void {
    const { emitted } = local;
    for (const dispatch of placed.dispatches) {
      if (has(emitted, dispatch)) continue;
      this.#options.work.membersEmitted++;
      this.#options.output.addDispatch(dispatch);
    }
    for (const dispatch of emitted?.dispatches ?? []) {
      if (!has(placed, dispatch)) this.#removeDispatch(dispatch);
    }
    this.#leave(id, emitted, [placed]);
    local.emitted = placed;
  }

  #removeDispatch(dispatch: Dispatch): void {
    this.#options.work.membersEmitted++;
    this.#options.output.removeDispatch(dispatch);
  }

  /** Leaves the stack of a former place, except in the families in which another place has it. */
  #leave(id: string, former: Placed | undefined, kept: readonly (Placed | undefined)[]): void {
    if (former === undefined) return;
    const { name } = former.stack;
    for (const family of familiesOf(former)) {
      const isKept = kept.some((one) => one?.stack.name === name && familiesOf(one).has(family));
      if (!isKept) this.#options.stacks.get(family)?.leave(name, id);
    }
  }
}

function familiesOf({ dispatches }: Placed): ReadonlySet<IpFamily> {
  return new Set(dispatches.map(({ family }) => family));
}

function has(placed: Placed | undefined, { address, interface: name, stack }: Dispatch): boolean {
  return (
    placed?.dispatches.some(
      (one) => one.address === address && one.interface === name && one.stack === stack,
    ) ?? false
  );
}

function sandboxOf(endpoint: WorkloadEndpoint): string | undefined {
  return annotation(endpoint, 'sandbox');
}

function isSamePlace(a: Placed | undefined, b: Placed | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.stack.name === b.stack.name &&
    a.dispatches.length === b.dispatches.length &&
    a.dispatches.every((dispatch) => has(b, dispatch))
  );
}
