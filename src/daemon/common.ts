import { randomUUID } from 'node:crypto';
import type { Supervisor, Work } from '../async/supervise.ts';
import type { Settings } from '../config/settings.ts';
import { openKernelSockets, type KernelSockets } from '../dataplane/kernel-sockets.ts';
import { ToolRunner } from '../dataplane/process.ts';
import { hasIpv6 } from '../host/networks.ts';
import { keepName } from '../host/node-name.ts';
import type { IpFamily } from '../ip/address.ts';
import { createStamp, type Stamp } from '../model/stamp.ts';
import { createLogger, type Logger } from '../telemetry/log.ts';
import { createMetrics, type Metrics } from '../telemetry/metrics.ts';
import { createSupervisor } from './supervision.ts';

/** Objects shared by all components of the daemon. */
export interface Common {
  readonly settings: Settings;
  /** Aborted when the daemon must stop. */
  readonly signal: AbortSignal;
  readonly node: string;
  /** Sentences on the choice of the name. */
  readonly nameWarnings: readonly string[];
  readonly families: readonly IpFamily[];
  readonly now: () => Date;
  readonly startedAt: Date;
  readonly stamp: Stamp;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly runner: ToolRunner;
  readonly sockets: KernelSockets;
  readonly supervisor: Supervisor;
  /** Runs a loop until the signal is aborted; restarts it if it fails. */
  readonly keep: (
    name: string,
    loop: (work: Work) => Promise<void>,
    options?: { readonly maxSilentMs: number },
  ) => Promise<void>;
}

/** `isDatastoreAway`: reports whether the datastore is unavailable, so its errors count as waiting. */
export function createCommon(options: {
  readonly settings: Settings;
  readonly signal: AbortSignal;
  readonly write: (line: string) => void;
  readonly isDatastoreAway: () => boolean;
}): Common {
  const { settings, signal, write, isDatastoreAway } = options;
  const now = () => new Date();
  const log = createLogger({ level: settings.logLevel, write, now });
  const metrics = createMetrics();
  const supervisor = createSupervisor({ log, metrics, isDatastoreAway });
  const { name: node, warnings: nameWarnings } = keepName(settings);
  for (const warning of nameWarnings) log.warn(warning);
  return {
    settings,
    signal,
    node,
    nameWarnings,
    families: settings.ipv6 === 'auto' && hasIpv6() ? [4, 6] : [4],
    now,
    startedAt: now(),
    stamp: createStamp({ now, uuid: randomUUID }),
    log,
    metrics,
    runner: new ToolRunner(),
    sockets: openKernelSockets(),
    supervisor,
    keep: (name, loop, limits) => supervisor.keep(supervisor.work(name, limits), loop, signal),
  };
}
