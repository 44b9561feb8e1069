import { pause } from '../async/deadline.ts';
import type { Work } from '../async/supervise.ts';
import { isMirrorLocked } from '../cache/lock.ts';
import type { LiveMirror } from '../cache/live-mirror.ts';
import type { Writer } from '../datastore/writer.ts';
import {
  detectAddresses,
  withDetectedAddresses,
  type HostInterface,
} from '../host/node-addresses.ts';
import type { Logger } from '../telemetry/log.ts';

/** Interval of reading the host's addresses; calico/node uses one minute. */
const intervalMs = 10_000;

export interface NodeAddressDeps {
  readonly node: string;
  readonly mirror: LiveMirror;
  readonly writer: Writer;
  readonly log: Logger;
  readonly interfaces: () => readonly HostInterface[];
}

/** Keeps the addresses in this host's Node resource up to date until the signal is aborted. */
export async function followNodeAddress(
  deps: NodeAddressDeps,
  work: Work,
  signal: AbortSignal,
): Promise<void> {
  const { node, mirror, writer, log } = deps;
  while (!signal.aborted) {
    try {
      const detected = detectAddresses(deps.interfaces());
      const stored = mirror.get('Node', node)?.value;
      const isCurrent = stored === undefined || withDetectedAddresses(stored, detected) === stored;
      if (!isCurrent && !isMirrorLocked(mirror)) {
        await writer.write((draft) => {
          const present = draft.get('Node', node);
          const changed = present && withDetectedAddresses(present, detected);
          if (changed !== present && changed !== undefined) draft.put('Node', node, changed);
        }, signal);
        log.info('host addresses written to Node', { ...detected });
      }
      work.succeeded();
    } catch (error) {
      if (!signal.aborted) work.failed(error);
    }
    await pause(intervalMs, signal);
  }
}
