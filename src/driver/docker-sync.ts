import { backoffMs, pause, withDeadline } from '../async/deadline.ts';
import { isMirrorLocked } from '../cache/lock.ts';
import type { Supervisor, Work } from '../async/supervise.ts';
import type { Mirror } from '../cache/mirror.ts';
import type { Writer } from '../datastore/writer.ts';
import { describe, isCalicoError } from '../errors/error.ts';
import { annotation, type WorkloadEndpoint } from '../model/kinds/workload-endpoint.ts';
import type { Logger } from '../telemetry/log.ts';
import {
  containerOf,
  lookUpContainer,
  type ContainerLookup,
} from './endpoints/container-lookup.ts';
import type { DockerApi } from './docker/docker-api.ts';
import {
  containerName,
  type ContainerInfo,
  type DockerEvent,
  type Engine,
} from './docker/messages.ts';
import type { AliasLearner } from './endpoints/aliases.ts';
import { describeEndpoint, type DescribeOptions } from './endpoints/endpoint-description.ts';
import type { LabelFilter } from './endpoints/container-labels.ts';
import type { LocalEndpoints } from './endpoints/local-endpoints.ts';
import type { AddressPlans } from './networks/address-plans.ts';
import { networkEntryId, type Networks } from './networks/networks.ts';
import type { Stamp } from '../model/stamp.ts';

export interface DockerSyncDeps {
  readonly node: string;
  readonly docker: DockerApi;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly networks: Networks;
  readonly addresses: Pick<AddressPlans, 'claimExtra' | 'claimPrefixes'>;
  readonly local: LocalEndpoints;
  /** The labels of containers that their endpoints get. */
  readonly isTaken: LabelFilter;
  readonly stamp: Stamp;
  readonly log: Logger;
  readonly supervisor: Supervisor;
  /** Learns aliases of containers, which other hosts need to resolve them; without it they stay unknown. */
  readonly aliases?: Pick<AliasLearner, 'changed'> | undefined;
  /** Called when a container was connected to or disconnected from any network, also one of another driver. */
  readonly onNetworksChanged: (sandbox: string) => void;
  /** Called when networks were created or removed, or may have been while no events were received. */
  readonly onNetworkList?: (() => void) | undefined;
  /** Called with the engine whenever a connection to Docker is established. */
  readonly onEngine: (engine: Engine) => void;
}

const answerMs = 5000;
const quarantineFirstMs = 100;
const quarantineLongestMs = 1000;
/** Poll interval for endpoints in quarantine while there is none. */
const noQuarantineMs = 500;

/**
 * Keeps the datastore in sync with Docker outside of plugin calls: names of networks and containers, labels, endpoints
 * in quarantine. Runs until the signal is aborted; retries while the engine is unavailable.
 */
export async function keepInSyncWithDocker(
  deps: DockerSyncDeps,
  signal: AbortSignal,
): Promise<void> {
  const { supervisor } = deps;
  const following = supervisor.work('Docker events');
  const releasing = supervisor.work('quarantine');
  await Promise.all([
    supervisor.keep(following, () => followEvents(deps, following, signal), signal),
    supervisor.keep(releasing, () => releaseQuarantine(deps, releasing, signal), signal),
  ]);
}

async function followEvents(deps: DockerSyncDeps, work: Work, signal: AbortSignal): Promise<void> {
  let delays = backoffMs(250, 5000);
  while (!signal.aborted) {
    try {
      const events = await deps.docker.events(signal);
      deps.onEngine(await deps.docker.engine(withDeadline(signal, answerMs)));
      await compareAll(deps, signal);
      deps.onNetworkList?.();
      work.succeeded();
      delays = backoffMs(250, 5000);
      for await (const event of events) await onEvent(deps, event, signal);
    } catch (error) {
      if (!signal.aborted) work.failed(error);
    }
    await pause(delays.next().value, signal);
  }
}

/** Updates everything that may have changed while no events were received. */
async function compareAll(deps: DockerSyncDeps, signal: AbortSignal): Promise<void> {
  const { docker, networks, mirror, node } = deps;
  const deadline = withDeadline(signal, answerMs);
  const [present, containers] = await Promise.all([
    docker.networks(deadline),
    docker.containers(deadline),
  ]);
  for (const { Id, Name } of present) {
    const known = mirror.get('DockerNetwork', networkEntryId(node, Id));
    if (known !== undefined && known.value.name !== Name)
      await networks.learnName(Id, Name, signal);
  }
  for (const container of containers) await describeContainer(deps, container, signal);
  for (const { Id } of containers) deps.aliases?.changed(Id);
}

/**
 * Docker reports a rename before it releases the old name, and lists the container under both names then: the event
 * names the new one.
 */
