import { isDeepStrictEqual } from 'node:util';
import { KeyedMutex } from '../../async/keyed-mutex.ts';
import type {
  HostPortReservations,
  ReservedPort,
} from '../../dataplane/host-ports/host-port-reservations.ts';
import { hostPortKey } from '../../dataplane/host-ports/host-port-socket.ts';
import { portTaken } from '../../dataplane/host-ports/port-user.ts';
import { endpointOf, mirroredEndpoint } from '../../cache/endpoint-lookup.ts';
import type { Mirror } from '../../cache/mirror.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import { CalicoError, isCalicoError } from '../../errors/error.ts';
import {
  addressAndPort,
  anyAddress4,
  anyAddress6,
  familyOf,
  isUnspecified,
  type IpAddress,
  type IpFamily,
} from '../../ip/address.ts';
import type { DockerNetwork } from '../../model/kinds/docker-network.ts';
import {
  publishedPorts,
  targetAddress,
  withPublishedPorts,
  type PublishedPort,
} from '../../model/published-port.ts';
import {
  annotation,
  withAnnotation,
  type WorkloadEndpoint,
} from '../../model/kinds/workload-endpoint.ts';
import type { EndpointRequest, ProgramRequest } from '../plugin/messages.ts';
import { networkEntryId } from '../networks/networks.ts';
import { portBindings } from './port-bindings.ts';
import { parsePortMap, type AskedPort } from './port-map.ts';

/**
 * The published ports of endpoints, which follow the container's default route: Docker programs the endpoint that
 * carries it, and revokes the one that carried it before. All calls are idempotent.
 */
export interface ExternalConnectivity {
  /** Publishes exactly the ports of the request; all or none. Throws `port/…`. */
  program(request: ProgramRequest, signal: AbortSignal): Promise<void>;
  revoke(request: EndpointRequest, signal: AbortSignal): Promise<void>;
  /** Docker has restarted: endpoints from before may have been removed without a call. */
  engineBegan(): void;
}

export interface ExternalConnectivityDeps {
  readonly node: string;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly hostPorts: HostPortReservations;
  readonly families: readonly IpFamily[];
  /** Reports whether a container runs whose network namespace has this path. */
  readonly isAlive: (sandbox: string) => boolean;
  /** Resolves when the endpoint is programmed as of that datastore revision. */
  readonly programmed: (endpointId: string, revision: bigint, signal: AbortSignal) => Promise<void>;
}

/** How often a port that the kernel chose for one address is tried on another. */
const maxAttempts = 20;

export function createExternalConnectivity(deps: ExternalConnectivityDeps): ExternalConnectivity {
  const { node, mirror, writer } = deps;
  const oneAtATime = new KeyedMutex();
  /** Endpoints whose ports this Docker process has requested and will revoke itself. */
  const expected = new Set<string>();
  const stored = (endpointId: string) => mirroredEndpoint(mirror, node, endpointId);

  const program = async (request: ProgramRequest, signal: AbortSignal): Promise<void> => {
    const endpointId = request.EndpointID;
    const endpoint = stored(endpointId);
    if (endpoint === undefined)
      throw new CalicoError('driver/unknown-endpoint', { endpoint: endpointId });
    const network = mirror.get('DockerNetwork', networkEntryId(node, request.NetworkID))?.value;
    const asked = network?.internal === true ? [] : parsePortMap(request.Options);
    const before = publishedPorts(endpoint);
    if (asked.length === 0 && before.length === 0) return;
    const taking = new Taking(deps, endpoint, expected);
    expected.add(endpointId);
    try {
      const ports = await taking.takeAll(asked, before);
      const { revision } = await writer.write((draft) => {
        for (const stale of taking.stale) publish(draft, stale, []);
        publish(draft, endpointId, ports, network);
      }, signal);
      await deps.programmed(endpointId, revision, signal);
    } catch (error) {
      expected.delete(endpointId);
      try {
        await undo(endpointId, before);
      } finally {
        taking.giveBack(publishedPorts(stored(endpointId)));
      }
      throw error;
    }
  };

  /**
   * Revokes everything that was, or may have been, written before an error; Docker removes the endpoint then, but the
   * ports must be free immediately.
   */
  const undo = async (endpointId: string, before: readonly PublishedPort[]): Promise<void> => {
    await writer.write((draft) => publish(draft, endpointId, before), AbortSignal.timeout(5000));
  };

  const publish = (
    draft: Draft,
    endpointId: string,
    ports: readonly PublishedPort[],
    network?: DockerNetwork,
  ): void => {
    const found = endpointOf(draft, node, endpointId);
    if (found === undefined) return;
    const { id, endpoint } = found;
    const isForPolicy = ports.length > 0 && network?.options.published === 'policy';
    const changed = withAnnotation(
      withPublishedPorts(endpoint, ports),
      'published',
      isForPolicy ? 'policy' : undefined,
    );
    if (!isDeepStrictEqual(changed, endpoint)) draft.put('WorkloadEndpoint', id, changed);
  };

  const revoke = async (
    { EndpointID: endpointId }: EndpointRequest,
    signal: AbortSignal,
  ): Promise<void> => {
    expected.delete(endpointId);
    if (publishedPorts(stored(endpointId)).length === 0) return;
    const { revision } = await writer.write((draft) => publish(draft, endpointId, []), signal);
    await deps.programmed(endpointId, revision, signal);
  };

  return {
    program: (request, signal) =>
      oneAtATime.run(request.EndpointID, () => program(request, signal)),
    revoke: (request, signal) => oneAtATime.run(request.EndpointID, () => revoke(request, signal)),
    engineBegan: () => expected.clear(),
  };
}

