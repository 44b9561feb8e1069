import { pause, withDeadline } from '../../async/deadline.ts';
import type { Work } from '../../async/supervise.ts';
import type { Mirror } from '../../cache/mirror.ts';
import { isMirrorLocked } from '../../cache/lock.ts';
import { writeAll, writeInSteps } from '../../datastore/steps.ts';
import type { Draft, Writer } from '../../datastore/writer.ts';
import type { DockerApi } from '../../driver/docker/docker-api.ts';
import type { LocalEndpoints } from '../../driver/endpoints/local-endpoints.ts';
import { reclaimProfiles, leakedProfiles } from '../../driver/networks/network-profiles.ts';
import type { IpAddress } from '../../ip/address.ts';
import {
  reclaim,
  findLeaks,
  leakIdentity,
  leakKey,
  type Leak,
  type SwarmFacts,
} from '../../ipam/maintenance/reclaim.ts';
import { allocateInUse } from '../../ipam/maintenance/repair.ts';
import type { Logger } from '../../telemetry/log.ts';

export interface ReclaimLeaksDeps {
  readonly node: string;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly docker: DockerApi;
  readonly local: LocalEndpoints;
  readonly log: Logger;
  readonly work: Work;
  readonly removeNetwork: (networkId: string, signal: AbortSignal) => Promise<void>;
  readonly removeEndpoint: (endpointId: string, signal: AbortSignal) => Promise<void>;
  /** Host interfaces of calico-cnm whose other end is in no container, and how to remove one. */
  readonly orphanedVeths: () => readonly string[];
  readonly removeVeth: (hostName: string) => void;
  /** Milliseconds between two checks. */
  readonly intervalMs: number;
}

/** The leaks found by one check, according to one engine. */
interface LeakCheck {
  readonly engineId: string;
  readonly networks: ReadonlySet<string>;
  readonly endpoints: ReadonlySet<string>;
  readonly leaks: ReadonlySet<string>;
  readonly profiles: ReadonlySet<string>;
  /** Host interfaces without an endpoint. */
  readonly veths: ReadonlySet<string>;
  readonly swarm: SwarmFacts;
}

const answerMs = 5000;

/**
 * Reclaims leaks of this host: after a crash of dockerd, a reboot, or removals while the daemon was stopped. Reclaims
 * an object only if two checks, some time apart and answered by the same Docker engine, agree.
 */
export async function reclaimLeaks(deps: ReclaimLeaksDeps, signal: AbortSignal): Promise<void> {
  let before: LeakCheck | undefined;
  while (!signal.aborted) {
    if (!isMirrorLocked(deps.mirror)) before = await reclaimOnce(deps, before, signal);
    await pause(deps.intervalMs, signal);
  }
}

/** Returns the leaks found now; failures are reported, and retried at the next check. */
async function reclaimOnce(
  deps: ReclaimLeaksDeps,
  before: LeakCheck | undefined,
  signal: AbortSignal,
): Promise<LeakCheck | undefined> {
  let now: LeakCheck | undefined;
  try {
    now = await findAllLeaks(deps, signal);
    const isSame = before?.engineId === now.engineId;
    const failures = before && isSame ? await reclaimBoth(deps, { before, now }, signal) : [];
    if (failures.length === 0) deps.work.succeeded();
    for (const failure of failures) deps.work.failed(failure);
  } catch (error) {
    // An engine that boots or is unavailable proves nothing; the checks start over.
    if (!signal.aborted) deps.work.failed(error);
  }
  return now;
}