async function onEvent(
  deps: DockerSyncDeps,
  event: DockerEvent,
  signal: AbortSignal,
): Promise<void> {
  const { Type, Action, Actor } = event;
  const { ID = '', Attributes } = Actor;
  if (Type === 'network' && Action === 'create' && Attributes['name'] !== undefined) {
    await deps.networks.learnName(ID, Attributes['name'], signal);
  }
  if (Type === 'network' && (Action === 'create' || Action === 'destroy')) deps.onNetworkList?.();
  const isRename = Type === 'container' && Action === 'rename';
  const isConnect = Type === 'network' && (Action === 'connect' || Action === 'disconnect');
  const isStart = Type === 'container' && Action === 'start';
  const containerId = isRename || isStart ? ID : isConnect ? Attributes['container'] : undefined;
  if (containerId === undefined || deps.local.ofContainer(containerId).length === 0) return;
  if (!isRename) deps.aliases?.changed(containerId);
  if (isStart) return;
  const containers = await deps.docker.containers(withDeadline(signal, answerMs));
  const container = containers.find(({ Id }) => Id === containerId);
  if (container === undefined) return;
  await describeContainer(deps, container, signal, isRename ? Attributes['name'] : undefined);
}

/**
 * Writes Docker's description of one container to its endpoints, if it changed. Throws the errors of the datastore.
 */
async function describeContainer(
  deps: DockerSyncDeps,
  info: ContainerInfo,
  signal: AbortSignal,
  name = containerName(info),
): Promise<void> {
  if (name === undefined) return;
  const container = containerOf(info, name);
  for (const id of deps.local.ofContainer(info.Id)) {
    const endpoint = deps.mirror.get('WorkloadEndpoint', id)?.value;
    const networkName = endpoint && networkOf(deps, endpoint)?.name;
    if (networkName === undefined) continue;
    const lookup = { kind: 'found', networkName, container } as const;
    try {
      await writeDescription(deps, { id, lookup }, signal);
    } catch (error) {
      // An endpoint removed meanwhile needs no description; after other errors the caller starts over.
      if (isCalicoError(error, 'driver/unknown-endpoint', 'driver/unknown-network')) continue;
      const level = isCalicoError(
        error,
        'datastore/locked',
        'datastore/moving',
        'datastore/restoring',
      )
        ? 'debug'
        : 'warn';
      deps.log[level]('container could not be described', {
        container: name,
        why: describe(error),
      });
      throw error;
    }
  }
}

/** Retries every endpoint in quarantine, soon at first, then once a second. */
async function releaseQuarantine(
  deps: DockerSyncDeps,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  let delays = backoffMs(quarantineFirstMs, quarantineLongestMs);
  while (!signal.aborted) {
    const waiting = isMirrorLocked(deps.mirror) ? [] : deps.local.quarantined();
    if (waiting.length === 0) delays = backoffMs(quarantineFirstMs, quarantineLongestMs);
    for (const id of waiting) {
      // An endpoint that Docker cannot describe must not stop the others.
      await tryRelease(deps, id, signal).catch((error: unknown) => {
        if (!signal.aborted) work.failed(error);
      });
    }
    await pause(waiting.length === 0 ? noQuarantineMs : delays.next().value, signal);
  }
}

async function tryRelease(deps: DockerSyncDeps, id: string, signal: AbortSignal): Promise<void> {
  const endpoint = deps.mirror.get('WorkloadEndpoint', id)?.value;
  if (endpoint === undefined) return;
  const lookup = await lookUpContainer(
    deps.docker,
    { networkId: annotation(endpoint, 'network') ?? '', endpointId: endpoint.spec.endpoint },
    signal,
  );
  if (lookup.kind === 'unknown') return;
  const named = { container: lookup.container.name, endpoint: endpoint.spec.endpoint };
  try {
    await writeDescription(deps, { id, lookup, addresses: deps.addresses }, signal);
    deps.log.info('endpoint released from quarantine', named);
  } catch (error) {
    deps.log.warn('endpoint stays in quarantine', { ...named, why: describe(error) });
  }
}

async function writeDescription(
  deps: DockerSyncDeps,
  what: Pick<DescribeOptions, 'id' | 'addresses'> & {
    readonly lookup: Extract<ContainerLookup, { kind: 'found' }>;
  },
  signal: AbortSignal,
): Promise<void> {
  const { mirror, writer, local, stamp, isTaken } = deps;
  await writer.write(
    (draft) => describeEndpoint(draft, { ...what, ofSandbox: local.ofSandbox, stamp, isTaken }),
    signal,
  );
  const endpoint = mirror.get('WorkloadEndpoint', what.id)?.value;
  const sandbox = endpoint && annotation(endpoint, 'sandbox');
  if (sandbox !== undefined) deps.onNetworksChanged(sandbox);
}

function networkOf({ mirror, node }: DockerSyncDeps, endpoint: WorkloadEndpoint) {
  return mirror.get('DockerNetwork', networkEntryId(node, annotation(endpoint, 'network') ?? ''))
    ?.value;
}