/** The port reservations of one endpoint so far, released if the rest fails. */
class Taking {
  readonly #deps: ExternalConnectivityDeps;
  readonly #endpoint: WorkloadEndpoint;
  readonly #expected: ReadonlySet<string>;
  readonly #taken: ReservedPort[] = [];
  /** The total number of ports that the endpoint publishes. */
  #portCount = 0;
  /** IDs of endpoints of stopped containers whose ports it took over. */
  readonly stale = new Set<string>();

  constructor(
    deps: ExternalConnectivityDeps,
    endpoint: WorkloadEndpoint,
    expected: ReadonlySet<string>,
  ) {
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#expected = expected;
  }

  /** Reserves a host port for each; a repeated call returns the ports that the endpoint already has. */
  async takeAll(
    asked: readonly AskedPort[],
    before: readonly PublishedPort[],
  ): Promise<readonly PublishedPort[]> {
    const target = ({ protocol, port }: Pick<PublishedPort, 'protocol' | 'port'>) =>
      `${protocol} ${port}`;
    const unclaimed = new Map(
      [...Map.groupBy(before, target)].map(([key, published]) => [key, new Set(published)]),
    );
    const claim = (one: AskedPort): readonly PublishedPort[] => {
      const here = unclaimed.get(target(one)) ?? new Set();
      const fitting = [...here].filter((published) => fits(published, one));
      const [first] = fitting;
      const same = fitting.filter(({ hostPort }) => hostPort === first?.hostPort);
      if (same.length !== hostIps(this.#endpoint, one).length) return [];
      for (const published of same) here.delete(published);
      return same;
    };
    const ports: PublishedPort[] = [];
    this.#portCount = asked.flatMap((one) => hostIps(this.#endpoint, one)).length;
    for (const one of asked) {
      const claimed = claim(one);
      if (claimed.length === 0) ports.push(...(await this.#takeOne(one)));
      else {
        await this.#reserve(claimed);
        ports.push(...claimed);
      }
    }
    return ports;
  }

  /** Releases reservations that do not belong to the given ports. */
  giveBack(kept: readonly PublishedPort[]): void {
    const { hostPorts, families } = this.#deps;
    const needed = new Set(portBindings(this.#endpoint, kept, families).map(hostPortKey));
    for (const taken of this.#taken.splice(0)) {
      if (!needed.has(hostPortKey(taken))) hostPorts.release(this.#endpoint.spec.endpoint, taken);
    }
  }

  async #takeOne(asked: AskedPort): Promise<readonly PublishedPort[]> {
    const { protocol, port, firstHostPort, lastHostPort } = asked;
    const addresses = hostIps(this.#endpoint, asked);
    const [first = anyAddress4] = addresses;
    const choices = firstHostPort === 0 ? maxAttempts : lastHostPort - firstHostPort + 1;
    const before = this.#taken.length;
    for (let choice = 0; choice < choices; choice++) {
      try {
        const hostPort =
          firstHostPort === 0
            ? await this.#choose({ protocol, hostIp: first, hostPort: 0, port })
            : firstHostPort + choice;
        const ports = addresses.map((hostIp) => ({ protocol, hostIp, hostPort, port }));
        await this.#reserve(ports);
        return ports;
      } catch (error) {
        this.#releaseSince(before);
        if (!isCalicoError(error, 'port/taken')) throw error;
        // Docker's own sentence for one port; the users of a range would be a long list.
        if (choices === 1) throw await this.#whoHas(addresses, asked, error);
      }
    }
    const range = firstHostPort === 0 ? 0 : `${firstHostPort}-${lastHostPort}`;
    throw new CalicoError('port/range-taken', { where: addressAndPort(first, range) });
  }

  /** Returns the error that names the host process using the port; the given error if a container has it. */
  async #whoHas(
    addresses: readonly IpAddress[],
    { protocol, port, firstHostPort: hostPort }: AskedPort,
    error: CalicoError,
  ): Promise<CalicoError> {
    const { hostPorts } = this.#deps;
    const ports = addresses.map((hostIp) => ({ protocol, hostIp, hostPort, port }));
    for (const binding of this.#bindings(ports)) {
      if (hostPorts.ownerOf(binding) !== undefined) continue;
      const named = await portTaken(binding);
      if (isCalicoError(named, 'port/taken') && named.detail.by !== undefined) return named;
    }
    return error;
  }

  /** Lets the kernel choose a port. */
  async #choose(published: PublishedPort): Promise<number> {
    const [binding] = this.#bindings([published]);
    if (binding === undefined) return 0;
    const port = await this.#deps.hostPorts.reserve(this.#endpoint.spec.endpoint, binding);
    this.#taken.push({ ...binding, port });
    return port;
  }

  async #reserve(ports: readonly PublishedPort[]): Promise<void> {
    const { hostPorts } = this.#deps;
    const owner = this.#endpoint.spec.endpoint;
    for (const binding of this.#bindings(ports)) {
      this.#takeOver(binding);
      const isNew = hostPorts.ownerOf(binding) !== owner;
      await hostPorts.reserve(owner, binding);
      if (isNew) this.#taken.push(binding);
    }
  }

  #bindings(ports: readonly PublishedPort[]): readonly ReservedPort[] {
    return portBindings(this.#endpoint, ports, this.#deps.families, this.#portCount);
  }

  #releaseSince(count: number): void {
    for (const taken of this.#taken.splice(count)) {
      this.#deps.hostPorts.release(this.#endpoint.spec.endpoint, taken);
    }
  }

  /**
   * After a crash of Docker, containers restart before their old endpoints are removed. A port of a stopped container,
   * or of another endpoint of this one, is free. A container that is about to start has no process yet (Docker before
   * 28 creates its namespace last), but this Docker process has requested its ports.
   */
  #takeOver(binding: ReservedPort): void {
    const { hostPorts, mirror, node, isAlive } = this.#deps;
    const holder = hostPorts.ownerOf(binding);
    if (holder === undefined || holder === this.#endpoint.spec.endpoint) return;
    const other = mirroredEndpoint(mirror, node, holder);
    const sandbox = other === undefined ? undefined : annotation(other, 'sandbox');
    const isOwn = sandbox !== undefined && sandbox === annotation(this.#endpoint, 'sandbox');
    const isKept = this.#expected.has(holder) || (sandbox !== undefined && isAlive(sandbox));
    if (other !== undefined && !isOwn && isKept) return;
    hostPorts.release(holder, binding);
    this.stale.add(holder);
  }
}

/**
 * Returns the host addresses on which a port is requested: the given one, or all of the families that the endpoint
 * has. Throws `port/no-address` if the endpoint cannot be reached from there.
 */
function hostIps(endpoint: WorkloadEndpoint, { hostIp, firstHostPort }: AskedPort) {
  const wanted = hostIp === undefined ? [anyAddress4, anyAddress6] : [hostIp];
  const possible = wanted.filter((address) => targetAddress(endpoint, address) !== undefined);
  if (possible.length > 0) return possible;
  const [first = anyAddress4] = wanted;
  const where = addressAndPort(first, firstHostPort);
  throw new CalicoError('port/no-address', { where, family: familyOf(first) });
}

function fits(published: PublishedPort, asked: AskedPort): boolean {
  const { hostIp, hostPort } = published;
  return (
    published.protocol === asked.protocol &&
    published.port === asked.port &&
    (asked.hostIp === undefined ? isUnspecified(hostIp) : hostIp === asked.hostIp) &&
    (asked.firstHostPort === 0 ||
      (hostPort >= asked.firstHostPort && hostPort <= asked.lastHostPort))
  );
}