async function findAllLeaks(deps: ReclaimLeaksDeps, signal: AbortSignal): Promise<LeakCheck> {
  const { docker, mirror, local, node, writer } = deps;
  const deadline = withDeadline(signal, answerMs);
  const [{ id: engineId, swarm: role }, networks, containers] = await Promise.all([
    docker.engine(deadline),
    docker.networks(deadline),
    docker.containers(deadline),
  ]);
  const present = new Set(networks.map(({ Id }) => Id));
  // After a crash Docker lists the last endpoints of exited containers.
  const connected = new Set(
    containers
      .filter(({ State }) => State !== 'exited' && State !== 'dead')
      .flatMap(({ NetworkSettings }) =>
        Object.values(NetworkSettings?.Networks ?? {}).map(({ EndpointID }) => EndpointID ?? ''),
      ),
  );
  const endpoints = local.all().flatMap((id) => {
    const endpoint = mirror.get('WorkloadEndpoint', id)?.value.spec.endpoint;
    return endpoint === undefined || connected.has(endpoint) ? [] : [endpoint];
  });
  const gone = [...mirror.list('DockerNetwork').values()]
    .filter(({ value }) => value.node === node && !present.has(value.id))
    .map(({ value }) => value.id);
  const swarm: SwarmFacts = {
    isManager: role.isManager,
    // Docker lists the swarm's networks only while this manager reaches the others.
    ...(role.isInTouch ? { networks: present } : {}),
  };
  const { result } = await writer.write(
    (draft) => ({
      leaks: findLeaks(draft, node, swarm),
      profiles: leakedProfiles(draft),
    }),
    deadline,
  );
  const used = new Set(
    local.all().map((id) => mirror.get('WorkloadEndpoint', id)?.value.spec.interfaceName),
  );
  return {
    engineId,
    networks: new Set(gone),
    endpoints: new Set(endpoints),
    leaks: new Set(result.leaks.map(leakIdentity)),
    profiles: new Set(result.profiles),
    veths: new Set(deps.orphanedVeths().filter((name) => !used.has(name))),
    swarm,
  };
}

/** Returns the failures: those objects are still leaks, and are retried; the rest is not affected. */
async function reclaimBoth(
  deps: ReclaimLeaksDeps,
  { before, now }: { readonly before: LeakCheck; readonly now: LeakCheck },
  signal: AbortSignal,
): Promise<readonly unknown[]> {
  const { log, writer, node, mirror } = deps;
  const endpoints = now.endpoints.intersection(before.endpoints);
  const networks = now.networks.intersection(before.networks);
  const pools = new Set(
    [...networks].flatMap((id) =>
      (mirror.get('DockerNetwork', `${node}/${id}`)?.value.subnets ?? []).map(
        ({ poolId }) => poolId,
      ),
    ),
  );
  const failures: unknown[] = [];
  const attempt = async (what: () => Promise<void>): Promise<void> => {
    try {
      await what();
    } catch (error) {
      if (!signal.aborted) failures.push(error);
    }
  };
  for (const endpoint of endpoints) {
    await attempt(async () => {
      await deps.removeEndpoint(endpoint, signal);
      log.info('endpoint without container reclaimed', { endpoint });
    });
  }
  for (const network of networks) {
    await attempt(async () => {
      await deps.removeNetwork(network, signal);
      log.info('network unknown to Docker reclaimed', { network });
    });
  }
  // Objects of removed endpoints and networks are leaks too; they need no second check.
  const isTheirs = (find: Leak) => {
    if (find.kind === 'claim') return false;
    return find.kind === 'pool' ? pools.has(find.poolId) : endpoints.has(find.endpoint ?? '');
  };
  const repaired: IpAddress[] = [];
  const unrepaired = await writeInSteps(deps.local.all(), async (endpointIds) => {
    const plan = (draft: Draft) => allocateInUse(draft, { endpointIds, now: new Date() });
    repaired.push(...(await writer.write(plan, signal)).result);
  });
  failures.push(...unrepaired.map(({ error }) => error));
  if (repaired.length > 0) {
    log.warn('addresses in use were not allocated; allocated again', {
      addresses: repaired,
    });
  }
  const { result: finds } = await writer.write(
    (draft) =>
      findLeaks(draft, node, now.swarm).filter(
        (find) => before.leaks.has(leakIdentity(find)) || isTheirs(find),
      ),
    signal,
  );
  const failed = await writeInSteps(finds, (step) =>
    writeAll(writer, (draft) => reclaim(draft, node, step, now.swarm), signal),
  );
  reportReclaimed(log, finds.length - failed.length, finds);
  failures.push(...failed.map(({ error }) => error));
  const unused = [...now.profiles.intersection(before.profiles)];
  const unreclaimed = await writeInSteps(unused, async (step) => {
    const plan = (draft: Draft) => reclaimProfiles(draft, new Set(step));
    const { result } = await writer.write(plan, signal);
    if (result.length > 0) log.info('Profiles of removed networks reclaimed', { profiles: result });
  });
  failures.push(...unreclaimed.map(({ error }) => error));
  for (const veth of now.veths.intersection(before.veths)) {
    deps.removeVeth(veth);
    log.info('interface without endpoint reclaimed', { interface: veth });
  }
  return failures;
}

function reportReclaimed(log: Logger, count: number, finds: readonly Leak[]): void {
  if (count === 0) return;
  log.info('leaked addresses and pools reclaimed', {
    count,
    what: finds.slice(0, 10).map(leakKey),
  });
}
